"""Stops in a debugger at the first line of one step's driver: for a person at a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from osiris_core.driver import DriverRegistry

if TYPE_CHECKING:
    from collections.abc import Callable


def debugged_drivers(step_id: str) -> Callable[[str], type[Any]]:
    """
    Finds drivers as the registry does; `run` of step `step_id` is then called in pdb, on this process's terminal.

    Leaving the debugger (`q`) fails the step.
    """

    def find(name: str) -> type[Any]:
        driver = DriverRegistry.get(name)

        def run(self: Any, **given: Any) -> Any:
            plain = super(debugged, self).run
            if given["step_id"] != step_id:
                return plain(**given)
            import pdb

            # Ctrl-C stays what it is: it cancels the run.
            return pdb.Pdb(nosigint=True).runcall(plain, **given)

        debugged: type[Any] = type(driver.__name__, (driver,), {"run": run, "__module__": driver.__module__})
        return debugged

    return find
