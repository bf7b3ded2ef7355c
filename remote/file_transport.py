"""The host's end of the file transport: a followed journal and a numbered `control.jsonl` in place of pipes."""

from __future__ import annotations

import json
import time
from time import monotonic
from typing import TYPE_CHECKING

from osiris_core.journal import JOURNAL_NAME
from remote import folders
from remote.framing import RS, Frame, FrameDecoder, encode_frame
from remote.protocol import encode
from remote.sandbox import TransportClosed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Protocol

    class WorkerFiles(Protocol):
        """A worker's folder, however it is reached."""

        def read(self, name: str, offset: int) -> bytes:
            """What a file holds from `offset` on, at most some megabytes; nothing when there is no such file."""

        def append(self, name: str, data: bytes) -> None:
            """Add to a file, whole; it is made if it is not there."""


POLL_S = 0.02
MAX_POLL_S = 0.5
TAIL_BYTES = 8 << 10


class FileTransport:
    """
    A transport for a worker without pipes, or whose pipes belong to nobody any more. One controller at a time.

    What was answered before it came is passed over, but for `hello` and `summary`; the journal is followed from its
    beginning. Looks are 0.02 s apart while there is something new, and up to half a second when there is not: the
    worker's folder may be on a file server that many runs ask.

    Args:
        files: The worker's folder; it may be empty yet.
        is_alive: Whether the worker runs, or is still to run. Asked at each look.
        stderr_name: The file that the worker's standard error goes to, if it goes to one.
        poll_s: How far apart looks are at first.

    Attributes:
        beats: Signs of life that a worker gives unasked come this way. They do not: it has to be asked for them.
    """

    beats = False

    def __init__(
        self,
        files: WorkerFiles,
        is_alive: Callable[[], bool],
        stderr_name: str | None = None,
        poll_s: float = POLL_S,
    ) -> None:
        self._files = files
        self._is_alive = is_alive
        self._stderr_name = stderr_name
        self._poll_s = poll_s
        self._pause_s, self._look_at_s = poll_s, 0.0
        self._decoder = FrameDecoder()
        self._journal = _Lines(files, f"{folders.SESSION_FOLDER}/{JOURNAL_NAME}")
        self._replies = _Lines(files, folders.REPLIES_FILE)
        control = _Lines(files, folders.CONTROL_FILE)
        self._first = self._next = 1 + max(map(_number, control.read_all()), default=0)
        # What an earlier controller left half-written when it died must not become the head of our line.
        self._before_line = b"\n" if control.has_torn_end else b""

    def send(self, data: bytes, timeout_s: float) -> None:  # noqa: ARG002 - a file takes at once
        for item in self._decoder.feed(data):
            if isinstance(item, Frame):
                line = json.dumps({"n": self._next, "message": json.loads(item.text)}).encode()
                try:
                    self._files.append(folders.CONTROL_FILE, self._before_line + line + b"\n")
                except OSError as exc:
                    raise TransportClosed(f"the worker's folder cannot be written: {exc}") from exc
                self._next += 1
                self._before_line = b""
                self._pause_s, self._look_at_s = self._poll_s, 0.0  # an answer is coming

    def receive(self, timeout_s: float) -> bytes | None:
        deadline_s = monotonic() + timeout_s
        while True:
            now_s = monotonic()
            if now_s >= self._look_at_s or timeout_s <= 0:
                alive = self._is_alive()
                if data := self._new():
                    self._pause_s = self._poll_s
                    return data
                if not alive:
                    raise TransportClosed("the worker has ended")
                self._pause_s = min(self._pause_s * 1.2, MAX_POLL_S)
                self._look_at_s = now_s + self._pause_s
            if (left_s := deadline_s - monotonic()) <= 0:
                return None
            time.sleep(max(0.0, min(self._look_at_s - now_s, left_s)))

    def _new(self) -> bytes:
        # The answers are read first and given out last: the events that one of them knows of come before it.
        replies = [json.loads(line) for line in self._replies.read()]
        # Of a journal that resumes, the earlier attempts' and the host's events are not this worker's to tell.
        events = [line for line in self._journal.read() if b'"origin":"engine"' in line[:64]]
        framed = [RS + b'{"jsonrpc":"2.0","method":"event","params":' + line + b"}\n" for line in events]
        ours = [item["message"] for item in replies if item["n"] == 0 or item["n"] >= self._first]
        return b"".join([*framed, *(encode_frame(encode(message)) for message in ours)])

    def stderr_tail(self) -> str:
        if self._stderr_name is None:  # its pipe went with the controller that had it
            return ""
        text = self._files.read(self._stderr_name, 0)[-TAIL_BYTES:].decode("utf-8", "replace")
        return "\n".join(text.splitlines()[-20:])

    def close(self) -> None:
        """Nothing to let go of."""


class _Lines:
    """The whole lines of a file that grows, however long they are."""

    def __init__(self, files: WorkerFiles, name: str) -> None:
        self._files = files
        self._name = name
        self._offset = 0

    def read(self) -> list[bytes]:
        """Some of what is new; nothing when there is nothing."""
        data = self._files.read(self._name, self._offset)
        while data and b"\n" not in data:
            more = self._files.read(self._name, self._offset + len(data))
            if not more:
                return []
            data += more
        end = data.rfind(b"\n") + 1
        self._offset += end
        return data[:end].splitlines()

    def read_all(self) -> Iterator[bytes]:
        while lines := self.read():
            yield from lines

    @property
    def has_torn_end(self) -> bool:
        return bool(self._files.read(self._name, self._offset))


def _number(line: bytes) -> int:
    try:
        return int(json.loads(line)["n"])
    except (ValueError, KeyError, TypeError):
        return 0
