"""HTTP/1.1 on one TCP connection: h11 knows the protocol, this moves the bytes, both ways at once."""

from __future__ import annotations

import asyncio
import itertools
import socket
import struct
from typing import TYPE_CHECKING

import h11

from tests.e2b_server.exchange import PeerGone

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

UNREAD_BYTES = 1 << 18
_numbers = itertools.count(1)


class Connection(asyncio.Protocol):
    """
    Serves the requests of one client, one after the other.

    Attributes:
        number: Tells connections apart in the record of requests.
        gone: Set as soon as the connection has ended, by whomever.
    """

    def __init__(self, serve: Callable[[Connection, h11.Request], Awaitable[None]], open_ones: set[Connection]) -> None:
        self.number = next(_numbers)
        self.gone = asyncio.Event()
        self._serve, self._open_ones = serve, open_ones
        self._http = h11.Connection(h11.SERVER)
        self._unread = bytearray()
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._socket: socket.socket = transport.get_extra_info("socket")
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._open_ones.add(self)
        self._task = asyncio.get_running_loop().create_task(self._serve_all())

    def data_received(self, data: bytes) -> None:
        self._unread += data
        if len(self._unread) > UNREAD_BYTES:
            self._transport.pause_reading()
        self._readable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._open_ones.discard(self)
        self.gone.set()
        self._readable.set()
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def reset(self) -> None:
        """End it with a TCP reset: what was not sent yet is lost, and the client is told that the stream broke."""
        if not self.gone.is_set():
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()
            self.gone.set()

    async def _serve_all(self) -> None:
        try:
            while True:
                event = await self._next_event()
                if not isinstance(event, h11.Request):
                    break
                await self._serve(self, event)
                await self._rest_of_body()
                if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
                    break
                self._http.start_next_cycle()
        except (PeerGone, h11.ProtocolError):
            pass
        finally:
            self._transport.close()

    async def _next_event(self) -> h11.Event | type[h11.PAUSED]:
        while True:
            event = self._http.next_event()
            if event is not h11.NEED_DATA:
                assert not isinstance(event, type) or event is h11.PAUSED
                return event
            if self._http.they_are_waiting_for_100_continue:
                self._write(h11.InformationalResponse(status_code=100, headers=[]))
            while not self._unread:
                if self.gone.is_set():
                    raise PeerGone
                self._readable.clear()
                await self._readable.wait()
            data = bytes(self._unread)
            self._unread.clear()
            self._transport.resume_reading()
            self._http.receive_data(data)

    async def body_pieces(self) -> AsyncIterator[bytes]:
        while self._http.their_state is h11.SEND_BODY:
            event = await self._next_event()
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            elif not isinstance(event, h11.EndOfMessage):
                raise PeerGone

    async def _rest_of_body(self) -> None:
        async for _ in self.body_pieces():
            pass

    async def send_head(self, status: int, headers: dict[str, str]) -> None:
        self._write(h11.Response(status_code=status, headers=list(headers.items())))
        await self._drain()

    async def send_body(self, data: bytes) -> None:
        self._write(h11.Data(data=data))
        await self._drain()

    async def finish(self) -> None:
        self._write(h11.EndOfMessage())
        await self._drain()

    def _write(self, event: h11.Event) -> None:
        if self.gone.is_set():
            raise PeerGone
        self._transport.write(self._http.send(event) or b"")

    async def _drain(self) -> None:
        await self._writable.wait()
        if self.gone.is_set():
            raise PeerGone
