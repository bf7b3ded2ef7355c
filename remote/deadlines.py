"""When an engine has had its time: the backstop for one that cannot keep its own limits. Pure code, no clock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

MARGIN_S = 3.0
"""How much later than the engine itself the supervisor acts: the engine's own way of stopping is the better one."""


class Deadlines:
    """
    Knows from the journal which steps run, and until when they and the run may.

    Args:
        grace_s: What the engine itself gives a step between asking it to stop and giving it up.
        step_timeouts_s: The limit of each step that has one.
    """

    def __init__(self, grace_s: float, step_timeouts_s: Mapping[str, float]) -> None:
        self._grace_s = grace_s + MARGIN_S
        self._limits_s = step_timeouts_s
        self._steps: dict[str, float] = {}
        self._run: tuple[float, str, str] | None = None

    def begin(self, now_s: float, timeout_s: float | None) -> None:
        """The run starts."""
        if timeout_s is not None:
            self._run = (now_s + timeout_s + self._grace_s, "timeout", f"the run took longer than {timeout_s:g} s")

    def stop(self, now_s: float, reason: str) -> None:
        """The run was asked to stop."""
        at_s = now_s + self._grace_s
        if self._run is None or at_s < self._run[0]:
            self._run = (at_s, "cancelled", reason)

    def note(self, event: Mapping[str, Any], now_s: float) -> None:
        """An event about steps was written."""
        step_id, name = event.get("step_id"), event["event"]
        if step_id is None:
            return
        if name == "step.start" and step_id in self._limits_s:
            self._steps[step_id] = now_s + self._limits_s[step_id] + self._grace_s
        elif name in ("step.complete", "step.error", "step.retry"):
            self._steps.pop(step_id, None)

    def overdue(self, now_s: float) -> tuple[str, str] | None:
        """The failure class and the reason why the engine is to be killed now; None while it is not."""
        for step_id, at_s in self._steps.items():
            if now_s >= at_s:
                return "timeout", f"step '{step_id}' took longer than its {self._limits_s[step_id]:g} s"
        if self._run is not None and now_s >= self._run[0]:
            return self._run[1], self._run[2]
        return None
