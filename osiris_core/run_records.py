"""What happened in a run so far: the record of every step, told to the journal as it changes. Knows no threads."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from osiris_core.errors import FailureClass, RunCancelled, RunTimeout
from osiris_core.failure import describe_failure
from osiris_core.records import RunStatus, RunSummary, StepRecord

if TYPE_CHECKING:
    from osiris_core.attempt import AttemptResult
    from osiris_core.checkpoint import Finished
    from osiris_core.journal import Origin
    from osiris_core.plan import StepPlan
    from osiris_core.records import ArtifactRecord
    from osiris_core.redaction import Redactor
    from osiris_core.schedule import Schedule

_ENDED_BADLY = ("failed", "timeout", "cancelled")


class RunRecords:
    """One for a run; the engine calls it with its lock held."""

    def __init__(self, steps: list[StepPlan], origin: Origin, redactor: Redactor) -> None:
        self._steps = steps
        self._origin = origin
        self._redactor = redactor
        self._records = {step.id: StepRecord(step.id, step.driver) for step in steps}
        self._artifacts: dict[str, list[ArtifactRecord]] = {}
        self.first_failure: StepRecord | None = None

    def take_over(self, step_id: str, finished: Finished) -> None:
        """A step need not run: an earlier attempt completed it."""
        record = self._records[step_id]
        record.status, record.reason = "reused", "unchanged since it completed"
        record.rows_read = finished.record.get("rows_read", 0)
        record.rows_written = finished.record.get("rows_written", 0)
        self._artifacts[step_id] = finished.artifacts
        self._origin.emit("step.skipped", step_id, driver=record.driver, reason="reused")

    def start(self, step_id: str, number: int) -> None:
        """A try of a step begins."""
        record = self._records[step_id]
        if number == 1:
            record.status = "running"
            record.started_at = datetime.now(UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
        record.attempts = number
        self._origin.emit("step.start", step_id, driver=record.driver, step_attempt=number)

    def retry(self, step_id: str, error: BaseException, number: int, delay_s: float) -> None:
        """A try failed, and there will be another."""
        described = describe_failure(error, self._redactor)
        self._origin.emit("step.retry", step_id, step_attempt=number, delay_s=round(delay_s, 3), error=described)

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
        self._origin.emit("step.complete", step_id, **fields)

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
        self._origin.emit(
            "step.error",
            step_id,
            driver=record.driver,
            step_attempt=record.attempts,
            execution_time_ms=record.execution_time_ms,
            abandoned=abandoned,
            error=record.error,
        )

    def summarise(
        self, schedule: Schedule, wall_ms: float, stop_class: FailureClass | None, stop_reason: str
    ) -> RunSummary:
        """The end: what never ran is skipped, with the reason. `stop_class` is why the run was stopped, if it was."""
        for record in self._records.values():
            if record.status == "pending":
                record.status, record.reason = "skipped", self._why_skipped(schedule, record.step_id)
                self._origin.emit("step.skipped", record.step_id, driver=record.driver, reason=record.reason)
        status, error = self._outcome(stop_class, stop_reason)
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
            self._origin.emit("steps.complete", wall_ms=wall_ms, **counts)
        else:
            self._origin.emit("steps.error", status=status, wall_ms=wall_ms, error=error, **counts)
        return summary

    def _why_skipped(self, schedule: Schedule, step_id: str) -> str:
        waits_for = [self._records[upstream] for upstream in schedule.waits_for(step_id)]
        if any(record.status in _ENDED_BADLY or record.reason == "upstream_failed" for record in waits_for):
            return "upstream_failed"
        return "run_stopped"

    def _outcome(self, stop_class: FailureClass | None, stop_reason: str) -> tuple[RunStatus, dict[str, Any] | None]:
        if all(record.status in ("completed", "reused") for record in self._records.values()):
            return "completed", None
        failed = self.first_failure
        if stop_class is not None and (failed is None or failed.status in ("cancelled", "timeout")):
            if stop_class is FailureClass.TIMEOUT:
                return "timeout", describe_failure(RunTimeout(stop_reason), self._redactor)
            message = f"the run was cancelled: {stop_reason}" if stop_reason else "the run was cancelled"
            return "cancelled", describe_failure(RunCancelled(message), self._redactor)
        assert failed is not None
        assert failed.error is not None
        return ("timeout" if failed.status == "timeout" else "failed"), failed.error
