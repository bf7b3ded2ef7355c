"""What happened in a run so far: the record of every step, told to the journal as it changes. Knows no threads."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from osiris_core.errors import ExecutionError, FailureClass, RunCancelled, RunTimeout, classify
from osiris_core.failure import describe_failure
from osiris_core.records import RunStatus, RunSummary, StepRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from osiris_core.attempt import AttemptResult
    from osiris_core.checkpoint import Finished
    from osiris_core.journal import Origin
    from osiris_core.plan import StepPlan
    from osiris_core.records import ArtifactRecord
    from osiris_core.redaction import Redactor
    from osiris_core.running import Stop
    from osiris_core.schedule import Schedule

UNCHANGED = "unchanged since it completed"
"""Why a step was taken over."""
_ENDED_BADLY = ("failed", "timeout", "cancelled")


class RunRecords:
    """
    One for a run; the engine calls it with its lock held. Never raises.

    Args:
        origin: The voice in the journal; None to keep records only.

    Attributes:
        outputs: What is told of the outputs of each step that completed or was taken over.
        first_failure: The record of the step that failed first.
        lost: Why the journal cannot be written any more; from then on nothing is written, and the run is lost.
        broken: Why the run ended although no step failed: its engine is gone.
    """

    def __init__(self, steps: list[StepPlan], origin: Origin | None, redactor: Redactor) -> None:
        self._steps = steps
        self._origin = origin
        self._redactor = redactor
        self._records = {step.id: StepRecord(step.id, step.driver) for step in steps}
        self._artifacts: dict[str, list[ArtifactRecord]] = {}
        self.outputs: dict[str, Mapping[str, Any]] = {}
        self.first_failure: StepRecord | None = None
        self.lost: Exception | None = None
        self.broken: ExecutionError | None = None

    def _tell(self, event: str, step_id: str | None = None, /, **fields: Any) -> None:
        if self.lost is None and self._origin is not None:
            try:
                self._origin.emit(event, step_id, **fields)
            except Exception as exc:  # noqa: BLE001 - whatever it is, the engine must go on to stop its steps
                self.lost = exc

    def restore(
        self,
        records: Mapping[str, StepRecord],
        artifacts: Mapping[str, list[ArtifactRecord]],
        first_failed: str | None,
    ) -> None:
        """Go on from what was written down by an engine that is no more; tells nobody."""
        self._records.update(records)
        self._artifacts.update(artifacts)
        self.first_failure = self._records[first_failed] if first_failed is not None else None

    def take_over(self, step_id: str, finished: Finished) -> None:
        """A step need not run: an earlier attempt completed it."""
        record = self._records[step_id]
        record.status, record.reason = "reused", UNCHANGED
        record.rows_read = finished.record.get("rows_read", 0)
        record.rows_written = finished.record.get("rows_written", 0)
        self._artifacts[step_id] = finished.artifacts
        self.outputs[step_id] = finished.outputs
        self._tell("step.skipped", step_id, driver=record.driver, reason="reused")

    def start(self, step_id: str, number: int) -> None:
        """A try of a step begins."""
        record = self._records[step_id]
        if number == 1:
            record.status = "running"
            record.started_at = datetime.now(UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
        record.attempts = number
        self._tell("step.start", step_id, driver=record.driver, step_attempt=number)

    def retry(self, step_id: str, error: BaseException, number: int, delay_s: float) -> None:
        """A try failed, and there will be another."""
        described = describe_failure(error, self._redactor)
        self._tell("step.retry", step_id, step_attempt=number, delay_s=round(delay_s, 3), error=described)

    def heartbeat(self, running: list[str]) -> None:
        """The run goes on."""
        self._tell("heartbeat", running=running)

    def sample(self, running: Iterable[str], found: Mapping[str, float]) -> None:
        """What a sample of the whole process tree said, for each running step."""
        for step_id in running:
            for name, value in found.items():
                self._tell("metric", step_id, name=name, value=value, tags={"sample": True})

    def complete(
        self,
        step_id: str,
        result: AttemptResult,
        took_s: float,
        outputs: dict[str, Any],
        resume: dict[str, Any] | None,
    ) -> None:
        record = self._records[step_id]
        record.status = "completed"
        record.execution_time_ms = round(took_s * 1000, 3)
        record.rows_read, record.rows_written = result.rows_read, result.rows_written
        record.memory_usage_mb = result.memory_usage_mb
        self._artifacts[step_id] = result.artifacts
        self.outputs[step_id] = outputs
        fields: dict[str, Any] = {
            "driver": record.driver,
            "step_attempt": record.attempts,
            "rows_read": record.rows_read,
            "rows_written": record.rows_written,
            "execution_time_ms": record.execution_time_ms,
            "memory_usage_mb": record.memory_usage_mb,
        }
        if outputs:
            fields["outputs"] = outputs
        if resume is not None:
            fields["resume"] = resume
        self._tell("step.complete", step_id, **fields)

    def fail(
        self,
        step_id: str,
        error: BaseException,
        reason: FailureClass | None,
        took_s: float,
        artifacts: list[ArtifactRecord],
        *,
        abandoned: bool,
    ) -> None:
        """A step is over without success. `reason` is why it was asked to stop, if it was."""
        record = self._records[step_id]
        record.execution_time_ms = round(took_s * 1000, 3)
        record.error = describe_failure(error, self._redactor, reason)
        record.status = "failed" if reason is None else "timeout" if reason is FailureClass.TIMEOUT else "cancelled"
        record.abandoned = abandoned
        self._artifacts[step_id] = artifacts
        self.first_failure = self.first_failure or record
        self._tell(
            "step.error",
            step_id,
            driver=record.driver,
            step_attempt=record.attempts,
            execution_time_ms=record.execution_time_ms,
            abandoned=abandoned,
            error=record.error,
        )

    def summarise(self, schedule: Schedule, wall_ms: float, stop: Stop | None) -> RunSummary:
        """The end: what never ran is skipped, with the reason. `stop` is why the run was stopped, if it was."""
        for record in self._records.values():
            if record.status == "pending":
                record.status, record.reason = "skipped", self._why_skipped(schedule, record.step_id)
                self._tell("step.skipped", record.step_id, driver=record.driver, reason=record.reason)
        status, error = self._outcome(stop)
        records = list(self._records.values())
        summary = RunSummary(
            status=status,
            steps=records,
            artifacts=[item for step in self._steps for item in self._artifacts.get(step.id, [])],
            wall_ms=wall_ms,
            failed_step_id=self.first_failure.step_id if self.first_failure else None,
            error=error,
            rows_read=sum(self._records[step.id].rows_read for step in self._steps if schedule.is_source(step)),
            rows_written=sum(self._records[step.id].rows_written for step in self._steps if schedule.is_sink(step)),
        )
        counts = {"steps": len(records), "completed": sum(record.status == "completed" for record in records)}
        if status == "completed":
            self._tell("steps.complete", wall_ms=wall_ms, **counts)
        else:
            self._tell("steps.error", status=status, wall_ms=wall_ms, error=error, **counts)
        return summary

    def _why_skipped(self, schedule: Schedule, step_id: str) -> str:
        waits_for = [self._records[upstream] for upstream in schedule.waits_for(step_id)]
        if any(record.status in _ENDED_BADLY or record.reason == "upstream_failed" for record in waits_for):
            return "upstream_failed"
        return "run_stopped"

    def _outcome(self, stop: Stop | None) -> tuple[RunStatus, dict[str, Any] | None]:
        if self.lost is not None:
            message = f"the run cannot be written down any more: {self.lost}"
            return "failed", describe_failure(
                ExecutionError(message, failure_class=_class_of(self.lost)), self._redactor
            )
        if all(record.status in ("completed", "reused") for record in self._records.values()):
            return "completed", None
        if self.broken is not None and (stop is None or stop.failure_class is not FailureClass.TIMEOUT):
            cancelled = self.broken.failure_class is FailureClass.CANCELLED
            return "cancelled" if cancelled else "failed", describe_failure(self.broken, self._redactor)
        failed = self.first_failure
        if stop is not None and (failed is None or failed.status in ("cancelled", "timeout")):
            if stop.failure_class is FailureClass.TIMEOUT:
                return "timeout", describe_failure(RunTimeout(stop.reason), self._redactor)
            message = f"the run was cancelled: {stop.reason}" if stop.reason else "the run was cancelled"
            return "cancelled", describe_failure(RunCancelled(message), self._redactor)
        assert failed is not None
        assert failed.error is not None
        return ("timeout" if failed.status == "timeout" else "failed"), failed.error


def _class_of(error: Exception) -> FailureClass:
    """A full disk is nobody's mistake; what else keeps a line from being written is ours."""
    return classify(error) if isinstance(error, OSError) else FailureClass.ADAPTER_BUG
