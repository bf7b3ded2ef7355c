"""The files of a worker's folder by commands in the sandbox: the way to a worker whose output reaches nobody."""

from __future__ import annotations

import base64
import binascii
from shlex import quote
from time import monotonic
from typing import TYPE_CHECKING, Any

import e2b

from adapters.e2b_cloud.line import LAST_WAIT_S
from adapters.e2b_cloud.worker import shell_path
from remote.sandbox import SandboxError, TransportClosed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import PurePosixPath

    from adapters.e2b_cloud.line import Line
    from adapters.e2b_cloud.transport import StreamTransport

READ_INTERVAL_S = 0.5
"""Each look at a file is a request: not sooner after the one before."""
COMMAND_LIMIT_S = 30.0
STREAM_INTERVAL_S = 60.0
"""How often a stream is tried again meanwhile, and how long it may take to say something: a worker does each second."""
STREAM_LIMIT_S = 5.0


class CommandFiles:
    """See `remote.file_transport.WorkerFiles`. What is read comes in base64: the SDK takes output for text."""

    MAX_READ_BYTES = 4 << 20

    def __init__(self, line: Line, sandbox: Any, work_dir: PurePosixPath, user: str | None) -> None:
        self._line = line
        self._sandbox = sandbox
        self._place = shell_path(work_dir)
        self._user = user
        self._read_at_s: dict[str, float] = {}

    def read(self, name: str, offset: int) -> bytes:
        now_s = monotonic()
        if now_s < self._read_at_s.get(name, 0.0) + READ_INTERVAL_S:
            return b""
        part = f"tail -c +{offset + 1} {quote(name)} 2>/dev/null | head -c {self.MAX_READ_BYTES} | base64 -w 0"
        try:
            output = self._output(f"cd {self._place} && {part}")
            text = self._line.ask("read", "the worker's files cannot be read", output)
            data = base64.b64decode(text, validate=True)
        except (SandboxError, binascii.Error) as exc:
            raise TransportClosed(str(exc)) from exc
        if len(data) < self.MAX_READ_BYTES:
            self._read_at_s[name] = now_s
        return data

    async def _output(self, command: str) -> str:
        try:
            return str((await self._sandbox.commands.run(command, user=self._user, timeout=COMMAND_LIMIT_S)).stdout)
        except e2b.CommandExitException:  # the folder is gone
            return ""

    def append(self, name: str, data: bytes) -> None:
        self._line.count("append", 2)  # and a third one here
        appended = self._appended(f"cd {self._place} && exec cat >> {quote(name)}", data)
        try:
            self._line.ask("append", "the worker's files cannot be written", appended, grace_s=LAST_WAIT_S)
        except SandboxError as exc:
            raise OSError(0, str(exc)) from exc

    async def _appended(self, command: str, data: bytes) -> None:
        """Through standard input: what stands in a command is shown to whoever lists the processes."""
        handle = await self._sandbox.commands.run(
            command, background=True, stdin=True, user=self._user, timeout=COMMAND_LIMIT_S
        )
        await handle.send_stdin(data)
        await handle.close_stdin()
        await handle.wait()


class StreamAgain:
    """
    Whether files are still all that is heard of a worker; asked at each look at them, it tries a stream now and then.

    Raises:
        TransportClosed: A stream speaks again.
    """

    def __init__(self, connected: Callable[[float], StreamTransport]) -> None:
        self._connected = connected
        self._next_s = monotonic() + STREAM_INTERVAL_S
        self._tried: StreamTransport | None = None

    def __call__(self) -> bool:
        now_s = monotonic()
        if self._tried is not None and (self._tried.has_output or now_s >= self._next_s):
            speaks = self._tried.has_output
            self._tried.close()
            self._tried, self._next_s = None, now_s + STREAM_INTERVAL_S
            if speaks:
                raise TransportClosed("the worker's stream speaks again")
        elif self._tried is None and now_s >= self._next_s:
            self._next_s = now_s + STREAM_LIMIT_S
            try:
                self._tried = self._connected(STREAM_LIMIT_S)
            except SandboxError:
                self._next_s = now_s + STREAM_INTERVAL_S
        return True
