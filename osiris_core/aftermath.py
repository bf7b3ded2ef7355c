"""What became of a run whose engine is gone, or was never heard: told from its journal, by whoever outlived it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from osiris_core.errors import ExecutionError, FailureClass
from osiris_core.records import ArtifactRecord, RunSummary, StepRecord
from osiris_core.run_records import UNCHANGED, RunRecords
from osiris_core.running import Stop
from osiris_core.schedule import Schedule

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from osiris_core.journal import Origin
    from osiris_core.plan import StepPlan
    from osiris_core.redaction import Redactor


class Aftermath:
    """
    What the journal of a run says of each step.

    Args:
        steps: The run's steps.
        events: Its journal, from the first event; those of other attempts and origins may be among them.
        attempt: The attempt that this is about.

    Attributes:
        last_seq: The number of the engine's last event.
        ended: Whether the engine came to its end: `summary` then has what it came to.
        host_seq: The number of the host's last event.
        host_start_ts: When the host said `run.start`; empty when it did not.
        host_end: The host's `run.complete` or `run.error`, if it came to that.
    """

    def __init__(self, steps: list[StepPlan], events: Iterable[Mapping[str, Any]], attempt: int) -> None:
        self.last_seq = self.host_seq = 0
        self.host_start_ts = ""
        self.host_end: dict[str, Any] | None = None
        self._end: dict[str, Any] | None = None
        self._rows_before: dict[str, tuple[int, int]] = {}
        self._steps = steps
        self._records = {step.id: StepRecord(step.id, step.driver) for step in steps}
        self._artifacts: dict[str, list[ArtifactRecord]] = {}
        self._first_failed: str | None = None
        self._first_ts = self._last_ts = ""
        for event in events:
            if event["origin"] != "engine":
                if event["attempt"] == attempt:
                    self._note_host(event)
                continue
            step_id = event.get("step_id")
            if step_id in self._records:
                self._note_artifacts(step_id, event)
            if event["attempt"] != attempt:
                continue
            self.last_seq = max(self.last_seq, event["seq"])
            self._first_ts, self._last_ts = self._first_ts or event["ts"], event["ts"]
            if event["event"] in ("steps.complete", "steps.error"):
                self._end = self._end or dict(event)
            if step_id in self._records:
                self._note(self._records[step_id], event)

    @property
    def started(self) -> list[str]:
        """The steps that were started, whatever became of them."""
        return [record.step_id for record in self._records.values() if record.attempts]

    @property
    def ended(self) -> bool:
        return self._end is not None

    @property
    def end_ts(self) -> str:
        """When the engine came to its end; empty when it did not."""
        return self._end["ts"] if self._end is not None else ""

    def summary(self) -> RunSummary:
        """What the engine itself made of the run, put together again; only where it came to its end."""
        assert self._end is not None
        schedule = Schedule(self._steps)
        records = self._records
        left = [step for step in self._steps if not records[step.id].abandoned]
        return RunSummary(
            status=self._end.get("status", "completed"),
            steps=list(records.values()),
            artifacts=[item for step in left for item in self._artifacts.get(step.id, []) if self._has_run(step.id)],
            wall_ms=self._end["wall_ms"],
            failed_step_id=self._first_failed,
            error=self._end.get("error"),
            rows_read=sum(records[step.id].rows_read for step in self._steps if schedule.is_source(step)),
            rows_written=sum(records[step.id].rows_written for step in self._steps if schedule.is_sink(step)),
        )

    def _has_run(self, step_id: str) -> bool:
        """What an earlier attempt left of a step that this one did not come to was set aside."""
        return self._records[step_id].status not in ("pending", "skipped")

    @property
    def running(self) -> list[str]:
        """The steps that were started and not ended."""
        return [record.step_id for record in self._records.values() if record.status == "running"]

    def conclude(
        self, failure: ExecutionError, redactor: Redactor, origin: Origin | None = None, stop: Stop | None = None
    ) -> RunSummary:
        """
        The run's summary, `failure` being what ended it: each step that was running failed of it.

        With `origin` the events that the engine owes are written (`step.error`, `step.skipped`, `steps.error`), unless
        the journal has its end already. `stop` is why the run was being stopped, if it was.
        """
        records = RunRecords(self._steps, None if self.ended else origin, redactor)
        artifacts = {step_id: found for step_id, found in self._artifacts.items() if self._has_run(step_id)}
        records.restore(self._records, artifacts, self._first_failed)
        for step_id in self.running:
            reason = stop.failure_class if stop is not None else None
            took_s = _seconds_between(self._records[step_id].started_at, self._last_ts)
            records.fail(step_id, failure, reason, took_s, self._artifacts.get(step_id, []), abandoned=False)
        records.broken = failure
        schedule = Schedule(self._steps)
        for record in self._records.values():
            if record.status in ("completed", "reused"):
                schedule.done(record.step_id)
        return records.summarise(schedule, round(_seconds_between(self._first_ts, self._last_ts) * 1000, 3), stop)

    def _note_host(self, event: Mapping[str, Any]) -> None:
        self.host_seq = max(self.host_seq, event["seq"])
        if event["event"] == "run.start":
            self.host_start_ts = event["ts"]
        elif event["event"] in ("run.complete", "run.error"):
            self.host_end = dict(event)

    def _note_artifacts(self, step_id: str, event: Mapping[str, Any]) -> None:
        if event["event"] == "step.start":
            self._artifacts[step_id] = []
        elif event["event"] == "step.complete":
            self._rows_before[step_id] = event["rows_read"], event["rows_written"]
        elif event["event"] == "artifact":
            record = ArtifactRecord(step_id, event["path"], event["size_bytes"], event["sha256"])
            self._artifacts.setdefault(step_id, []).append(record)

    def _note(self, record: StepRecord, event: Mapping[str, Any]) -> None:
        name = event["event"]
        if name == "step.start":
            record.status, record.attempts = "running", event.get("step_attempt", 1)
            record.started_at = record.started_at or f"{event['ts'][:-4]}Z"
        elif name == "step.skipped" and event.get("reason") == "reused":
            record.status, record.reason = "reused", UNCHANGED
            record.rows_read, record.rows_written = self._rows_before.get(record.step_id, (0, 0))
        elif name == "step.skipped":
            record.status, record.reason = "skipped", event.get("reason")
        elif name in ("step.complete", "step.error"):
            record.status = "completed"
            for field in ("rows_read", "rows_written", "execution_time_ms", "memory_usage_mb", "abandoned"):
                setattr(record, field, event.get(field, getattr(record, field)))
            if name == "step.error":
                error = record.error = dict(event["error"])
                stopped = error["failure_class"] in ("timeout", "cancelled")
                record.status = error["failure_class"] if stopped else "failed"
                self._first_failed = self._first_failed or record.step_id


def _seconds_between(start: str | None, end: str) -> float:
    if not start or not end:
        return 0.0
    return max(0.0, (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds())


def stopped_by(failure_class: FailureClass, reason: str) -> Stop | None:
    """The stop that an ending was, if it was one."""
    return Stop(failure_class, reason) if failure_class in (FailureClass.TIMEOUT, FailureClass.CANCELLED) else None
