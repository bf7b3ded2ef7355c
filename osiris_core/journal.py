"""
The only writer of events: `events.jsonl`, one JSON object a line, numbered per origin and attempt.

A line is in the file before anyone is told. Telling is reading the file from a cursor (`JournalReader`), so a
reader that stalls stalls nobody. A last line torn by a crash is healed when the file is opened again, and
never shown by a reader.
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from osiris_core.errors import JournalDamaged, Problem
from osiris_core.redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

JOURNAL_VERSION = 1
JOURNAL_NAME = "events.jsonl"

MAX_EVENT_CHARS = 8 << 20
"""A longer event is written with its long texts cut: what carries events to a host has a limit, too."""
MAX_TEXT_CHARS = 1 << 20

ENVELOPE = frozenset({"v", "origin", "attempt", "seq", "ts", "session_id", "event", "step_id"})
"""The fields that every event has (`step_id` where it is about a step); no other field may be named so."""

_NAMED_BY_USERS = frozenset({"outputs", "resume"})
"""Fields that hold outputs and inputs by name: one that is called `token` is none."""

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class Journal:
    """
    One session's event file, opened for appending by its one owner.

    Thread-safe. `close` may be called twice; writing after it raises ValueError.

    Args:
        path: The file; made if it is not there. A torn last line is cut off.
        session_id: Written into every event.
        attempt: The run attempt (1, 2, …) that this owner writes for.
    """

    def __init__(self, path: str | os.PathLike[str], session_id: str, attempt: int = 1) -> None:
        self.path = Path(path)
        self.session_id = session_id
        self.attempt = attempt
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._end = _heal(self._fd)

    def origin(self, name: str, redactor: Redactor | None = None, after_seq: int = 0) -> Origin:
        """
        A numbered voice in this journal: `host` or `engine`. Ask once per origin and attempt.

        `after_seq` is the last number that was already written, by a process that is no more.
        """
        return Origin(self, name, redactor or Redactor(), after_seq)

    def copies(self, origin: str, after_seq: int = 0) -> Copies:
        """Where the events of an origin that writes elsewhere come in. Ask once per origin and attempt."""
        return Copies(self, origin, after_seq)

    def append(self, line: bytes) -> None:
        """Write one finished line, whole or not at all."""
        if self._fd < 0:
            raise ValueError("the journal is closed")
        if os.getpid() != self._pid:  # a forked child does not know how far its parent has written meanwhile
            raise ValueError("the journal belongs to the process that opened it; a forked child cannot write to it")
        written = 0
        try:
            while written < len(line):
                written += os.pwrite(self._fd, line[written:], self._end + written)
        except OSError as exc:
            if written:
                os.ftruncate(self._fd, self._end)
            exc.filename = str(self.path)
            raise
        self._end += len(line)

    def sync(self) -> None:
        """Everything written so far is on the disk on return."""
        with self._lock:
            if self._fd >= 0:
                os.fdatasync(self._fd)

    def close(self) -> None:
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Origin:
    """Writes events of one origin, numbered without a gap."""

    def __init__(self, journal: Journal, name: str, redactor: Redactor, after_seq: int = 0) -> None:
        self._journal = journal
        self._redactor = redactor
        self._seq = after_seq
        self._second, self._second_text = -1, ""
        self._head = f'{{"v":{JOURNAL_VERSION},"origin":"{name}","attempt":{journal.attempt},"seq":'
        self._tail = f',"session_id":{_encode(journal.session_id)},"event":"'

    def emit(self, event: str, step_id: str | None = None, /, **fields: Any) -> None:
        """
        Write one event; it is in the file on return.

        `event` and `step_id` are written as they are; every string in `fields` is masked first. What JSON cannot
        hold is written as text: `NaN`, `Infinity`, `-Infinity`, and the text of any other object.

        Raises:
            OSError: The file cannot be written (a full disk); the journal then ends with its last whole line.
            ValueError: The journal is closed, or a field has the name of one that every event has.
        """
        if not ENVELOPE.isdisjoint(fields):
            raise ValueError(f"an event's own fields cannot be named {', '.join(sorted(ENVELOPE & fields.keys()))}")
        masked = self._redactor.value(fields) if fields else fields
        for name in _NAMED_BY_USERS & fields.keys():
            masked[name] = _mask_named(self._redactor, name, fields[name])
        try:
            body = _encode(masked)[1:] if masked else "}"
        except ValueError:
            body = _encode(_finite(masked))[1:]
        if len(body) > MAX_EVENT_CHARS:
            body = _encode(_finite(_bounded(masked)))[1:]
            if len(body) > MAX_EVENT_CHARS:
                body = _encode({"left_out": f"{len(body)} characters"})[1:]
        step = f'","step_id":{_encode(step_id)}' if step_id is not None else '"'
        separator = "," if masked else ""
        journal = self._journal
        with journal._lock:
            seq = self._seq + 1
            second, nanosecond = divmod(time.time_ns(), 1_000_000_000)
            if second != self._second:
                self._second, self._second_text = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            ts = f"{self._second_text}.{nanosecond // 1000:06d}Z"
            line = f'{self._head}{seq},"ts":"{ts}"{self._tail}{event}{step}{separator}{body}\n'
            journal.append(line.encode("utf-8", "backslashreplace"))
            self._seq = seq


class Copies:
    """
    Takes over the events of an origin that writes elsewhere: each once, in their order.

    Attributes:
        last_seq: The number of the last event that was taken over.
    """

    def __init__(self, journal: Journal, origin: str, after_seq: int) -> None:
        self._journal = journal
        self._origin = origin
        self.last_seq = after_seq

    def take(self, event: Mapping[str, Any]) -> Literal["new", "seen", "gap"]:
        """
        Write an event down if it is the next one. `gap`: some before it are missing, nothing was written.

        Raises:
            ValueError: It is no event of this origin, attempt and session.
            OSError: The file cannot be written.
        """
        get, journal = event.get, self._journal
        attempt = get("attempt")
        if isinstance(attempt, int) and attempt < journal.attempt and get("session_id") == journal.session_id:
            return "seen"  # of an earlier attempt in the same session
        ours = (get("v"), get("origin"), get("attempt"), get("session_id"))
        if ours != (JOURNAL_VERSION, self._origin, journal.attempt, journal.session_id):
            raise ValueError("an event of another run")
        seq = get("seq")
        if not isinstance(seq, int) or not isinstance(get("event"), str):
            raise ValueError("an event without number or name")
        if seq != self.last_seq + 1:
            return "seen" if seq <= self.last_seq else "gap"
        line = _encode(event) + "\n"
        with journal._lock:
            journal.append(line.encode("utf-8", "backslashreplace"))
        self.last_seq = seq
        return "new"


class JournalReader:
    """
    A cursor into a journal that somebody else writes.

    `read` returns the events that were completed since the last call, in order, and never waits; a line
    that is none is JournalDamaged. Holds no lock and keeps no file open between calls; a missing file is an empty one.
    """

    def __init__(self, path: str | os.PathLike[str], offset: int = 0) -> None:
        self._path = Path(path)
        self.offset = offset

    def read(self, max_bytes: int = 1 << 22) -> list[dict[str, Any]]:
        """At most about `max_bytes` worth of new events; an empty list means nothing new yet."""
        try:
            with self._path.open("rb") as file:
                file.seek(self.offset)
                data = file.read(max_bytes)
                end = data.rfind(b"\n") + 1
                if not end and len(data) == max_bytes:
                    data += file.readline()
                    end = len(data) if data.endswith(b"\n") else 0
        except (FileNotFoundError, NotADirectoryError):
            return []
        try:
            events = [_event(line) for line in data[:end].split(b"\n")[:-1]]
        except ValueError:
            raise self._damaged(data[:end]) from None
        self.offset += end
        return events

    def _damaged(self, data: bytes) -> JournalDamaged:
        """Which line of `data`, which stands at `offset`, is no event."""
        with self._path.open("rb") as file:
            before = sum(line.endswith(b"\n") for line in iter(lambda: file.readline(self.offset - file.tell()), b""))
        number = before + next(number for number, line in enumerate(data.split(b"\n"), 1) if not _is_event(line))
        hint = "remove the line, or name another session directory"
        return JournalDamaged([Problem("the line is no event", file=str(self._path), line=number, hint=hint)])


def read_events(path: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """
    Every whole event of a journal, from the first; a torn last line is left out.

    Raises:
        JournalDamaged: A line is no event.
    """
    reader = JournalReader(path)
    while events := reader.read():
        yield from events


def looks_whole(path: str | os.PathLike[str]) -> bool:
    """
    Whether each line but a torn last one has the shape of an event, which is soon seen; reading them takes far longer.

    One that has the shape, and is none all the same, is told by who reads it.
    """
    try:
        with open(path, "rb") as file:
            return all((line[:2] == b'{"' and line[-2:] == b"}\n") or line[-1:] != b"\n" for line in file)
    except (FileNotFoundError, NotADirectoryError):
        return True


def _event(line: bytes) -> dict[str, Any]:
    """Raises ValueError where it is none."""
    event = json.loads(line)
    if not isinstance(event, dict) or "event" not in event or "attempt" not in event:
        raise ValueError("no event")
    return event


def _is_event(line: bytes) -> bool:
    try:
        return bool(_event(line))
    except ValueError:
        return False


def _mask_named(redactor: Redactor, name: str, value: Any) -> Any:
    if name == "outputs" and isinstance(value, dict):
        return {redactor.text(str(key)): redactor.value(item) for key, item in value.items()}
    return redactor.texts(value)


def _bounded(value: Any) -> Any:
    """A copy of a JSON-like value with its long texts cut."""
    if isinstance(value, str) and len(value) > MAX_TEXT_CHARS:
        half = MAX_TEXT_CHARS // 2
        return f"{value[:half]}\n… {len(value) - MAX_TEXT_CHARS} characters left out …\n{value[-half:]}"
    if isinstance(value, dict):
        return {key: _bounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_bounded(item) for item in value]
    return value


def _finite(value: Any) -> Any:
    """A copy of a JSON-like value with the floats that JSON has no number for as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return value


def _heal(fd: int) -> int:
    """Cut off what a crash left half-written; return the file's length then."""
    end = os.fstat(fd).st_size
    block = 1 << 16
    position = end
    while position > 0:
        start = max(0, position - block)
        newline = os.pread(fd, position - start, start).rfind(b"\n")
        if newline >= 0:
            whole = start + newline + 1
            break
        position = start
    else:
        whole = 0
    if whole != end:
        os.ftruncate(fd, whole)
    return whole
