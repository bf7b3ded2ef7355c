"""
The only loop over steps and the only caller of drivers: every adapter runs this, here or behind a wire.

Steps run in worker threads; the thread that ends a step runs the next one. The caller's thread only watches:
deadlines, cancellation, samples. A step that does not stop in time is fenced and left behind.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal

from osiris_core.attempt import AttemptResult, Place, Share, StepRunner
from osiris_core.cancellation import GRACE_S, CancelToken
from osiris_core.errors import ExecutionError, FailureClass, RunCancelled, RunTimeout, classify
from osiris_core.handover import Handover
from osiris_core.plan import width
from osiris_core.resources import cpu_count, default_memory_budget_bytes
from osiris_core.retry import run_with_retry
from osiris_core.run_records import RunRecords
from osiris_core.sampling import TreeSampler
from osiris_core.schedule import Schedule

if TYPE_CHECKING:
    from osiris_core.checkpoint import ResumeKeys, ResumePlan
    from osiris_core.journal import Origin
    from osiris_core.plan import StepPlan
    from osiris_core.prepared import PreparedRun
    from osiris_core.records import RunSummary
    from osiris_core.redaction import Redactor

WATCH_INTERVAL_S = 0.1
HEARTBEAT_INTERVAL_S = 10.0


@dataclass(frozen=True)
class Limits:
    """What a run may use, and how it goes on after a failure. None: decided from what the process may use."""

    timeout_s: float | None = None
    max_parallel_steps: int | None = None
    memory_budget_bytes: int | None = None
    on_failure: Literal["stop", "continue"] = "stop"
    checkpoint: Literal["auto", "always", "never"] = "auto"


@dataclass
class _Running:
    step: StepPlan
    inputs: dict[str, Any] = field(default_factory=dict)
    token: CancelToken = field(default_factory=CancelToken)
    number: int = 1
    first_start_s: float = 0.0
    started_s: float = 0.0
    deadline_s: float | None = None
    fence_at_s: float | None = None
    settled: bool = False


class Engine:
    """
    Runs every step of a prepared run once, and tells the journal what happened.

    Args:
        prepared: The run, with its secret values.
        place: Where it happens.
        origin: The engine's voice in the journal.
        limits: What it may use.
        resume: What is taken over from an earlier attempt.
        keys: The resume keys to write down; None writes none and keeps no checkpoints.
    """

    def __init__(
        self,
        prepared: PreparedRun,
        place: Place,
        origin: Origin,
        redactor: Redactor,
        limits: Limits = Limits(),
        resume: ResumePlan | None = None,
        keys: ResumeKeys | None = None,
    ) -> None:
        self._steps = prepared.steps
        self._origin = origin
        self._limits = limits
        self._resume = resume
        budget_bytes = limits.memory_budget_bytes or default_memory_budget_bytes()
        cpus = cpu_count()
        self._max_parallel = limits.max_parallel_steps or cpus
        side_by_side = max(1, min(self._max_parallel, width(self._steps)))
        # Half for what lies between steps, half for what the steps that run side by side do with it.
        self._handover = Handover(
            self._steps, place, budget_bytes // 2, limits.checkpoint if keys is not None else "never", keys
        )
        share = Share(budget_bytes // 2 // side_by_side, max(1, cpus // side_by_side))
        self._runner = StepRunner(
            place, share, self._handover.store, origin, prepared.secrets, prepared.connections, redactor
        )
        self._records = RunRecords(self._steps, origin, redactor)
        self._changed = threading.Condition(threading.Lock())
        self._stop_requested = threading.Event()
        self._stop_class: FailureClass | None = None
        self._stop_reason = ""
        self._running: dict[str, _Running] = {}
        self._workers = 0
        self._broken: Exception | None = None
        self._schedule = Schedule(self._steps)
        self._sampler = TreeSampler()

    def cancel(self, reason: str = "", failure_class: FailureClass = FailureClass.CANCELLED) -> None:
        """Ask the run to stop; safe from a signal handler and from any thread, any number of times."""
        if self._stop_class is None:
            self._stop_class, self._stop_reason = failure_class, reason
        self._stop_requested.set()

    def run(self) -> RunSummary:
        """
        Run to the end and return what happened; never raises for a step's failure.

        A KeyboardInterrupt in the calling thread stops the steps first and is raised again then.
        """
        started_s = monotonic()
        deadline_s = None if self._limits.timeout_s is None else started_s + self._limits.timeout_s
        interrupt: KeyboardInterrupt | None = None
        with self._changed:
            self._take_over_finished()
            self._staff()
        while True:
            try:
                self._watch(deadline_s)
                break
            except KeyboardInterrupt as exc:
                interrupt = exc
                self.cancel("interrupted")
            except BaseException:
                self.cancel("the run cannot be watched any more")
                for running in list(self._running.values()):
                    running.token.cancel(FailureClass.CANCELLED)
                raise
        wall_ms = round((monotonic() - started_s) * 1000, 3)
        summary = self._records.summarise(self._schedule, wall_ms, self._stop_class, self._stop_reason)
        if interrupt is not None:
            raise interrupt
        return summary

    # What may start. Everything below runs with the lock held unless it says otherwise.

    def _take_over_finished(self) -> None:
        reused = self._resume.reused if self._resume is not None else {}
        for step_id, finished in reused.items():
            self._handover.take_over(step_id, finished.outputs)
            self._records.take_over(step_id, finished)
        self._schedule.take_over(reused)

    def _next(self) -> StepPlan | None:
        failed = self._records.first_failure is not None and self._limits.on_failure == "stop"
        return None if failed or self._stop_requested.is_set() else self._schedule.next()

    def _staff(self) -> None:
        """Start worker threads for ready steps that nobody is there to run."""
        while self._workers < self._max_parallel and (step := self._next()) is not None:
            self._workers += 1
            threading.Thread(target=self._work, args=(step,), name=f"osiris-step-{step.id}", daemon=True).start()

    # A worker thread, without the lock.

    def _work(self, step: StepPlan | None) -> None:
        while step is not None:
            step = self._run_step(step)

    def _run_step(self, step: StepPlan) -> StepPlan | None:
        """Run one step to its end; return the next one for this thread."""
        running = _Running(step, first_start_s=monotonic())
        self._running[step.id] = running
        result: AttemptResult | None = None
        error: BaseException | None = None
        outputs: dict[str, Any] = {}
        resume: dict[str, Any] | None = None
        try:
            running.inputs = self._handover.inputs(step)
            result = run_with_retry(
                lambda number: self._attempt(running, number),
                step.retry,
                may_retry=lambda _: not (running.settled or self._stop_requested.is_set()),
                on_retry=lambda exc, number, delay_s: self._records.retry(step.id, exc, number, delay_s),
                sleep=self._pause,
            )
            outputs = self._handover.hand_over(step.id, result)
            resume = self._handover.resume_parts(step.id)
        except BaseException as exc:  # noqa: BLE001 - a driver's SystemExit fails its step, not this thread
            result, error = None, exc
        with self._changed:
            if running.settled:  # it was left behind: its end interests nobody any more
                self._handover.drop(step.id)
                return None
            try:
                if result is not None:
                    self._records.complete(step.id, result, monotonic() - running.first_start_s, outputs, resume)
                    self._schedule.done(step.id)
                else:
                    self._fail(running, error or AssertionError("a step ended without a result"))
                return self._end(running)
            except Exception as exc:  # noqa: BLE001 - the journal cannot be written: the run is lost, its watcher must know
                self._broken = exc
                self._workers = 0
                self._changed.notify_all()
                return None

    def _pause(self, delay_s: float) -> None:
        self._stop_requested.wait(delay_s)

    def _attempt(self, running: _Running, number: int) -> AttemptResult:
        step = running.step
        self._handover.discard_artifacts(step.id, number - 1)
        with self._changed:
            running.token, running.number = CancelToken(), number
            running.started_s = monotonic()
            running.deadline_s = None if step.timeout_s is None else running.started_s + step.timeout_s
            running.fence_at_s = None
            if number > 1 and self._stop_class is not None:  # it was waiting for its next try
                running.token.cancel(self._stop_class)
                raise self._stopped(running)
            self._records.start(step.id, number)
        try:
            result = self._runner.run(step, number, running.inputs, running.token)
        except BaseException as exc:
            if running.token.cancelled:
                raise self._stopped(running) from exc
            raise
        if running.token.cancelled:
            raise self._stopped(running)
        return result

    def _stopped(self, running: _Running) -> ExecutionError:
        """A step that was asked to stop did not complete, whatever it returned or raised."""
        step = running.step
        if running.token.reason is not FailureClass.TIMEOUT:
            return RunCancelled(f"step '{step.id}' was cancelled", step_id=step.id)
        if self._stop_class is FailureClass.TIMEOUT:
            return RunTimeout(f"step '{step.id}' was stopped: {self._stop_reason}", step_id=step.id)
        return RunTimeout(f"step '{step.id}' took longer than its {step.timeout_s:g} s", step_id=step.id)

    # The end of a step.

    def _fail(self, running: _Running, error: BaseException, *, abandoned: bool = False) -> None:
        step_id = running.step.id
        left = [] if abandoned else self._runner.left_artifacts(step_id)
        took_s = monotonic() - running.first_start_s
        self._records.fail(step_id, error, running.token.reason, took_s, left, abandoned=abandoned)

    def _end(self, running: _Running) -> StepPlan | None:
        """A step is over, one way or the other; the next one for this thread."""
        running.settled = True
        del self._running[running.step.id]
        self._handover.read_by(running.step.id)
        following = self._next()
        self._staff()
        if following is None:
            self._workers -= 1
            if not self._workers:
                self._changed.notify_all()
        return following

    # The watcher: the caller's thread.

    def _watch(self, deadline_s: float | None) -> None:
        heartbeat_at_s = monotonic() + HEARTBEAT_INTERVAL_S
        while True:
            with self._changed:
                if self._workers:
                    self._changed.wait(WATCH_INTERVAL_S)
                if self._broken is not None:
                    raise ExecutionError(
                        f"the run cannot be written down any more: {self._broken}", failure_class=classify(self._broken)
                    ) from self._broken
                if not self._workers:
                    return
                now_s = monotonic()
                if deadline_s is not None and now_s >= deadline_s:
                    self.cancel(f"the run took longer than {self._limits.timeout_s:g} s", FailureClass.TIMEOUT)
                self._enforce(now_s)
                self._sample(now_s)
                if now_s >= heartbeat_at_s:
                    heartbeat_at_s = now_s + HEARTBEAT_INTERVAL_S
                    self._origin.emit("heartbeat", running=sorted(self._running))

    def _sample(self, now_s: float) -> None:
        oldest_s = min((running.started_s for running in self._running.values()), default=now_s)
        if self._sampler.due(oldest_s, now_s):
            found = self._sampler.sample(now_s)
            for running in self._running.values():
                for name, value in found.items():
                    self._origin.emit("metric", running.step.id, name=name, value=value, tags={"sample": True})

    def _enforce(self, now_s: float) -> None:
        """Stop what ran out of time or is no longer wanted, and give up on what does not stop."""
        for running in list(self._running.values()):
            if running.fence_at_s is None:
                if self._stop_class is not None:
                    running.token.cancel(self._stop_class)
                elif running.deadline_s is not None and now_s >= running.deadline_s:
                    running.token.cancel(FailureClass.TIMEOUT)
                else:
                    continue
                running.fence_at_s = now_s + GRACE_S
            elif now_s >= running.fence_at_s:
                self._abandon(running)

    def _abandon(self, running: _Running) -> None:
        """Leave a thread behind that does not stop: nothing it still does is published."""
        running.token.fence()
        running.settled = True
        del self._running[running.step.id]
        self._handover.discard_artifacts(running.step.id, running.number)
        self._fail(running, self._stopped(running), abandoned=True)
        self._workers -= 1
        self._staff()
