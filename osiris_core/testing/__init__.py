"""What authors of drivers and adapters test with."""

from osiris_core.testing.driver_harness import DriverRun, run_driver

__all__ = ["DriverRun", "run_driver"]
