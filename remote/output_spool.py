"""
What user code prints: it goes into files, which never block a writer, and comes out as `log` events, masked.

The files have no name: what is in them is not masked, and nobody but the worker can read it. The position up to which
a file was journalled lies in memory that the supervisor shares: whoever outlives the engine goes on from there.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from osiris_core.journal import Origin
    from osiris_core.redaction import Redactor

STREAMS = ("stdout", "stderr")
FOLLOW_INTERVAL_S = 0.05
READ_BYTES = 256 << 10
MAX_LINE_BYTES = 16 << 10
"""A longer line is logged in pieces."""
MAX_LOGGED_BYTES = 64 << 20
"""How much of a stream is logged; of what comes after, only that it was left out."""
TAIL_BYTES, TAIL_LINES = 4 << 10, 20
_OFFSET = struct.Struct("=Q")


class PrintedOutput:
    """
    Two files without a name and how far each was journalled, the same for a process and its forks.

    Make it before forking. The files are gone when the last of them ends.
    """

    def __init__(self, folder: str) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)
        self._fds = [_nameless_file(folder) for _ in STREAMS]

    def take_over(self) -> None:
        """From now on this process's standard output and error go here."""
        for number, fd in enumerate(self._fds, start=1):
            os.dup2(fd, number)

    def get(self, stream: str) -> int:
        """Up to where a stream was journalled."""
        return int(_OFFSET.unpack_from(self._memory, STREAMS.index(stream) * _OFFSET.size)[0])

    def put(self, stream: str, offset: int) -> None:
        _OFFSET.pack_into(self._memory, STREAMS.index(stream) * _OFFSET.size, offset)

    def read(self, stream: str, offset: int, size_bytes: int) -> bytes:
        return os.pread(self._fds[STREAMS.index(stream)], size_bytes, offset)

    def tail(self, stream: str = "stderr") -> str:
        """The last lines that were printed, not masked; empty when there are none."""
        end = os.fstat(self._fds[STREAMS.index(stream)]).st_size
        data = self.read(stream, max(0, end - TAIL_BYTES), TAIL_BYTES)
        return "\n".join(data.decode("utf-8", "replace").splitlines()[-TAIL_LINES:])


def _nameless_file(folder: str) -> int:
    flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
    try:
        return os.open(folder, flags | os.O_TMPFILE, 0o600)
    except OSError:  # a file system without them
        path = f"{folder}/.{os.getpid()}.{time.monotonic_ns()}"
        fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
        os.unlink(path)  # noqa: PTH108 - pathlib comes after `hello`
        return fd


class OutputSpool:
    """
    Turns what was printed into events, line by line, masked wherever a read cuts a secret.

    `start` follows it from a thread; `drain` takes what is there now. One of both at a time.
    """

    def __init__(self, printed: PrintedOutput, origin: Origin, redactor: Redactor) -> None:
        self._streams = [_Stream(name, printed, origin, redactor) for name in STREAMS]
        self._stopping = threading.Event()
        self._lock = threading.Lock()

    def start(self) -> None:
        threading.Thread(target=self._work, name="osiris-output", daemon=True).start()

    def _work(self) -> None:
        while not self._stopping.wait(FOLLOW_INTERVAL_S):
            with self._lock:
                if not self._stopping.is_set():
                    self._take(last=False)

    def drain(self) -> None:
        """All that was written before is in the journal on return, a line without an end too; nothing follows."""
        self._stopping.set()
        with self._lock:
            self._take(last=True)

    def _take(self, *, last: bool) -> None:
        for stream in self._streams:
            stream.take(last=last)


class _Stream:
    def __init__(self, name: str, printed: PrintedOutput, origin: Origin, redactor: Redactor) -> None:
        self._name = name
        self._printed = printed
        self._origin = origin
        self._redactor = redactor
        self._logged_bytes = 0

    def take(self, *, last: bool) -> None:
        offset = self._printed.get(self._name)
        size_bytes = max(READ_BYTES, 2 * self._redactor.longest_bytes)  # else all of a read might be held back
        while data := self._printed.read(self._name, offset, size_bytes):
            end = data.rfind(b"\n") + 1
            if end:
                self._log(self._redactor.data(data[: end - 1]).split(b"\n"))
            elif last and len(data) < size_bytes:
                end = len(data)
                self._log([self._redactor.data(data)])
            elif len(data) == size_bytes:  # a line that does not end: all of it but what may be half a secret
                masking = self._redactor.stream()
                self._log([masking.feed(data)])
                end = len(data) - masking.held_bytes
            else:
                return
            offset += end
            self._printed.put(self._name, offset)

    def _log(self, lines: list[bytes]) -> None:
        for line in lines:
            for start in range(0, len(line) or 1, MAX_LINE_BYTES):
                self._emit(line[start : start + MAX_LINE_BYTES])

    def _emit(self, line: bytes) -> None:
        before, self._logged_bytes = self._logged_bytes, self._logged_bytes + len(line) + 1
        if before > MAX_LOGGED_BYTES:
            return
        text = line.decode("utf-8", "replace").rstrip("\r")
        if self._logged_bytes > MAX_LOGGED_BYTES:
            text = f"more than {MAX_LOGGED_BYTES} bytes were printed; the rest is left out"
        self._origin.emit("log", level="info", message=text, stream=self._name)
