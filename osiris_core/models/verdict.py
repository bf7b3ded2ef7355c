"""What is known of the last run of a model, also to another process: no failed one may pass for a success."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osiris_core.errors import SessionBusy
from osiris_core.models.subject import lock_file, session_dir
from osiris_core.session import SessionLayout, is_owned, read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from osiris_core.models.result import ModelRunResult

VERDICT_NAME = "verdict.json"
"""Beside `status.json`, where that does not say all: the run began never, or its outputs are not what was expected."""


@dataclass(frozen=True)
class Verdict:
    """What the last run came to; `error` is empty when it succeeded."""

    success: bool
    error: str = ""


def write_verdict(folder: Path, result: ModelRunResult, report_status: str | None) -> None:
    """
    Write down a result that the report in session `folder` does not have, and remove what an earlier one left.

    `report_status` is what the report of this run says; None when there is none.
    """
    layout = SessionLayout(folder)
    path = layout.root / VERDICT_NAME
    if report_status is not None and (report_status == "completed") == result.success:
        path.unlink(missing_ok=True)
        return
    keep_verdict(layout, Verdict(result.success, result.error or ""))


def keep_verdict(layout: SessionLayout, verdict: Verdict) -> None:
    """Say it of the last attempt of a session."""
    attempt = (read_json(layout.status_file) or {}).get("attempt", 0)
    layout.root.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_json(layout.root / VERDICT_NAME, {"attempt": attempt, "success": verdict.success, "error": verdict.error})


def refutes(layout: SessionLayout, attempt: int) -> bool:
    """Whether a run that was completed is a failure all the same: what it left is not what was expected."""
    own = read_json(layout.root / VERDICT_NAME)
    return own is not None and own.get("attempt", 0) >= attempt and not own.get("success")


@contextmanager
def alone_in_workspace(model_run: Any) -> Iterator[int]:
    """
    While the block runs, nobody else generates into the workspace of this model run, or starts a run in it.

    The lock of the session alone would come too late: inputs are generated before there is one. What is written into
    the file that is given stays there when this process dies, and only then.

    Raises:
        SessionBusy: A run of this name, in this folder, is under way; its workspace is not to be touched.
    """
    path = lock_file(model_run)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _busy(model_run) from None
        if is_under_way(model_run):  # also one that `osiris runs attach` goes on with
            raise _busy(model_run)
        os.truncate(fd, 0)
        try:
            yield fd
        finally:
            os.truncate(fd, 0)
    finally:
        fcntl.flock(fd, fcntl.LOCK_UN)  # for children too, that have it from a fork
        os.close(fd)


def is_under_way(model_run: Any) -> bool:
    """Whether a live process owns the session of a run of this name in this folder."""
    return is_owned(SessionLayout(session_dir(model_run)))


def _busy(model_run: Any) -> SessionBusy:
    return SessionBusy(f"a run of '{model_run.run_id}' is under way in {Path(model_run.output_dir).absolute()}")


def last_verdict(model_run: Any) -> Verdict | None:
    """What the model's last run came to; None when nobody knows of one."""
    result = getattr(model_run, "last_result", None)
    if result is not None and isinstance(getattr(result, "success", None), bool):
        return Verdict(result.success, str(result.error or "") if not result.success else "")
    layout = SessionLayout(session_dir(model_run))
    status, own = read_json(layout.status_file), read_json(layout.root / VERDICT_NAME)
    attempt = status.get("attempt", 0) if status is not None else 0
    if own is not None and own.get("attempt", 0) >= attempt:
        return Verdict(bool(own["success"]), str(own.get("error", "")))
    if status is None:
        return None
    if status.get("status") == "running":
        return Verdict(False, "it is still running" if is_owned(layout) else "it ended without a result")
    if status.get("status") == "completed":
        return Verdict(True)
    return Verdict(False, str((status.get("error") or {}).get("message") or status.get("status")))
