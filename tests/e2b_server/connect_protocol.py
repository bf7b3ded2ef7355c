"""The Connect protocol with its JSON codec: envelopes, errors, and streams with their keepalives."""

from __future__ import annotations

import base64
import json
import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from tests.e2b_server.exchange import Exchange

HTTP_STATUSES = {
    "canceled": 499,
    "unknown": 500,
    "invalid_argument": 400,
    "deadline_exceeded": 504,
    "not_found": 404,
    "already_exists": 409,
    "permission_denied": 403,
    "resource_exhausted": 429,
    "unimplemented": 501,
    "internal": 500,
    "unavailable": 503,
    "unauthenticated": 401,
}
STREAM_TYPE = "application/connect+json"
END_OF_STREAM = 0x02
Message = dict[str, Any]


class RpcError(Exception):
    """Ends a call with one of the protocol's codes."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message

    def as_json(self) -> dict[str, str]:
        return {"code": self.code, "message": self.message}


def envelope(message: Mapping[str, Any], flags: int = 0) -> bytes:
    data = json.dumps(message, separators=(",", ":")).encode()
    return struct.pack(">BI", flags, len(data)) + data


class EnvelopeReader:
    """Turns bytes, however they are cut, into messages."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, data: bytes) -> Iterator[Message]:
        self._pending += data
        while len(self._pending) >= 5:
            flags, size = struct.unpack_from(">BI", self._pending)
            if len(self._pending) < 5 + size:
                return
            content = bytes(self._pending[5 : 5 + size])
            del self._pending[: 5 + size]
            if not flags & END_OF_STREAM:
                yield json.loads(content or b"{}")


def encoded(data: bytes) -> str:
    """Bytes as JSON carries them."""
    return base64.b64encode(data).decode()


def decoded(text: str) -> bytes:
    return base64.b64decode(text)


def timeout_s(headers: Mapping[str, str]) -> float | None:
    """The deadline that the client sets to the call."""
    text = headers.get("connect-timeout-ms")
    return int(text) / 1000 if text and int(text) else None


def keepalive_s(exchange: Exchange) -> float:
    """After how much silence a stream carries a keepalive."""
    if exchange.policy.keepalive_s is not None:
        return exchange.policy.keepalive_s
    return float(exchange.headers.get("keepalive-ping-interval") or 90)


async def unary_request(exchange: Exchange) -> Message:
    message = await exchange.body_json()
    if not isinstance(message, dict):
        raise RpcError("invalid_argument", "a message is a JSON object")
    return message


async def stream_requests(exchange: Exchange) -> AsyncIterator[Message]:
    """The messages of a client that streams, as they come."""
    reader = EnvelopeReader()
    async for piece in exchange.body_pieces():
        for message in reader.feed(piece):
            yield message


async def answer_unary(exchange: Exchange, message: Message) -> None:
    await exchange.answer_json(200, message)


async def answer_error(exchange: Exchange, error: RpcError) -> None:
    """An error of a call whose answer is one message."""
    await exchange.answer_json(HTTP_STATUSES[error.code], error.as_json())


async def answer_stream(exchange: Exchange, messages: AsyncIterator[Message]) -> None:
    """Whatever comes, in envelopes; an `RpcError` of the iterator goes into the last one."""
    await exchange.begin(200, {"Content-Type": STREAM_TYPE})
    sent = 0
    trailer: Message = {}
    early, no_end = exchange.faults.get("end_early"), "drop_end" in exchange.faults
    try:
        async for message in messages:
            if early and sent >= early.after_events:
                raise RpcError(early.code, early.message)
            if no_end and "end" in message.get("event", {}):
                break
            await exchange.send(envelope(message))
            sent += 1
    except RpcError as error:
        trailer = {"error": error.as_json()}
    finally:
        await messages.aclose()  # type: ignore[attr-defined]
    if not no_end:
        await exchange.send(envelope(trailer, END_OF_STREAM))
    await exchange.finish()
