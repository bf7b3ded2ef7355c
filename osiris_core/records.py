"""What happened, as plain data: one record a step, one an artifact, one summary a run. JSON in and out."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

StepStatus = Literal["pending", "running", "completed", "reused", "failed", "cancelled", "timeout", "skipped"]
RunStatus = Literal["completed", "failed", "cancelled", "timeout"]


@dataclass(slots=True)
class ArtifactRecord:
    """One file that a step left: `path` is relative to the artifacts directory and starts with the step id."""

    step_id: str
    path: str
    size_bytes: int
    sha256: str

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(slots=True)
class StepRecord:
    """
    What happened to one step. Times are milliseconds of wall clock, memory is megabytes (10^6 bytes).

    `memory_usage_mb` is the peak resident memory of the process that ran the step, so far; a driver that
    runs processes of its own reports theirs. `error` has `type`, `message`, `failure_class`, `traceback` and `details`.
    """

    step_id: str
    driver: str
    status: StepStatus = "pending"
    attempts: int = 0
    started_at: str | None = None
    execution_time_ms: float = 0.0
    rows_read: int = 0
    rows_written: int = 0
    memory_usage_mb: float = 0.0
    reason: str | None = None
    error: dict[str, Any] | None = None
    abandoned: bool = False

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(slots=True)
class RunSummary:
    """What an engine says of a run when it is over."""

    status: RunStatus
    steps: list[StepRecord]
    artifacts: list[ArtifactRecord] = field(default_factory=list)
    wall_ms: float = 0.0
    failed_step_id: str | None = None
    error: dict[str, Any] | None = None
    rows_read: int = 0
    rows_written: int = 0

    @property
    def abandoned(self) -> list[str]:
        """Steps whose thread did not stop and was left behind."""
        return [record.step_id for record in self.steps if record.abandoned]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> RunSummary:
        """The inverse of `to_json`; fields that it does not know are passed over."""
        known = _known(cls, data)
        known["steps"] = [StepRecord(**_known(StepRecord, item)) for item in data["steps"]]
        known["artifacts"] = [ArtifactRecord(**_known(ArtifactRecord, item)) for item in data.get("artifacts", [])]
        return cls(**known)


def _known(record: type[Any], data: dict[str, Any]) -> dict[str, Any]:
    names = {field.name for field in fields(record)}
    return {name: value for name, value in data.items() if name in names}
