"""Every check of the kit, in the order of a report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from osiris_core.testing.checks_faults import FAULT_CHECKS
from osiris_core.testing.checks_orphans import ORPHAN_CHECKS
from osiris_core.testing.checks_phases import PHASE_CHECKS
from osiris_core.testing.checks_prepare import PREPARE_CHECKS
from osiris_core.testing.checks_results import RESULT_CHECKS
from osiris_core.testing.checks_settings import SETTINGS_CHECKS
from osiris_core.testing.checks_stops import STOP_CHECKS
from osiris_core.testing.checks_whole import WHOLE_CHECKS
from osiris_core.testing.parity import parity_check
from osiris_core.testing.parity_scenarios import SCENARIOS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from osiris_core.testing.check import Check

CHECKS: tuple[Check, ...] = (
    *PREPARE_CHECKS,
    *WHOLE_CHECKS,
    *PHASE_CHECKS,
    *STOP_CHECKS,
    *ORPHAN_CHECKS,
    *FAULT_CHECKS,
    *RESULT_CHECKS,
    *SETTINGS_CHECKS,
    *map(parity_check, SCENARIOS),
)


def unknown_gaps(known_gaps: Mapping[str, str], checks: Iterable[Check]) -> list[str]:
    """The names of gaps that are neither the name nor a tag of a check."""
    known = {name for check in (*CHECKS, *checks) for name in (check.name, *check.tags)}
    return sorted(set(known_gaps) - known)
