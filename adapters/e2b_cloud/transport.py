"""Standard input and output of a process in a sandbox: the SDK's stream of its output, requests for its input."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any

import e2b

from adapters.e2b_cloud.errors import NotNow, SandboxGone
from adapters.e2b_cloud.line import LAST_WAIT_S
from remote.sandbox import SandboxError, TransportClosed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from adapters.e2b_cloud.line import Line
    from adapters.e2b_cloud.loop import PrivateLoop

MAX_PENDING_BYTES = 16 << 20
"""Past this much that the host has not taken, no more is read: the worker keeps it in its journal."""
PIECE_BYTES = 4 << 20
"""The largest input that is sent in one request."""
TAIL_BYTES = 16 << 10
TAIL_LINES = 40
PAUSE_S = 0.5
"""Between two tries of a request that was refused unseen, for being one too many."""
HANG_UP_S = 2.0


class Output:
    """What a process wrote, on its way from the loop to the thread that waits for it."""

    def __init__(self, loop: PrivateLoop) -> None:
        self._loop = loop
        self._arrived = threading.Condition()
        self._pieces: deque[bytes] = deque()
        self._size_bytes = 0
        self._room: asyncio.Event | None = None
        self._stderr = b""
        self._end: str | None = None
        self.has_come = False

    # In the loop.

    async def put(self, text: str) -> None:
        """Called with standard output, which is JSON in UTF-8: decoding it lost nothing."""
        data = text.encode("utf-8", "surrogatepass")
        with self._arrived:
            self.has_come = True
            self._pieces.append(data)
            self._size_bytes += len(data)
            self._arrived.notify()
            if self._size_bytes < MAX_PENDING_BYTES:
                return
            self._room = asyncio.Event()
        await self._room.wait()

    async def put_error(self, text: str) -> None:
        with self._arrived:
            self._stderr = (self._stderr + text.encode("utf-8", "surrogatepass"))[-TAIL_BYTES:]

    def end(self, reason: str) -> None:
        """Nothing more will come, for this reason; by any thread."""
        with self._arrived:
            self._end = self._end or reason
            self._arrived.notify_all()

    # In the thread that waits.

    def take(self, timeout_s: float) -> bytes | None:
        """All that came; None when nothing did in time. Raises TransportClosed at the end."""
        deadline_s = monotonic() + timeout_s
        with self._arrived:
            while not self._pieces:
                if self._end is not None:
                    raise TransportClosed(self._end)
                left_s = deadline_s - monotonic()
                if left_s <= 0:
                    return None
                self._arrived.wait(left_s)
            data = b"".join(self._pieces)
            self._pieces.clear()
            self._size_bytes = 0
            room, self._room = self._room, None
        if room is not None:
            self._loop.call(room.set)
        return data

    @property
    def ended(self) -> str | None:
        return self._end

    def stderr_tail(self) -> str:
        return "\n".join(self._stderr.decode("utf-8", "replace").splitlines()[-TAIL_LINES:])


class StreamTransport:
    """
    A `Transport` over one stream of the SDK's. `open` makes it; the process lives on when it is closed.

    Attributes:
        pid: The process's, in the sandbox.
        exit_code: How it ended, once that was said on this stream; negative when it was killed.
        is_again: The process was running already.
        was_silent: It was closed here while it was open, and nothing had ever come over it.
    """

    def __init__(self, line: Line, commands: Any, timeout_s: float) -> None:
        self.pid = -1
        self.exit_code: int | None = None
        self.is_again = False
        self.was_silent = False
        self._line = line
        self._commands = commands
        self._timeout_s = timeout_s
        self._output = Output(line.loop)
        self._handle: Any = None
        self._watch: Any = None
        self._closed = False

    async def begin(self, open_stream: Callable[[Output], Awaitable[Any]]) -> None:
        """In the loop: have the stream opened, and follow it. What that raises is raised."""
        self._handle = await open_stream(self._output)
        self.pid = int(self._handle.pid)
        self._watch = asyncio.get_running_loop().create_task(self._follow())

    async def _follow(self) -> None:
        reason = "the process in the sandbox ended"
        try:
            with self._line.errors("the stream broke"):
                self.exit_code = await self._ended()
        except SandboxError as exc:
            reason = str(exc)
        except asyncio.CancelledError:
            reason = "the connection was closed here"
        except BaseException as exc:
            reason = str(exc)
            raise
        finally:
            self._output.end(reason)

    async def _ended(self) -> int:
        """The exit code, when the process ends."""
        try:
            result = await self._handle.wait()
        except e2b.CommandExitException as exc:
            return int(exc.exit_code)
        return int(result.exit_code)

    def send(self, data: bytes, timeout_s: float) -> None:
        deadline_s = monotonic() + timeout_s
        for start in range(0, len(data), PIECE_BYTES):
            self._send_piece(data[start : start + PIECE_BYTES], deadline_s, timeout_s)

    def _send_piece(self, data: bytes, deadline_s: float, timeout_s: float) -> None:
        """One request. It is asked again only when it was refused unseen: sent twice it could be obeyed twice."""
        while True:
            if self._closed or self._output.ended is not None:
                raise TransportClosed(self._output.ended or "it was closed here")
            left_s = max(min(deadline_s - monotonic(), self._timeout_s), 0.1)
            sent = self._commands.send_stdin(self.pid, data, request_timeout=left_s)
            try:
                self._line.ask("stdin", "the worker cannot be written to", sent, limit_s=left_s, grace_s=LAST_WAIT_S)
                return
            except NotNow as exc:
                if monotonic() + PAUSE_S > deadline_s:
                    raise TransportClosed(f"the worker took nothing for {timeout_s:g} s: {exc}") from exc
            except SandboxGone as exc:
                self._output.end(str(exc))
                raise TransportClosed(str(exc)) from exc
            except SandboxError as exc:
                raise TransportClosed(str(exc)) from exc
            threading.Event().wait(PAUSE_S)

    def receive(self, timeout_s: float) -> bytes | None:
        if self._closed:
            raise TransportClosed("it was closed here")
        return self._output.take(timeout_s)

    @property
    def has_output(self) -> bool:
        """Whether anything came."""
        return self._output.has_come

    def stderr_tail(self) -> str:
        return self._output.stderr_tail()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self.was_silent = self._output.ended is None and not self._output.has_come
        self._output.end("it was closed here")
        if self._handle is not None:
            with suppress(Exception):  # a stream that will not be hung up is the far end's to notice
                self._line.loop.begin(self._hang_up()).result(HANG_UP_S)

    async def _hang_up(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
        await self._handle.disconnect()


def open_started(
    line: Line,
    commands: Any,
    command: str,
    environment: dict[str, str],
    *,
    user: str | None,
    timeout_s: float,
) -> StreamTransport:
    """
    Start a process and follow it; without a time limit, which would kill it.

    Raises:
        SandboxError: It cannot be started, or whether it was is not known.
    """
    transport = StreamTransport(line, commands, timeout_s)

    async def stream(output: Output) -> Any:
        return await commands.run(
            command,
            background=True,
            envs=environment,
            user=user,
            stdin=True,
            timeout=0,
            request_timeout=timeout_s,
            on_stdout=output.put,
            on_stderr=output.put_error,
            retain_output=False,
        )

    line.ask("start", "the worker cannot be started", transport.begin(stream))
    return transport


def open_connected(
    line: Line, commands: Any, pid: int, timeout_s: float, limit_s: float | None = None
) -> StreamTransport:
    """
    Follow a process that runs, or ended just now.

    Raises:
        SandboxError: It cannot be reached, or is not there any more.
    """
    transport = StreamTransport(line, commands, timeout_s)
    transport.is_again = True

    async def stream(output: Output) -> Any:
        return await commands.connect(
            pid,
            timeout=0,
            request_timeout=timeout_s,
            on_stdout=output.put,
            on_stderr=output.put_error,
            retain_output=False,
        )

    line.ask("connect", "the worker cannot be connected to again", transport.begin(stream), limit_s=limit_s)
    return transport
