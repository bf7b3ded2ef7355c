"""What a model run is to whoever runs or processes it: four things, and any object that has them will do."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import os

SESSIONS = Path(".osiris") / "sessions"
"""Where below `output_dir` what is known of its runs is kept, beside the workspaces."""


@runtime_checkable
class Subject(Protocol):
    """
    A model run. `config.run(subject)` runs the model in this process's child, where no command does.

    Also looked at where they are there: `command` (text; what runs the model when the backend's configuration names
    nothing) and `expected_outputs` (paths or globs in the workspace that a good run leaves).
    """

    run_id: str
    output_dir: Any
    config: Any

    def generate(self) -> Any:
        """Write the model's inputs into its workspace, and return that folder."""


def check_subject(model_run: Any, timeout_s: float | None = None) -> None:
    """
    Raises:
        ValueError: There is no model run, or it has no `run_id`; or the limit is none.
    """
    if model_run is None:
        raise ValueError("model_run cannot be None")
    if not hasattr(model_run, "run_id"):
        raise ValueError("model_run must have a run_id attribute")
    if timeout_s is not None and not 0 < timeout_s < math.inf:
        raise ValueError(f"timeout_s must be positive, got {timeout_s}")


def default_workspace(model_run: Any) -> Path:
    """Where a model run's workspace is when nobody says otherwise."""
    own = getattr(model_run, "staging_dir", None)
    return own if isinstance(own, Path) else Path(model_run.output_dir) / str(model_run.run_id)


def session_dir(model_run: Any, stage: str = "") -> Path:
    """The session directory of a model run's stage: one a run, so that two runs of one name exclude each other."""
    name = _file_name(model_run)
    return Path(model_run.output_dir).absolute() / SESSIONS / (f"{name}.{stage}" if stage else name)


def lock_file(model_run: Any) -> Path:
    """What is locked by who generates into the workspace, or runs in it."""
    return lock_file_of(session_dir(model_run))


def lock_file_of(session: Path) -> Path:
    """The same for the run of a session directory; it is not there where that is no model run's."""
    return session.parent.parent / "locks" / f"{session.name}.lock"


def _file_name(model_run: Any) -> str:
    return str(model_run.run_id).replace("/", "-").replace("\0", "-").strip(".") or "run"


def as_workspace(path: str | os.PathLike[str]) -> Path:
    """An absolute path; the folder need not be there."""
    return Path(path).expanduser().absolute()


def model_command(model_run: Any) -> str | None:
    """The command that the model run itself names, if it does."""
    command = getattr(model_run, "command", None)
    return command if isinstance(command, str) and command.strip() else None


def expected_outputs(model_run: Any) -> tuple[str, ...]:
    """What the model run itself says that a good run leaves, if it does."""
    expected = getattr(model_run, "expected_outputs", ())
    return tuple(expected) if isinstance(expected, (list, tuple)) else ()
