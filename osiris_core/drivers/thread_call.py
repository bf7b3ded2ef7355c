"""Calls a Python callable in the thread of its step: for what only looks, and is not worth a child."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from osiris_core.drivers.forked_call import Call, Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping

    from osiris_core.step_context import StepContext


class ThreadCallDriver:
    """As `ForkedCallDriver`, in this process: a limit leaves its thread behind. Use `driver_of`."""

    call: ClassVar[Call]

    def run(self, step_id: str, config: Mapping[str, Any], inputs: Mapping[str, Any], ctx: StepContext) -> None:  # noqa: ARG002 - the contract's
        outcome = self.call.outcome = Outcome()
        try:
            outcome.value = self.call.function()
        except Exception as exc:
            outcome.raised = (type(exc).__name__, str(exc))
            raise
        outcome.returned = True


def driver_of(call: Call) -> type[ThreadCallDriver]:
    """A driver that does nothing but this call."""
    return type("ThreadCallDriver", (ThreadCallDriver,), {"call": call, "__module__": __name__})
