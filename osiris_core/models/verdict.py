"""What is known of the last run of a model, also to another process: no failed one may pass for a success."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from osiris_core.models.exclusion import alone_in_workspace
from osiris_core.models.subject import session_dir
from osiris_core.session import SessionLayout, is_owned, read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Container, Iterable
    from pathlib import Path

    from osiris_core.models.result import ModelRunResult

log = logging.getLogger("osiris.model_run")

VERDICT_NAME = "verdict.json"
"""Beside `status.json`, where that does not say all: the run began never, or its outputs are not what was expected."""


@dataclass(frozen=True)
class Verdict:
    """What the last run came to; `error` is empty when it succeeded."""

    success: bool
    error: str = ""


def look_for_outputs(
    workspace: Path, expected: Iterable[str], made: Container[Path]
) -> tuple[tuple[str, ...], str | None]:
    """
    Which of the expected paths or globs name no folder and no file that the run made, and what that makes of a run that
    succeeded: it failed, for this reason. A file that was there before is no evidence.
    """

    def is_there(pattern: str) -> bool:
        found = [workspace / pattern] if (workspace / pattern).exists() else workspace.glob(pattern)
        return any(path.is_dir() or path in made for path in found)

    missing = tuple(pattern for pattern in expected if not is_there(pattern))
    return missing, f"the run succeeded but did not leave {', '.join(missing)}" if missing else None


def attempts_so_far(model_run: Any) -> int:
    """How many runs of the model there were, as its session counts them."""
    return _attempt(read_json(SessionLayout(session_dir(model_run)).status_file))


def keep(folder: Path, result: ModelRunResult, report_status: str | None) -> None:
    """
    Write down a result that the report in session `folder` does not have, and remove what an earlier one left.

    `report_status` is what the report of this run says; None when there is none. What cannot be written is logged. A
    run that found the workspace taken leaves nothing: the one that is there will say what it came to.
    """
    if result.attempt is None:
        return
    layout = SessionLayout(folder)
    try:
        if report_status is not None and (report_status == "completed") == result.success:
            (layout.root / VERDICT_NAME).unlink(missing_ok=True)
        else:
            keep_verdict(layout, Verdict(result.success, result.error or ""))
    except OSError as exc:
        log.warning("%s: its result cannot be kept: %s", result.run_id, exc)


def keep_verdict(layout: SessionLayout, verdict: Verdict) -> None:
    """Say it of the last attempt of a session."""
    attempt = _attempt(read_json(layout.status_file))
    layout.root.mkdir(parents=True, exist_ok=True, mode=0o700)
    said = {"attempt": attempt, "at": time.time(), "success": verdict.success, "error": verdict.error}
    write_json(layout.root / VERDICT_NAME, said)


def record_outcome(model_run: Any, success: bool, error: str = "") -> None:
    """
    Say what the model's run came to, where it did not run by `run` or `execute`: elsewhere, by a pipeline of your own.

    From then on, also for other processes, that is the last run: after a success its outputs can be postprocessed,
    whatever earlier runs came to, and after a failure they cannot.

    Raises:
        SessionBusy: A run of the model is under way.
    """
    with alone_in_workspace(model_run):
        keep_verdict(SessionLayout(session_dir(model_run)), Verdict(success, "" if success else error or "it failed"))


def _attempt(written: dict[str, Any] | None) -> int:
    return int((written or {}).get("attempt") or 0)


def refutes(layout: SessionLayout, attempt: int) -> bool:
    """Whether a run that was completed is a failure all the same: what it left is not what was expected."""
    own = read_json(layout.root / VERDICT_NAME)
    return own is not None and own.get("attempt", 0) >= attempt and not own.get("success")


def last_verdict(model_run: Any) -> Verdict | None:
    """What the model's last run came to, whoever ran it; None when nobody knows of one."""
    layout = SessionLayout(session_dir(model_run))
    status, own = read_json(layout.status_file), read_json(layout.root / VERDICT_NAME)
    result = getattr(model_run, "last_result", None)
    if result is not None and isinstance(getattr(result, "success", None), bool) and not _is_older(result, status, own):
        return Verdict(result.success, str(result.error or "") if not result.success else "")
    if own is not None and _attempt(own) >= _attempt(status):
        return Verdict(bool(own["success"]), str(own.get("error", "")))
    if status is None:
        return None
    if status.get("status") == "running":
        return Verdict(False, "it is still running" if is_owned(layout) else "it ended without a result")
    if status.get("status") == "completed":
        return Verdict(True)
    return Verdict(False, str((status.get("error") or {}).get("message") or status.get("status")))


def _is_older(result: Any, status: dict[str, Any] | None, own: dict[str, Any] | None) -> bool:
    """Whether somebody else ran the model after what this object remembers of it."""
    attempt = getattr(result, "attempt", None)
    if attempt is None:  # there was no run: another had the workspace
        return status is not None or own is not None
    latest = max(_attempt(status), _attempt(own))
    if latest != attempt:  # fewer: that of a failure that could not be written down, or the session was made anew
        return latest > attempt or bool(result.success)
    return own is not None and float(own.get("at") or 0) > result.finished_at.timestamp()
