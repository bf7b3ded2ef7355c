"""A worker's pipes as a transport, and its folder as files: for workers on this machine."""

from __future__ import annotations

import os
import select
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING

from remote.sandbox import TransportClosed

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

READ_BYTES = 256 << 10
TAIL_BYTES = 8 << 10


class PipeTransport:
    """The standard streams of a child process that was started with pipes. See `sandbox.Transport`."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self._files = (process.stdin, process.stdout, process.stderr)
        self._in, self._out, self._err = (file.fileno() for file in self._files)
        self._tail = b""
        self._closed = False
        os.set_blocking(self._in, False)
        self._poll = select.poll()
        self._poll.register(self._out, select.POLLIN)
        self._poll.register(self._err, select.POLLIN)

    def send(self, data: bytes, timeout_s: float) -> None:
        if self._closed:
            raise TransportClosed("it was closed here")
        deadline_s = monotonic() + timeout_s
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._in, view) :]
            except BlockingIOError:
                if (left_s := deadline_s - monotonic()) <= 0:
                    raise TransportClosed(f"the worker took nothing for {timeout_s:g} s") from None
                waiting = select.poll()  # not select: a program may have more descriptors open than that knows
                waiting.register(self._in, select.POLLOUT)
                waiting.poll(left_s * 1000)
            except OSError as exc:
                raise TransportClosed(f"its standard input is gone: {exc.strerror}") from exc

    def receive(self, timeout_s: float) -> bytes | None:
        if self._closed:
            raise TransportClosed("it was closed here")
        for fd, _ in self._poll.poll(timeout_s * 1000):
            data = os.read(fd, READ_BYTES)
            if fd == self._out:
                if not data:
                    self._drain_errors()
                    raise TransportClosed("its standard output ended")
                return data
            if data:
                self._tail = (self._tail + data)[-TAIL_BYTES:]
            else:
                self._poll.unregister(fd)
        return None

    def _drain_errors(self) -> None:
        os.set_blocking(self._err, False)
        with suppress(OSError):
            while data := os.read(self._err, READ_BYTES):
                self._tail = (self._tail + data)[-TAIL_BYTES:]

    def stderr_tail(self) -> str:
        return "\n".join(self._tail.decode("utf-8", "replace").splitlines()[-20:])

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            for file in self._files:
                with suppress(OSError):
                    file.close()


class FolderFiles:
    """The files of a worker in a folder that can be seen from here. See `file_transport.WorkerFiles`."""

    MAX_READ_BYTES = 4 << 20

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, name: str, offset: int) -> bytes:
        try:
            with (self._folder / name).open("rb") as file:
                file.seek(offset)
                return file.read(self.MAX_READ_BYTES)
        except OSError:
            return b""

    def append(self, name: str, data: bytes) -> None:
        fd = os.open(self._folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, data)
        finally:
            os.close(fd)
