"""
The only loop over steps and the only caller of drivers: every adapter runs this, here or behind a wire.

Steps run in worker threads; the thread that ends a step runs the next one. One more thread watches: deadlines,
cancellation, samples. The caller's thread only waits, so that no signal handler and no Ctrl-C lands in the middle of
it. A step that does not stop in time is fenced and left behind.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal

from osiris_core.attempt import AttemptResult, Place, Share, StepRunner
from osiris_core.cancellation import GRACE_S
from osiris_core.driver import DriverRegistry
from osiris_core.errors import ExecutionError, FailureClass
from osiris_core.handover import Handover
from osiris_core.interrupts import Sheltered
from osiris_core.plan import width
from osiris_core.resources import cpu_count, default_memory_budget_bytes
from osiris_core.retry import run_with_retry
from osiris_core.run_records import RunRecords
from osiris_core.running import RunningStep, Stop
from osiris_core.sampling import TreeSampler
from osiris_core.schedule import Schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

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


class Engine:
    """
    Runs every step of a prepared run once, and tells the journal what happened.

    Args:
        prepared: The run, with its secret values.
        place: Where it happens.
        origin: The engine's voice in the journal.
        redactor: Masks what the errors of steps say.
        limits: What it may use.
        resume: What is taken over from an earlier attempt.
        keys: The resume keys to write down; None writes none and keeps no checkpoints.
        find_driver: The driver class of a name.
        before_end: Called when every step is over, before the last event.
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
        find_driver: Callable[[str], type[Any]] = DriverRegistry.get,
        before_end: Callable[[], object] = lambda: None,
    ) -> None:
        self.summary: RunSummary | None = None
        self._steps = prepared.steps
        self._limits = limits
        self._before_end = before_end
        self._reused = resume.reused if resume is not None else {}
        budget_bytes = limits.memory_budget_bytes or default_memory_budget_bytes()
        cpus = cpu_count()
        self._max_parallel = limits.max_parallel_steps or cpus
        side_by_side = max(1, min(self._max_parallel, width(self._steps)))
        # Half for what lies between steps, half for what the steps that run side by side do with it.
        checkpoint = limits.checkpoint if keys is not None else "never"
        to_run = [step for step in self._steps if step.id not in self._reused]
        self._handover = Handover(to_run, place, budget_bytes // 2, checkpoint, keys, redactor)
        share = Share(budget_bytes // 2 // side_by_side, max(1, cpus // side_by_side))
        self._runner = StepRunner(
            place, share, self._handover.store, origin, prepared.secrets, prepared.connections, redactor, find_driver
        )
        self._records = RunRecords(self._steps, origin, redactor)
        self._schedule = Schedule(self._steps)
        self._sampler = TreeSampler()
        self._changed = threading.Condition(threading.Lock())
        self._running: dict[str, RunningStep] = {}
        self._unstarted: list[StepPlan] = []
        self._stop: Stop | None = None
        self._stopping = threading.Event()

    @property
    def outputs(self) -> Mapping[str, Mapping[str, Any]]:
        """What the journal says of the outputs of each step that completed or was taken over."""
        return self._records.outputs

    def cancel(self, reason: str = "", failure_class: FailureClass = FailureClass.CANCELLED) -> None:
        """Ask the run to stop; safe from a signal handler and from any thread, any number of times."""
        # Nothing but this: a handler may interrupt any line, also one of this method.
        if self._stop is None:
            self._stop = Stop(failure_class, reason)

    def run(self, meanwhile: Callable[[], object] = lambda: None) -> RunSummary:
        """
        Run to the end and return what happened; never raises for a step's failure.

        A KeyboardInterrupt in the calling thread stops the steps first and is raised again then; `summary` has
        what happened all the same. That thread calls `meanwhile` a few times a second.
        """
        return Sheltered(self._govern, lambda: self.cancel("interrupted"), meanwhile).run()

    def _govern(self) -> RunSummary:
        """The run from its first step to its summary."""
        started_s = monotonic()
        try:
            with self._changed:
                self._take_over_finished()
                self._staff()
            self._watch(started_s)
        finally:
            for running in list(self._running.values()):  # only after a mistake of our own
                running.ask_to_stop(FailureClass.CANCELLED)
                running.settled = True
                running.token.fence()
            self._runner.pool.close()
        wall_ms = round((monotonic() - started_s) * 1000, 3)
        with suppress(Exception):  # what it does is no part of the run
            self._before_end()
        self.summary = self._records.summarise(self._schedule, wall_ms, self._stop)
        return self.summary

    # What may start. Everything below runs with the lock held unless it says otherwise.

    def _take_over_finished(self) -> None:
        for step_id, finished in self._reused.items():
            self._handover.take_over(step_id, finished.outputs)
            self._records.take_over(step_id, finished)
        self._schedule.take_over(self._reused)

    def _next(self) -> RunningStep | None:
        """The next step that may start, which from now on counts as running."""
        failed = self._records.first_failure is not None and self._limits.on_failure == "stop"
        if failed or self._stop is not None or self._records.lost is not None:
            return None
        step = self._unstarted.pop() if self._unstarted else self._schedule.next()
        if step is None:
            return None
        now_s = monotonic()
        running = self._running[step.id] = RunningStep(step, now_s, now_s)
        return running

    def _staff(self) -> None:
        """Start worker threads for ready steps that nobody is there to run."""
        while len(self._running) < self._max_parallel and (running := self._next()) is not None:
            step = running.step
            try:
                threading.Thread(target=self._work, args=(running,), name=f"osiris-step-{step.id}", daemon=True).start()
            except RuntimeError as exc:  # the limit of threads is reached
                del self._running[step.id]
                if self._running:  # whoever ends a step runs this one
                    self._unstarted.append(step)
                    return
                message = f"no thread can be started for step '{step.id}': {exc}"
                error = ExecutionError(message, step_id=step.id, failure_class=FailureClass.RESOURCE_DENIED)
                running.settled = True
                self._fail(running, error)

    # A worker thread, without the lock.

    def _work(self, running: RunningStep | None) -> None:
        while running is not None:
            running = self._run_step(running)

    def _run_step(self, running: RunningStep) -> RunningStep | None:
        """Run one step to its end; return the next one for this thread."""
        step = running.step
        result: AttemptResult | None = None
        error: BaseException | None = None
        outputs: dict[str, Any] = {}
        resume: dict[str, Any] | None = None
        try:
            running.inputs = self._handover.inputs(step)
            result = run_with_retry(
                lambda number: self._attempt(running, number),
                step.retry,
                may_retry=lambda _: not running.settled and self._stop is None,
                on_retry=lambda exc, number, delay_s: self._will_retry(running, exc, number, delay_s),
                sleep=self._pause,
            )
            outputs = self._handover.hand_over(step.id, result)
            resume = self._handover.resume_parts(step.id)
        except BaseException as exc:  # noqa: BLE001 - a driver's SystemExit fails its step, not this thread
            result, error = None, exc
        running.inputs = {}
        try:
            with self._changed:
                if running.settled:  # it was left behind: its end interests nobody any more
                    self._handover.drop(step.id)
                    self._handover.read_by(step.id)
                    return None
                if result is not None:
                    self._records.complete(step.id, result, monotonic() - running.first_start_s, outputs, resume)
                    self._schedule.done(step.id)
                else:
                    self._handover.drop(step.id)
                    self._fail(running, error or AssertionError("a step ended without a result"))
                return self._end(running)
        except Exception as exc:  # noqa: BLE001 - a mistake of our own: the watcher must not wait for this step for ever
            with self._changed:
                self._records.lost = self._records.lost or exc
                self._running.pop(step.id, None)
                self._changed.notify_all()
            return None
        finally:
            error = None  # it refers to this frame, and so to the tables of the step

    def _pause(self, delay_s: float) -> None:
        self._stopping.wait(delay_s)

    def _will_retry(self, running: RunningStep, error: BaseException, number: int, delay_s: float) -> None:
        with self._changed:
            if not running.settled:
                self._records.retry(running.step.id, error, number, delay_s)

    def _attempt(self, running: RunningStep, number: int) -> AttemptResult:
        step = running.step
        with self._changed:
            if running.settled:
                raise running.stopped(self._stop)
            running.begin_try(number, monotonic())
            if number > 1 and self._stop is not None:  # it was waiting; what the last try left stays
                running.ask_to_stop(self._stop.failure_class)
                raise running.stopped(self._stop)
            self._records.start(step.id, number)
        try:
            if number > 1:
                self._handover.discard_artifacts(step.id, number - 1)
            result = self._runner.run(step, number, running.inputs, running.token)
        except BaseException as exc:
            if running.token.cancelled:
                raise running.stopped(self._stop) from exc
            raise
        finally:
            with self._changed:  # between two tries there is no limit to exceed
                running.end_try()
        if running.token.cancelled:
            self._handover.release(result)
            raise running.stopped(self._stop)
        return result

    # The end of a step.

    def _fail(self, running: RunningStep, error: BaseException, *, abandoned: bool = False) -> None:
        step_id = running.step.id
        left = [] if abandoned else self._runner.left_artifacts(step_id)
        took_s = monotonic() - running.first_start_s
        self._records.fail(step_id, error, running.token.reason, took_s, left, abandoned=abandoned)
        if self._limits.on_failure == "continue":  # what will never run reads nothing any more
            self._handover.never_after(step_id)

    def _end(self, running: RunningStep) -> RunningStep | None:
        """A step is over, one way or the other; the next one for this thread."""
        running.settled = True
        del self._running[running.step.id]
        self._handover.read_by(running.step.id)
        following = self._next()
        self._staff()
        if not self._running:
            self._changed.notify_all()
        return following

    # The watcher.

    def _watch(self, started_s: float) -> None:
        limit_s = self._limits.timeout_s
        heartbeat_at_s = monotonic() + HEARTBEAT_INTERVAL_S
        with self._changed:
            while self._running:
                self._changed.wait(WATCH_INTERVAL_S)
                now_s = monotonic()
                if limit_s is not None and now_s >= started_s + limit_s:
                    self.cancel(f"the run took longer than {limit_s:g} s", FailureClass.TIMEOUT)
                if self._records.lost is not None:
                    self.cancel("it cannot be written down any more")
                if self._stop is not None:
                    self._stopping.set()
                self._enforce(now_s)
                self._sample(now_s)
                if now_s >= heartbeat_at_s:
                    heartbeat_at_s = now_s + HEARTBEAT_INTERVAL_S
                    self._records.heartbeat(sorted(self._running))

    def _sample(self, now_s: float) -> None:
        oldest_s = min((running.started_s for running in self._running.values()), default=now_s)
        if self._sampler.due(oldest_s, now_s):
            self._records.sample(list(self._running), self._sampler.sample(now_s))

    def _enforce(self, now_s: float) -> None:
        """Stop what ran out of time or is no longer wanted, and give up on what does not stop."""
        for running in list(self._running.values()):
            if running.fence_at_s is None:
                if self._stop is not None:
                    running.ask_to_stop(self._stop.failure_class)
                elif running.deadline_s is not None and now_s >= running.deadline_s:
                    running.ask_to_stop(FailureClass.TIMEOUT)
                else:
                    continue
                running.fence_at_s = now_s + GRACE_S
            elif now_s >= running.fence_at_s:
                self._abandon(running)

    def _abandon(self, running: RunningStep) -> None:
        """Leave a thread behind that does not stop: nothing it still does is published."""
        running.token.fence()
        running.settled = True
        del self._running[running.step.id]
        with suppress(OSError):  # what cannot be moved away is no artifact all the same: no record names it
            self._handover.discard_artifacts(running.step.id, running.number)
        self._fail(running, running.stopped(self._stop), abandoned=True)
        self._staff()
