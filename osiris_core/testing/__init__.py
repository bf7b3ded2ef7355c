"""What authors of drivers and adapters test with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from osiris_core.testing.driver_harness import DriverRun, run_driver

if TYPE_CHECKING:
    from osiris_core.testing.bench import Arrival, Bench
    from osiris_core.testing.check import Check
    from osiris_core.testing.conformance import AdapterConformance
    from osiris_core.testing.evidence import Evidence

__all__ = ["AdapterConformance", "Arrival", "Bench", "Check", "DriverRun", "Evidence", "run_driver"]

if not TYPE_CHECKING:
    _PLACES = {
        "AdapterConformance": "conformance",  # it needs pytest, the others do not
        "Arrival": "bench",
        "Bench": "bench",
        "Check": "check",
        "Evidence": "evidence",
    }

    def __getattr__(name):
        if name not in _PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        try:
            return getattr(import_module(f"osiris_core.testing.{_PLACES[name]}"), name)
        except ModuleNotFoundError as exc:
            if (exc.name or "").partition(".")[0] in ("osiris_core", "adapters", "remote"):
                raise
            raise ImportError(f"{name} needs {exc.name}: pip install 'osiris-core[testing]'") from exc
