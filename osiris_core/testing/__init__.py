"""What authors of drivers and adapters test with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from osiris_core.testing.driver_harness import DriverRun, run_driver

if TYPE_CHECKING:
    from osiris_core.testing.parity import AdapterParity

__all__ = ["AdapterParity", "DriverRun", "run_driver"]

if not TYPE_CHECKING:

    def __getattr__(name):
        if name != "AdapterParity":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from osiris_core.testing.parity import AdapterParity  # it needs pytest, `run_driver` does not

        return AdapterParity
