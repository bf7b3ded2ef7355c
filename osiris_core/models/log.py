"""What a model run says to the caller's own logging, by the standard library: nothing is configured here."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osiris_core.drivers.command_output import TAIL_BYTES, TAIL_LINES
from osiris_core.session import SessionLayout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from osiris_core.models.result import ModelRunResult

log = logging.getLogger("osiris.model_run")


def log_end(result: ModelRunResult) -> None:
    """The end of the output, masked, and what the run came to; names and numbers only, never a value of a variable."""
    _log_tail(result.stdout_log, "stdout", logging.INFO)
    _log_tail(result.stderr_log, "stderr", logging.WARNING if result.success else logging.ERROR)
    for warning in result.warnings:
        log.warning("%s: %s", result.run_id, warning)
    if result.success:
        log.info("%s: completed in %.0f ms", result.run_id, result.timings.get("wall_ms", 0.0))
    else:
        log.error("%s: %s in phase %s: %s", result.run_id, result.status, result.phase, result.error)


def _log_tail(path: str, name: str, level: int) -> None:
    if path and log.isEnabledFor(level) and (text := tail_of(path)):
        log.log(level, "%s:\n%s", name, text)


def tail_of(path: str) -> str:
    """The last lines of a log."""
    try:
        with Path(path).open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL_BYTES))
            data = file.read(TAIL_BYTES)
    except OSError:
        return ""
    return "\n".join(data.decode("utf-8", "replace").splitlines()[-TAIL_LINES:])


def log_line(event: dict[str, Any]) -> None:
    """One line of a command's output, as it arrives."""
    if event["event"] == "log" and (data := event.get("data")) and data.get("stream") in ("stdout", "stderr"):
        log.log(logging.INFO if data["stream"] == "stdout" else logging.WARNING, "%s", event["message"])


@contextmanager
def followed(session_dir: Path, *, on: bool) -> Iterator[None]:
    """While the block runs, every line of output that is an event is logged as it arrives."""
    if not on:
        yield
        return
    from osiris_core.logs import JournalFollower

    follower = JournalFollower(SessionLayout(session_dir).events_file, log_line).start()
    try:
        yield
    finally:
        follower.stop()
