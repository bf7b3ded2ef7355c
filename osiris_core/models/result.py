"""What a model run came to, as plain facts."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from datetime import datetime

ArtifactType = Literal["yaml", "netcdf", "plot", "text", "restart", "other"]
ModelPhase = Literal["generate", "prepare", "execute", "collect"]

_TYPES: dict[str, ArtifactType] = {
    ".yaml": "yaml",
    ".yml": "yaml",
    ".nc": "netcdf",
    ".nc4": "netcdf",
    ".cdf": "netcdf",
    ".png": "plot",
    ".svg": "plot",
    ".pdf": "plot",
    ".jpg": "plot",
    ".jpeg": "plot",
    ".txt": "text",
    ".log": "text",
    ".csv": "text",
    ".json": "text",
    ".md": "text",
    ".rst7": "restart",
    ".restart": "restart",
    ".hot": "restart",
}


@dataclass(frozen=True, slots=True)
class ModelArtifact:
    """One file that the run made or changed; `path` is relative to the workspace."""

    path: str
    size_bytes: int
    sha256: str

    @property
    def type(self) -> ArtifactType:
        """What it is, told by its suffix."""
        return _TYPES.get(PurePosixPath(self.path).suffix.lower(), "other")


@dataclass(frozen=True)
class ModelRunResult:
    """
    What came of one run of a model; true when it succeeded. Nothing in it is secret.

    Attributes:
        status: `completed`, `failed`, `cancelled` or `timeout`.
        phase: The phase that decided it; `collect` for a run that succeeded.
        backend: The name of the adapter, or of the class that ran it.
        workspace: The folder in which it ran, or whose copy it ran in; what it left is there.
        return_code: The command's exit code; None when a signal ended it, or nothing was started.
        signal: The name of the signal that ended it.
        failure_class: Whose fault a failure is: `user_error`, `timeout`, `out_of_memory`, ...
        error: Why it failed, in words.
        timings: Milliseconds by phase; `wall_ms` is all of it.
        artifacts: The files that the run made or changed.
        expected_outputs: What the model run said that it leaves.
        missing_outputs: What of that is not there.
        session_dir: Where journal, report and output of the run are.
        attempt: Which run of the session it is, from 1; of one that never began, the last before it; None for one that
            found the workspace taken.
        stdout_log, stderr_log: What the command printed, masked; empty when it printed nothing, or that was passed on.
    """

    success: bool
    run_id: str
    status: str
    phase: ModelPhase
    backend: str
    workspace: str
    started_at: datetime
    finished_at: datetime
    return_code: int | None = None
    signal: str | None = None
    failure_class: str | None = None
    error: str | None = None
    timeout_s: float | None = None
    timings: dict[str, float] = field(default_factory=dict)
    artifacts: tuple[ModelArtifact, ...] = ()
    expected_outputs: tuple[str, ...] = ()
    missing_outputs: tuple[str, ...] = ()
    session_dir: str = ""
    attempt: int | None = None
    stdout_log: str = ""
    stderr_log: str = ""
    warnings: tuple[str, ...] = ()
    exception: BaseException | None = field(default=None, repr=False, compare=False)
    """What a run backend of somebody else's raised, to be raised again by `run`."""

    def __bool__(self) -> bool:
        return self.success

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON, with times in UTC."""
        found = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "exception"}
        for name in ("started_at", "finished_at"):
            found[name] = found[name].isoformat(timespec="milliseconds").replace("+00:00", "Z")
        found["artifacts"] = [{**asdict(item), "type": item.type} for item in self.artifacts]
        return found
