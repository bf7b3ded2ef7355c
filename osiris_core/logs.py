"""Log lines for people, by structlog: imported when the first line is written, and never configured here."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any

from osiris_core.journal import JournalReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from osiris_core.context import ExecutionContext

FOLLOW_INTERVAL_S = 0.05
_ENVELOPE = frozenset({"v", "seq", "ts", "session_id", "event", "level", "attempt"})
_LEVELS = frozenset({"debug", "info", "warning", "error"})


class JournalFollower:
    """
    Hands each new event of a journal to `sink`, from a thread of its own.

    `stop` returns when every event that was written before it was handed over. A sink that raises is not called again.
    """

    def __init__(
        self, path: Path, sink: Callable[[dict[str, Any]], None], interval_s: float = FOLLOW_INTERVAL_S
    ) -> None:
        try:
            offset = path.stat().st_size
        except FileNotFoundError:
            offset = 0
        self._reader = JournalReader(path, offset)
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
                    self._sink(event)


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
    log = _logger().bind(session_id=context.session_id, phase=phase)
    log.info("phase.start")
    started_s = monotonic()
    outcome = "failed"
    try:
        yield
        outcome = "completed"
    finally:
        log.info("phase.end", outcome=outcome, duration_ms=round((monotonic() - started_s) * 1000, 3))


def event_logger(session_id: str) -> Callable[[dict[str, Any]], None]:
    """A sink that logs events by structlog, with `session_id`, `run_id` and `step_id` bound."""
    log = _logger().bind(session_id=session_id)

    def sink(event: dict[str, Any]) -> None:
        fields = {key: value for key, value in event.items() if key not in _ENVELOPE}
        level = str(event.get("level", "error" if event["event"].endswith(".error") else "info"))
        bound = log.bind(run_id=f"{session_id}/{event['attempt']}")
        write = getattr(bound, level if level in _LEVELS else "info")
        write(event["event"], **fields)

    return sink


def _logger() -> Any:
    import structlog

    return structlog.get_logger("osiris")
