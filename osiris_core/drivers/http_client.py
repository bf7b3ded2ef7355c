"""
The one place that speaks HTTP: limits, redirects, failures in our words, and an end at once when the step is to stop.

Requests run in an event loop of the client's own, in the thread that asks: only so is a request that waits, wherever
it waits (for a name, a connection, TLS, the next byte), ended from another thread.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from osiris_core import __version__
from osiris_core.drivers.http_address import against, host_of, origin, shown, with_parameters
from osiris_core.drivers.http_body import BodyDamaged, BodyReader, BodyTooLarge
from osiris_core.drivers.http_errors import Aborted, HttpFailure, status_failure
from osiris_core.drivers.http_retry import Again, retrying
from osiris_core.drivers.http_transport import Transport, explain
from osiris_core.errors import FailureClass

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from osiris_core.drivers.http_connection import ApiConnection
    from osiris_core.drivers.http_transport import Reply
    from osiris_core.redaction import Redactor

_REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True)
class HttpLimits:
    """How long and how large. A request's time counts from asking to its last byte, each try anew."""

    connect_timeout_s: float = 10.0
    read_timeout_s: float = 30.0
    request_timeout_s: float = 300.0
    max_response_bytes: int = 64 << 20
    max_redirects: int = 5
    again: Again = field(default_factory=Again)


@dataclass(frozen=True)
class Request:
    """
    What is asked. `idempotent`: asking twice does what asking once does, so it may be asked again after a lost answer.
    """

    url: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    idempotent: bool = True


@dataclass(frozen=True)
class Answer:
    """What came back: header names in lower case, the body unpacked. `links` has the `Link` header by `rel`."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    links: Mapping[str, str] = field(default_factory=dict)


class HttpClient:
    """
    Asks one server, as one connection says. For one thread; `cancel` may be called from any, at any time.

    Args:
        on_retry: Called before each pause with the failure, the number of the next try, and the seconds.
    """

    def __init__(
        self,
        connection: ApiConnection,
        limits: HttpLimits,
        redactor: Redactor,
        *,
        ca_file: str | None = None,
        on_retry: Callable[[HttpFailure, int, float], object] | None = None,
    ) -> None:
        self._connection = connection
        self._limits = limits
        self._redactor = redactor
        self._on_retry = on_retry
        self._cancelled = False
        self._task: asyncio.Task[Answer] | None = None
        self.requests = 0
        self._ca_file = ca_file
        self._transports: dict[str, Transport] = {}
        self._transport(connection.address)  # so that settings that cannot be used are found at once
        self._loop = asyncio.new_event_loop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of every connection. May be called twice."""
        if not self._loop.is_closed():
            try:
                for transport in self._transports.values():
                    self._loop.run_until_complete(transport.close())
                self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            finally:
                self._loop.close()  # without waiting for a name that is still being looked up

    def _transport(self, url: str) -> Transport:
        scheme = origin(url)[0]
        if scheme not in self._transports:
            self._transports[scheme] = Transport(self._connection, self._ca_file, scheme)
        return self._transports[scheme]

    def cancel(self) -> None:
        """End the request under way, and every later one: `fetch` raises `Aborted`."""
        self._cancelled = True
        try:
            self._loop.call_soon_threadsafe(self._cancel_task)
        except RuntimeError:
            return  # closed

    def _cancel_task(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def fetch(self, request: Request, check: Callable[[Answer], object] | None = None) -> Answer:
        """
        The answer to a request; asked again, after a pause, where that can help and does no harm.

        `check` looks at each answer and may raise `HttpFailure` itself, for an error that the body tells.

        Raises:
            HttpFailure: The last failure, by its class.
            Aborted: `cancel` was called.
        """
        if self._cancelled:
            raise Aborted
        again = retrying(self._limits.again, self._on_retry)
        self._task = self._loop.create_task(again(self._try, request, check))
        try:
            return self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            raise Aborted from None
        finally:
            self._task = None

    def where(self, request: Request) -> str:
        """A request for people: its method, and its address without a secret."""
        return f"{request.method} {self._shown(request.url)}"

    def _shown(self, url: str) -> str:
        names = [name for name, _ in self._connection.auth_parameters()]
        return shown(url, self._redactor, names)

    async def _try(self, request: Request, check: Callable[[Answer], object] | None) -> Answer:
        where = self.where(request)
        try:
            async with asyncio.timeout(self._limits.request_timeout_s):
                answer = await self._follow(request, where)
        except HttpFailure:
            raise
        except TimeoutError as exc:
            raise HttpFailure(
                f"{where}: no whole answer within {self._limits.request_timeout_s:g} s",
                failure_class=FailureClass.INFRA_LOST,
                again=request.idempotent,
                maybe_done=True,
                details={"request": where},
            ) from exc
        except Exception as exc:
            failure = explain(exc, where, host_of(request.url), self._limits, idempotent=request.idempotent)
            if failure is None:
                raise
            raise failure from exc
        if answer.status >= 300:
            raise status_failure(
                answer.status, answer.headers, answer.body, where, self._redactor, idempotent=request.idempotent
            )
        if check is not None:
            check(answer)
        return answer

    async def _follow(self, request: Request, where: str) -> Answer:
        """The answer behind all redirects."""
        url, method, body = request.url, request.method, request.body
        seen = {url}
        while True:
            self._guard(url, where, request)
            answer = await self._send(url, method, request.headers, body, where)
            target = answer.headers.get("location")
            if answer.status not in _REDIRECTS or not target:
                return answer
            url = against(url, target)
            if url in seen or len(seen) > self._limits.max_redirects:
                what = "redirects lead round in a circle" if url in seen else f"more than {len(seen) - 1} redirects"
                raise _refused(f"{where}: {what}, the last one to {self._shown(url)}", where)
            seen.add(url)
            if answer.status == 303 or (answer.status in (301, 302) and method == "POST"):
                method, body = "GET", None

    def _guard(self, url: str, where: str, request: Request) -> None:
        """Credentials go to the server of the connection, and nowhere else."""
        if origin(url) == origin(self._connection.address):
            return
        if origin(url)[0] not in ("http", "https"):
            raise _refused(f"{where}: leads to {self._shown(url)}, which is no address of HTTP", where)
        if self._connection.has_credentials or request.headers or request.body is not None:
            home = host_of(self._connection.address)
            raise _refused(
                f"{where}: leads to another server, {self._shown(url)}; what is meant for {home} (credentials, "
                f"headers, body) is not sent there. If it is the right one, name it in the connection",
                where,
            )

    async def _send(self, url: str, method: str, headers: Mapping[str, str], body: bytes | None, where: str) -> Answer:
        self.requests += 1
        url_with_key = with_parameters(url, self._connection.auth_parameters())
        reply = await self._transport(url).send(method, url_with_key, self._headers(headers), body, self._limits)
        try:
            content = await self._read(reply, where)
        finally:
            await reply.close()
        return Answer(url, reply.status, reply.headers, content, reply.links)

    def _headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        merged = {
            "user-agent": f"osiris-core/{__version__}",
            "accept": "application/json",
            "accept-encoding": "gzip, deflate",
        }
        for given in (self._connection.headers, headers, self._connection.auth_headers()):
            merged.update({name.lower(): value for name, value in given.items()})
        return merged

    async def _read(self, reply: Reply, where: str) -> bytes:
        limit_bytes = self._limits.max_response_bytes
        try:
            reader = BodyReader(reply.headers.get("content-encoding", ""), limit_bytes)
            async with aclosing(reply.pieces()) as pieces:
                async for piece in pieces:
                    reader.feed(piece)
            return reader.finish()
        except BodyTooLarge:
            raise HttpFailure(
                f"{where}: the answer is larger than {limit_bytes} bytes, unpacked; ask for smaller pages, or raise "
                "max_response_bytes",
                failure_class=FailureClass.USER_ERROR,
                details={"request": where, "max_response_bytes": limit_bytes},
            ) from None
        except BodyDamaged as exc:
            raise HttpFailure(
                f"{where}: the answer is damaged: {exc}",
                failure_class=FailureClass.PROTOCOL,
                details={"request": where},
            ) from exc


def _refused(message: str, where: str) -> HttpFailure:
    return HttpFailure(message, failure_class=FailureClass.USER_ERROR, details={"request": where})
