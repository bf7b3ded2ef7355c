"""All parity scenarios that need nothing but this package."""

from __future__ import annotations

from osiris_core.testing.parity_crashes import CRASH_SCENARIOS
from osiris_core.testing.parity_data import DATA_SCENARIOS, compiled_by_osiris
from osiris_core.testing.parity_failures import FAILURE_SCENARIOS
from osiris_core.testing.parity_scenario import Scenario
from osiris_core.testing.parity_surroundings import SURROUNDINGS_SCENARIOS

SCENARIOS = (*DATA_SCENARIOS, *FAILURE_SCENARIOS, *SURROUNDINGS_SCENARIOS, *CRASH_SCENARIOS)

__all__ = ["SCENARIOS", "Scenario", "compiled_by_osiris"]
