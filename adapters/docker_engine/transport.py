"""Standard input and output of a container over one attached socket."""

from __future__ import annotations

import select
import socket
import ssl
import threading
from collections import deque
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any

from adapters.docker_engine.errors import EngineUnreachable, translate
from adapters.docker_engine.stream import STDERR, StreamBroken, StreamDemultiplexer
from remote.sandbox import TransportClosed

if TYPE_CHECKING:
    from collections.abc import Callable

    from adapters.docker_engine.client import Client

READ_BYTES = 256 << 10
TAIL_BYTES = 16 << 10
TAIL_LINES = 40
MAX_PENDING_BYTES = 16 << 20
"""How much of the worker's output is taken in while something is being sent to it."""

ATTACH_TIMEOUT_S = 15.0
_WAIT = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


def attach(
    client: Client,
    container: str,
    timeout_s: float = ATTACH_TIMEOUT_S,
    sink: Callable[[int, bytes], None] | None = None,
) -> AttachTransport:
    """
    A connection to the container's standard streams, before or while it runs.

    Raises:
        EngineUnreachable: It did not come about within `timeout_s`. The engine lets an attach wait for as long as
            another, which nobody reads, is full; it heeds no timeout of the SDK's.
        SandboxError: The engine refused.
    """
    attempt = _Attempt(client, container, sink)
    threading.Thread(target=attempt.run, name="osiris-docker-attach", daemon=True).start()
    return attempt.wait(timeout_s)


class _Attempt:
    """One attach in a thread of its own, which may be given up."""

    def __init__(self, client: Client, container: str, sink: Callable[[int, bytes], None] | None) -> None:
        self._sink = sink
        self._client = client
        self._container = container
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._given_up = False
        self._transport: AttachTransport | None = None
        self._error: Exception | None = None

    def run(self) -> None:
        try:
            with translate("the container cannot be attached to"):
                params = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
                stream = self._client.api.attach_socket(self._container, params)
                transport = AttachTransport(stream, self._sink)
        except Exception as exc:  # noqa: BLE001 - raised where it is waited for
            self._error = exc
        else:
            with self._lock:
                self._transport = transport
                if self._given_up:
                    transport.close()
        self._done.set()

    def wait(self, timeout_s: float) -> AttachTransport:
        if not self._done.wait(timeout_s):
            with self._lock:
                self._given_up = True
                if self._transport is None:
                    message = f"the container could not be attached to within {timeout_s:g} s"
                    raise EngineUnreachable(f"{message}; Docker Engine may be restarting")
        if self._error is not None:
            raise self._error
        assert self._transport is not None
        return self._transport


class AttachTransport:
    """
    A `Transport` over the engine's attached stream. Used by one thread at a time; `cut` by any.

    What the worker writes is also taken in while something is sent: neither side can wait for the other for ever.
    With a `sink` all that it writes goes there, as (stream, bytes), and `receive` returns nothing of it.
    """

    def __init__(self, stream: Any, sink: Callable[[int, bytes], None] | None = None) -> None:
        self._sink = sink
        self._stream = stream  # closes the socket when it is forgotten
        self._socket: socket.socket = getattr(stream, "_sock", stream)
        self._socket.setblocking(False)
        self._demultiplexer = StreamDemultiplexer()
        self._stderr = b""
        self._pending: deque[bytes] = deque()
        self._pending_bytes = 0
        self._closed = False
        self._at_end = False
        self._keep(_read_ahead(stream))

    def send(self, data: bytes, timeout_s: float) -> None:
        deadline_s = monotonic() + timeout_s
        view = memoryview(data)
        while view:
            if self._at_end:
                raise TransportClosed("the container's output ended")
            try:
                view = view[self._socket.send(view) :]
            except _WAIT:
                left_s = deadline_s - monotonic()
                if left_s <= 0:
                    raise TransportClosed(f"the worker took nothing for {timeout_s:g} s") from None
                if self._wait(left_s, sending=True):
                    self._take_in()
            except OSError as exc:
                raise TransportClosed(f"the connection to the container broke: {exc.strerror or exc}") from exc
            else:
                deadline_s = monotonic() + timeout_s

    def receive(self, timeout_s: float) -> bytes | None:
        deadline_s = monotonic() + timeout_s
        while True:
            if not self._at_end:
                self._take_in()
            if self._pending:
                data = self._pending.popleft()
                self._pending_bytes -= len(data)
                return data
            if self._at_end:
                raise TransportClosed("the container's output ended")
            left_s = deadline_s - monotonic()
            if left_s <= 0:
                return None
            self._wait(left_s, sending=False)

    def finish_sending(self) -> None:
        """The container's standard input ends here. Only where it was made to end with its first connection."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def stderr_tail(self) -> str:
        lines = self._stderr.decode("utf-8", "replace").splitlines()
        return "\n".join(lines[-TAIL_LINES:])

    def cut(self) -> None:
        """Nothing comes or goes any more, whoever is using it; by any thread. `close` is still needed."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self.cut()  # closing alone does not: the SDK's objects hold the socket too, and the engine would go on writing
        for item in (self._stream, self._socket):
            with suppress(OSError, ValueError):
                item.close()

    def _wait(self, timeout_s: float, *, sending: bool) -> bool:
        """Wait until the socket can be used; whether there is something to read."""
        if self._closed:
            raise TransportClosed("the connection was closed here")
        poll = select.poll()
        reading = not self._at_end and self._pending_bytes < MAX_PENDING_BYTES
        poll.register(self._socket, (select.POLLIN if reading else 0) | (select.POLLOUT if sending else 0))
        try:
            events = poll.poll(min(timeout_s, 1.0) * 1000)
        except (OSError, ValueError):  # closed meanwhile
            return True
        return reading and any(event & ~select.POLLOUT for _, event in events)

    def _take_in(self) -> None:
        """Read once, without waiting."""
        try:
            data = self._socket.recv(READ_BYTES)
        except _WAIT:
            return
        except (OSError, ValueError):
            data = b""
        if not data:
            self._at_end = True
        self._keep(data)

    def _keep(self, data: bytes) -> None:
        try:
            pieces = self._demultiplexer.feed(data)
        except StreamBroken as exc:
            raise TransportClosed(str(exc)) from exc
        for stream, piece in pieces:
            if self._sink is not None:
                self._sink(stream, piece)
            elif stream == STDERR:
                self._stderr = (self._stderr + piece)[-TAIL_BYTES:]
            else:
                self._pending.append(piece)
                self._pending_bytes += len(piece)


def _read_ahead(stream: Any) -> bytes:
    """
    What came right behind the answer's headers, and was read together with them.

    A worker that is busy writing when it is attached to loses it otherwise, and with it the next header.
    """
    buffered = getattr(getattr(getattr(stream, "_response", None), "raw", None), "_fp", None)
    reader = getattr(buffered, "fp", None)
    if reader is None:
        return b""
    data: bytes = reader.peek()
    return bytes(data)
