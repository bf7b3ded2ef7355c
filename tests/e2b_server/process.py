"""A process in a sandbox: its pipes, and those who listen to it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any

from tests.e2b_server.connect_protocol import Message, RpcError, encoded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.e2b_server.connection import Connection

PIECE_BYTES = 32 << 10
QUEUED_EVENTS = 64
FINAL_SIGNALS = (signal.SIGKILL, signal.SIGTERM)


class Subscriber:
    """A queue of at most 64 events between a process and one stream. Full, it holds the process up, and all others."""

    def __init__(self) -> None:
        self._events: deque[Message] = deque()
        self._changed = asyncio.Condition()
        self._closed = False

    async def put(self, event: Message) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._closed or len(self._events) < QUEUED_EVENTS)
            if not self._closed:
                self._events.append(event)
                self._changed.notify_all()

    async def get(self) -> Message:
        async with self._changed:
            await self._changed.wait_for(lambda: self._events)
            event = self._events.popleft()
            self._changed.notify_all()
            return event

    async def close(self) -> None:
        """Nothing is put any more, and nobody waits for room."""
        async with self._changed:
            self._closed = True
            self._events.clear()
            self._changed.notify_all()


class Process:
    """
    Started on construction, in a session of its own.

    Output that comes while nobody subscribes is dropped. `end` follows when both pipes are closed, by whomever they
    are held, or at once when the process was killed or terminated from outside.

    Attributes:
        config: As the client gave it.
        dropped_bytes: Output that nobody heard.
        end_event: Set when it has ended.
        streams: Who listens, by the connection it listens on.
        ghosts: Subscribers that stay although their stream has ended.
        cut_off: Set when the sandbox goes, to end its streams with an error.
    """

    def __init__(
        self,
        config: dict[str, Any],
        tag: str | None,
        argv: Sequence[str],
        environment: Mapping[str, str],
        cwd: str,
        *,
        stdin: bool,
    ) -> None:
        self.config, self.tag = config, tag
        self._popen = subprocess.Popen(
            argv,
            env=environment,
            cwd=cwd,
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            bufsize=0,
        )
        self.pid = self._popen.pid
        self.dropped_bytes = 0
        self.end_event: Message | None = None
        self.ended_s = 0.0
        self.streams: dict[Connection, Subscriber] = {}
        self.ghosts: set[Subscriber] = set()
        self.cut_off = asyncio.Event()
        self._subscribers: list[Subscriber] = []
        self._stdin_lock = asyncio.Lock()
        self._exited = asyncio.Event()
        self._final_signal = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._pidfd = os.pidfd_open(self.pid)
        self._loop.add_reader(self._pidfd, self._reap)
        if self._popen.stdin:
            os.set_blocking(self._popen.stdin.fileno(), False)
        self._task = self._loop.create_task(self._follow())

    def _reap(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._popen.wait()
        self._exited.set()

    async def _follow(self) -> None:
        assert self._popen.stdout
        assert self._popen.stderr
        pipes = {"stdout": self._popen.stdout.fileno(), "stderr": self._popen.stderr.fileno()}
        pumps = [self._loop.create_task(self._pump(fd, name)) for name, fd in pipes.items()]
        final = self._loop.create_task(self._final_signal.wait())
        await self._exited.wait()
        closed = self._loop.create_task(_all_of(pumps))
        await asyncio.wait([closed, final], return_when=asyncio.FIRST_COMPLETED)
        for task in (*pumps, closed, final):
            task.cancel()
        await asyncio.gather(*pumps, closed, final, return_exceptions=True)
        for pipe in (self._popen.stdin, self._popen.stdout, self._popen.stderr):
            if pipe:
                pipe.close()
        self.end_event = {"end": _how_it_ended(self._popen.returncode)}
        self.ended_s = monotonic()
        await self._publish(self.end_event)

    async def _pump(self, fd: int, name: str) -> None:
        os.set_blocking(fd, False)
        while True:
            await _ready(self._loop.add_reader, self._loop.remove_reader, fd)
            with contextlib.suppress(BlockingIOError):
                data = os.read(fd, PIECE_BYTES)
                if not data:
                    return
                if self._subscribers:
                    await self._publish({"data": {name: encoded(data)}})
                else:
                    self.dropped_bytes += len(data)

    async def _publish(self, event: Message) -> None:
        for subscriber in list(self._subscribers):
            await subscriber.put(event)

    def subscribe(self) -> Subscriber:
        subscriber = Subscriber()
        self._subscribers.append(subscriber)
        return subscriber

    async def unsubscribe(self, subscriber: Subscriber) -> None:
        """A ghost stays."""
        if subscriber not in self.ghosts and subscriber in self._subscribers:
            self._subscribers.remove(subscriber)
            await subscriber.close()

    async def write(self, data: bytes) -> None:
        """
        To its stdin, whole; waits while the pipe is full.

        Raises:
            RpcError: It has none, or it is closed.
        """
        async with self._stdin_lock:
            pipe = self._popen.stdin
            if pipe is None or pipe.closed:
                raise RpcError("internal", "error writing to stdin: stdin is not enabled or already closed")
            view = memoryview(data)
            while view:
                try:
                    view = view[os.write(pipe.fileno(), view) :]
                except BlockingIOError:
                    await _ready(self._loop.add_writer, self._loop.remove_writer, pipe.fileno())
                except OSError as exc:
                    raise RpcError("internal", f"error writing to stdin: {exc.strerror}") from exc

    async def close_stdin(self) -> None:
        async with self._stdin_lock:
            if self._popen.stdin:
                self._popen.stdin.close()

    def send_signal(self, number: signal.Signals) -> None:
        """To the process alone, not to what it started."""
        if number in FINAL_SIGNALS:
            self._final_signal.set()
        self._popen.send_signal(number)

    def kill_if_alive(self) -> None:
        if not self.end_event:
            self.send_signal(signal.SIGKILL)

    async def bury(self) -> None:
        """Wait for the end of one that was killed; nobody is told any more."""
        for subscriber in list(self._subscribers):
            await subscriber.close()
        self._final_signal.set()
        await self._task

    def haunt(self) -> None:
        """Keep everybody who listens now registered for good."""
        self.ghosts.update(self.streams.values())


def _how_it_ended(returncode: int) -> Message:
    if returncode < 0:
        name = {signal.SIGKILL: "killed", signal.SIGTERM: "terminated"}
        status = f"signal: {name.get(signal.Signals(-returncode), signal.strsignal(-returncode))}"
        return {"exitCode": -1, "exited": False, "status": status, "error": status}
    status = f"exit status {returncode}"
    end: Message = {"exited": True, "status": status}
    return {"exitCode": returncode, **end, "error": status} if returncode else end


async def _all_of(tasks: list[asyncio.Task[None]]) -> None:
    await asyncio.wait(tasks)


async def _ready(add: Any, remove: Any, fd: int) -> None:
    waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def wake() -> None:
        if not waiting.done():
            waiting.set_result(None)

    add(fd, wake)
    try:
        await waiting
    finally:
        remove(fd)
