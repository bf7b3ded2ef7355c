"""What a command prints: masked into a file, followed as log events up to a limit, remembered as a tail."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from osiris_core.step_context import StepContext

READ_BYTES = 256 << 10
MAX_LINE_BYTES = 16 << 10
MAX_LOGGED_BYTES = 1 << 20
MAX_LOGGED_LINES = 10_000
TAIL_BYTES = 4 << 10
TAIL_LINES = 20
PASSED_ON_TO = {"stdout": 1, "stderr": 2}


class OutputLog:
    """
    One stream of a running command, from its pipe into `NAME.log` among the artifacts, or with `keep=False` on to the
    same stream of this process.

    The file is made with the first byte. What is in it, in the events and in `tail` is masked, wherever the pipe cut
    a secret in two. Not thread-safe: one thread feeds it.
    """

    def __init__(self, name: str, fd: int, ctx: StepContext, *, follow: bool, keep: bool = True) -> None:
        self.name = name
        self.fd = fd
        self._ctx = ctx
        self._passes_on_to = -1 if keep else PASSED_ON_TO[name]
        self._passed_on = b""
        self._masking = ctx.redactor.stream()
        self._lines = LogLines(name, ctx) if follow else None
        self._path: Path | None = None
        self._file = -1

    def pump(self) -> bool:
        """Take what is there, waiting for it if need be; False at the end of the stream."""
        data = os.read(self.fd, READ_BYTES)
        self.feed(data)
        return bool(data)

    def feed(self, data: bytes) -> None:
        """Take what came another way than by the pipe."""
        if data:
            self._write(self._masking.feed(data))

    def finish(self) -> None:
        """Write what was held back and close the file. May be called twice."""
        try:
            self._write(self._masking.finish())
            if self._lines is not None:
                self._lines.finish()
                self._lines = None
        finally:
            if self._file >= 0:
                os.close(self._file)
                self._file = -1

    def _write(self, data: bytes) -> None:
        if not data:
            return
        if self._passes_on_to >= 0:
            self._pass_on(data)
        elif self._file < 0:
            self._path = self._ctx.artifacts_dir / f"{self.name}.log"
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            self._file = os.open(self._path, flags, 0o666)
        if self._file >= 0:
            _write_all(self._file, data)
        if self._lines is not None:
            self._lines.feed(data)

    def _pass_on(self, data: bytes) -> None:
        self._passed_on = (self._passed_on + data)[-TAIL_BYTES:]
        with suppress(OSError):  # nobody listens any more: that is no reason to end the command
            _write_all(self._passes_on_to, data)

    def tail(self) -> str:
        """The last lines that were written: at most 20, at most 4 KiB."""
        if self._path is None:
            return _last_lines(self._passed_on)
        try:
            with self._path.open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
                data = file.read(TAIL_BYTES)
        except OSError:
            return ""
        return _last_lines(data)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _last_lines(data: bytes) -> str:
    return "\n".join(data.decode("utf-8", "replace").splitlines()[-TAIL_LINES:])


class LogLines:
    """Turns a masked stream into `log` events, a line each; past its limits it says so once and is silent."""

    def __init__(self, name: str, ctx: StepContext) -> None:
        self._name = name
        self._ctx = ctx
        self._pending = b""
        self._cut = False
        self._left_bytes = MAX_LOGGED_BYTES
        self._left_lines = MAX_LOGGED_LINES

    def feed(self, data: bytes) -> None:
        """Log every line that is now whole."""
        start = 0
        while self._left_lines and (end := data.find(b"\n", start)) >= 0:
            self._add(data, start, end)
            self._log()
            start = end + 1
        if self._left_lines:
            self._add(data, start, len(data))

    def finish(self) -> None:
        """Log a last line that has no end."""
        if self._pending and self._left_lines:
            self._log()

    def _add(self, data: bytes, start: int, end: int) -> None:
        room = MAX_LINE_BYTES - len(self._pending)
        self._cut = self._cut or end - start > room
        self._pending += data[start : min(end, start + room)]

    def _log(self) -> None:
        line, cut = self._pending, self._cut
        self._pending, self._cut = b"", False
        if len(line) > self._left_bytes:
            self._stop()
            return
        self._left_bytes -= len(line)
        self._left_lines -= 1
        text = line.removesuffix(b"\r").decode("utf-8", "replace")
        suffix = f" [cut after {MAX_LINE_BYTES >> 10} KiB]" if cut else ""
        self._ctx.log(text + suffix, level="info", stream=self._name)
        if not self._left_lines:
            self._stop()

    def _stop(self) -> None:
        self._left_lines = 0
        self._ctx.log(
            f"{self._name} goes on; the rest is only in {self._name}.log",
            level="warning",
            stream=self._name,
        )
