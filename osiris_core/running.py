"""One step that runs now, and why a whole run is to stop: what the engine's threads share, under its lock."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from osiris_core.cancellation import CancelToken
from osiris_core.errors import ExecutionError, FailureClass, RunCancelled, RunTimeout

if TYPE_CHECKING:
    from osiris_core.plan import StepPlan


@dataclass(frozen=True)
class Stop:
    """Why the whole run is to stop."""

    failure_class: FailureClass
    reason: str


@dataclass
class RunningStep:
    """
    A step from when a thread takes it until it is settled: over, or left behind. Times are monotonic seconds.

    `deadline_s` and `fence_at_s` are those of the try under way; between two tries there are none.
    """

    step: StepPlan
    first_start_s: float
    started_s: float
    inputs: dict[str, Any] = field(default_factory=dict)
    token: CancelToken = field(default_factory=CancelToken)
    number: int = 1
    deadline_s: float | None = None
    fence_at_s: float | None = None
    settled: bool = False

    def begin_try(self, number: int, now_s: float) -> None:
        """Try `number` starts, with a token and a time limit of its own."""
        self.token, self.number, self.started_s = CancelToken(), number, now_s
        self.deadline_s = None if self.step.timeout_s is None else now_s + self.step.timeout_s
        self.fence_at_s = None

    def end_try(self) -> None:
        """The try under way is over: until the next one there is nothing that could take too long."""
        self.deadline_s = self.fence_at_s = None

    def ask_to_stop(self, reason: FailureClass) -> None:
        """Cancel the try under way; returns without waiting for it."""
        self.token.cancel(reason)

    def stopped(self, stop: Stop | None) -> ExecutionError:
        """A step that was asked to stop did not complete, whatever it returned or raised."""
        step = self.step
        if self.token.reason is not FailureClass.TIMEOUT:
            return RunCancelled(f"step '{step.id}' was cancelled", step_id=step.id)
        if stop is not None and stop.failure_class is FailureClass.TIMEOUT:
            return RunTimeout(f"step '{step.id}' was stopped: {stop.reason}", step_id=step.id)
        return RunTimeout(f"step '{step.id}' took longer than its {step.timeout_s or 0:g} s", step_id=step.id)
