"""Log lines for people, by structlog: imported when the first line is written, and never configured here."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager, suppress
from time import monotonic
from typing import TYPE_CHECKING, Any

from osiris_core.journal import JournalReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from osiris_core.context import ExecutionContext

FOLLOW_INTERVAL_S = 0.05
_ENVELOPE = frozenset({"v", "seq", "ts", "session_id", "event", "level", "attempt"})
_RENAMED = {"message": "text", "name": "subject"}
"""The standard library's log records have fields of their own under these names, and refuse others."""
_LEVELS = frozenset({"debug", "info", "warning", "error"})


class JournalFollower:
    """
    Hands each new event of a journal to `sink`, from a thread of its own.

    Starts after the last whole line there is: one that a crash left half-written is cut off before anything is added.
    `stop` returns when every event that was written before it was handed over. A sink that raises is not called again.
    """

    def __init__(
        self, path: Path, sink: Callable[[dict[str, Any]], None], interval_s: float = FOLLOW_INTERVAL_S
    ) -> None:
        self._reader = JournalReader(path, _end_of_last_line(path))
        self._sink = sink
        self._interval_s = interval_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="osiris-follow", daemon=True)

    def start(self) -> JournalFollower:
        self._thread.start()
        return self

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _work(self) -> None:
        stopping = False
        while not stopping:
            stopping = self._stopping.wait(self._interval_s)
            while events := self._reader.read():
                for event in events:
                    try:
                        self._sink(event)
                    except Exception:  # noqa: BLE001 - log lines that cannot be written must not disturb the run
                        return


def _end_of_last_line(path: Path, block_bytes: int = 1 << 16) -> int:
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            while end > 0:
                start = max(0, end - block_bytes)
                file.seek(start)
                newline = file.read(end - start).rfind(b"\n")
                if newline >= 0:
                    return start + newline + 1
                end = start
    except (FileNotFoundError, NotADirectoryError):
        pass
    return 0


@contextmanager
def follow_verbosely(path: Path, context: ExecutionContext) -> Iterator[None]:
    """While the block runs, log each event of the journal at `path` if the context is verbose."""
    if not context.verbose:
        yield
        return
    follower = JournalFollower(path, event_logger(context.session_id)).start()
    try:
        yield
    finally:
        follower.stop()


@contextmanager
def phase_logged(phase: str, context: ExecutionContext) -> Iterator[None]:
    """While the block runs, it is phase `phase`: logged at its start and end if the context is verbose."""
    if not context.verbose:
        yield
        return
    started_s = monotonic()
    with suppress(Exception):  # log lines that cannot be written must not disturb the run
        _logger().info("phase.start", session_id=context.session_id, phase=phase)
    outcome = "failed"
    try:
        yield
        outcome = "completed"
    finally:
        duration_ms = round((monotonic() - started_s) * 1000, 3)
        with suppress(Exception):
            _logger().info(
                "phase.end", session_id=context.session_id, phase=phase, outcome=outcome, duration_ms=duration_ms
            )


def log_transfer(context: ExecutionContext, direction: str, size_bytes: int, duration_ms: float) -> None:
    """Log that something went `up` to a run's place, or came `down` from it, if the context is verbose."""
    if context.verbose:
        facts = {"direction": direction, "size_bytes": size_bytes, "duration_ms": duration_ms}
        with suppress(Exception):  # log lines that cannot be written must not disturb the run
            _logger().info("transfer.end", session_id=context.session_id, **facts)


def event_logger(session_id: str) -> Callable[[dict[str, Any]], None]:
    """A sink that logs events by structlog, with `session_id`, `run_id` and `step_id` bound."""
    log = _logger().bind(session_id=session_id)

    def sink(event: dict[str, Any]) -> None:
        fields = {_RENAMED.get(key, key): value for key, value in event.items() if key not in _ENVELOPE}
        level = str(event.get("level", "error" if event["event"].endswith(".error") else "info"))
        bound = log.bind(run_id=f"{session_id}/{event['attempt']}")
        write = getattr(bound, level if level in _LEVELS else "info")
        write(event["event"], **fields)

    return sink


def _logger() -> Any:
    import structlog

    return structlog.get_logger("osiris")
