"""One request and its answer, with the faults that they meet."""

from __future__ import annotations

import asyncio
import json
from time import monotonic
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.e2b_server.connection import Connection
    from tests.e2b_server.faults import Fault, Kind
    from tests.e2b_server.policy import Policy
    from tests.e2b_server.seen import Request

BODYLESS = {204, 304}


class PeerGone(Exception):
    """The client is not there any more, or was made not to be."""


class AnswerOver(Exception):
    """The answer was ended before its handler was done; the connection is as good as ever."""


class Exchange:
    """
    What a handler works with. A handler answers once: `answer`, `answer_json`, or `begin`, `send` … `finish`.

    Attributes:
        query: The parameters of the address; of one that stands twice the first.
        gone: Set as soon as the client's connection has ended.
    """

    def __init__(
        self,
        connection: Connection,
        seen: Request,
        query: dict[str, str],
        faults: dict[Kind, Fault],
        policy: Policy,
    ) -> None:
        self.connection, self.seen, self.query, self.faults, self.policy = connection, seen, query, faults, policy
        self.gone = connection.gone
        self.answered = False

    @property
    def headers(self) -> dict[str, str]:
        return self.seen.headers

    async def body_pieces(self) -> AsyncIterator[bytes]:
        """
        The request's body as it comes.

        Raises:
            PeerGone: The connection ended within it, or a fault ended it.
        """
        cut = self.faults.get("cut_upload")
        async for piece in self.connection.body_pieces():
            if cut and self.seen.up_bytes + len(piece) >= cut.at_byte:
                kept = piece[: cut.at_byte - self.seen.up_bytes]
                self.seen.keep(kept)
                yield kept
                self.reset()
            self.seen.keep(piece)
            yield piece

    async def body(self) -> bytes:
        return b"".join([piece async for piece in self.body_pieces()])

    async def body_json(self) -> Any:
        return json.loads(await self.body() or b"{}")

    async def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        """A whole answer."""
        length = {} if status in BODYLESS else {"Content-Length": str(len(body))}
        await self.begin(status, {**(headers or {}), **length})
        if body:
            await self.send(body)
        await self.finish()

    async def answer_json(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        await self.answer(status, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})

    async def refuse(self, status: int, message: str, error_code: str | None = None) -> None:
        """An error as both planes give it."""
        code = {} if error_code is None else {"error_code": error_code}
        await self.answer_json(status, {"code": status, "message": message, **code})

    async def begin(self, status: int, headers: dict[str, str]) -> None:
        """The answer's head. Without a Content-Length its body is sent in chunks."""
        self.answered = True
        if "lose_answer" in self.faults:
            self.reset()
        if "hang_answer" in self.faults:
            await self.hang()
        self.seen.status = status
        await self.connection.send_head(status, headers)

    async def send(self, data: bytes) -> None:
        """
        A piece of the answer's body; waits while the client does not read.

        Raises:
            PeerGone: There is nobody to send it to.
            AnswerOver: A fault ended the answer.
        """
        size = self.policy.piece_bytes or len(data) or 1
        for start in range(0, len(data), size):
            await self._send_piece(data[start : start + size])

    async def _send_piece(self, piece: bytes) -> None:
        for kind in ("cut", "stall", "truncate"):
            fault = self.faults.get(kind)
            if fault and self.seen.down_bytes + len(piece) > fault.at_byte:
                rest = piece[: max(0, fault.at_byte - self.seen.down_bytes)]
                if rest:
                    self.seen.down_bytes += len(rest)
                    await self.connection.send_body(rest)
                if kind == "stall":
                    await self.hang()
                if kind == "truncate":
                    await self.finish()
                    raise AnswerOver
                # What the kernel still holds is thrown away by a reset: the client shall get those bytes.
                await asyncio.sleep(0.02)
                self.reset()
        self.seen.down_bytes += len(piece)
        self.seen.answered_s = self.seen.answered_s or monotonic()
        await self.connection.send_body(piece)

    async def finish(self) -> None:
        await self.connection.finish()
        self.seen.ended_s = monotonic()
        self.seen.answered_s = self.seen.answered_s or self.seen.ended_s

    async def hang(self) -> None:
        """
        Wait until the client has had enough.

        Raises:
            PeerGone: It has.
        """
        await self.gone.wait()
        raise PeerGone

    def reset(self) -> None:
        """
        Raises:
            PeerGone: In any case.
        """
        self.connection.reset()
        raise PeerGone
