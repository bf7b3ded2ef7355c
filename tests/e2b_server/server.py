"""The server and all that a test does with it."""

from __future__ import annotations

import asyncio
import base64
import secrets
import shutil
import socket
import threading
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from tests.e2b_server import files, filesystem_service, process_service
from tests.e2b_server.connect_protocol import RpcError, answer_error
from tests.e2b_server.connection import Connection
from tests.e2b_server.control_plane import ControlPlane, Refused
from tests.e2b_server.exchange import AnswerOver, Exchange
from tests.e2b_server.faults import Faults
from tests.e2b_server.places import places_of
from tests.e2b_server.policy import Policy
from tests.e2b_server.seen import Request, Seen, kind_of
from tests.e2b_server.template_plane import TemplatePlane
from tests.e2b_server.templates import Templates

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path
    from typing import Self

    import h11

    from tests.e2b_server.sandbox import Sandbox

USERS = ("user", "root")
ENVD_PATHS = ("/process.Process/", "/filesystem.Filesystem/", "/health", "/files")


class E2BServer:
    """
    Speaks E2B's control plane and envd's protocol on one port, in a thread of its own. Use it with `with`.

    Attributes:
        policy: How it behaves; may be changed at any time.
        faults: What goes wrong.
        seen: Every request.
        api_key: The only one that it takes.
    """

    def __init__(self, folder: Path, policy: Policy | None = None) -> None:
        self.folder = folder
        self.policy = policy or Policy()
        self.faults, self.seen = Faults(), Seen()
        self.api_key = f"e2b_{secrets.token_hex(20)}"
        self._connections: set[Connection] = set()
        self._listener: asyncio.Server | None = None
        self.port = 0

    def __enter__(self) -> Self:
        self.templates = Templates(self.folder / "templates")
        self._template_plane = TemplatePlane(self.templates)
        self._plane = ControlPlane(self.folder / "sandboxes", self.templates, self.policy)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="e2b-server", daemon=True)
        self._thread.start()
        self._do(self._listen())
        self._expiry = asyncio.run_coroutine_threadsafe(self._plane.expire(), self._loop)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """
        End every sandbox and every connection.

        Raises:
            AssertionError: A process of a sandbox lives on.
        """
        self._expiry.cancel()
        try:
            self._do(self._end_all())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            shutil.rmtree(self.folder / "sandboxes", ignore_errors=True)

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def sandbox_url(self) -> str:
        return self.api_url

    def environment(self) -> dict[str, str]:
        """What makes the SDK of another process speak to this server."""
        return {
            "E2B_API_KEY": self.api_key,
            "E2B_API_URL": self.api_url,
            "E2B_SANDBOX_URL": self.sandbox_url,
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
        }

    @property
    def sandboxes(self) -> dict[str, Sandbox]:
        return dict(self._plane.sandboxes)

    @property
    def sandbox(self) -> Sandbox:
        """The only one that there ever was."""
        (found,) = self.sandboxes.values()
        return found

    def cut_streams(self) -> int:
        """Reset every open stream of a process; how many there were."""
        count: int = self._do(self._cut_streams())
        return count

    def restart(self, down_s: float = 0.3) -> None:
        """Reset every connection and listen again after `down_s`; sandboxes live on, as behind a new edge."""
        self._do(self._restart(down_s))

    def pause(self, sandbox_id: str) -> None:
        self._do(self._plane.sandboxes[sandbox_id].pause())

    def resume(self, sandbox_id: str, timeout_s: float = 300) -> None:
        """As another client's `connect` does it."""
        self._do(self._plane.sandboxes[sandbox_id].resume(timeout_s))

    def haunt(self, sandbox_id: str) -> None:
        """As a pause and a resume that nobody noticed: streams are reset, and stay registered as ghosts."""
        self._do(self._plane.sandboxes[sandbox_id].haunt())

    def expire(self, sandbox_id: str) -> None:
        """As if its time were over."""
        sandbox = self._plane.sandboxes[sandbox_id]
        self._do(sandbox.pause() if sandbox.pauses_at_end else sandbox.kill())

    def lose(self, sandbox_id: str) -> None:
        """As if its host had died."""
        self._do(self._plane.sandboxes[sandbox_id].kill())

    def places_of(self, text: str) -> list[str]:
        """
        Where a text is or was to be found, other than in what went to a process's stdin: bodies and headers of
        requests, the environments and command lines of living processes, files of sandboxes that are still there.
        """
        return places_of(text, self.seen.requests, self.sandboxes.values())

    def _do(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    async def _listen(self) -> None:
        listener = socket.create_server(("127.0.0.1", self.port), backlog=512)
        self.port = listener.getsockname()[1]
        self._listener = await self._loop.create_server(
            lambda: Connection(self._serve, self._connections), sock=listener
        )

    async def _restart(self, down_s: float) -> None:
        assert self._listener
        self._listener.close()
        for connection in list(self._connections):
            connection.reset()
        await asyncio.sleep(down_s)
        await self._listen()

    async def _cut_streams(self) -> int:
        processes = [process for sandbox in self._plane.sandboxes.values() for process in sandbox.processes.values()]
        streams = [stream for process in processes for stream in list(process.streams)]
        for stream in streams:
            stream.reset()
        return len(streams)

    async def _end_all(self) -> None:
        assert self._listener
        self._listener.close()
        for sandbox in self._plane.sandboxes.values():
            if sandbox.state != "gone":
                await sandbox.kill()
        for connection in list(self._connections):
            connection.reset()
        await asyncio.sleep(0)
        ours = asyncio.current_task()
        rest = [task for task in asyncio.all_tasks() if task is not ours]
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    async def _serve(self, connection: Connection, request: h11.Request) -> None:
        method, address = request.method.decode(), urlsplit(request.target.decode())
        seen = Request(
            kind=kind_of(f"{method} {address.path}"),
            method=method,
            path=address.path,
            query=address.query,
            headers={name.decode(): value.decode("latin-1") for name, value in request.headers},
            connection=connection.number,
            started_s=monotonic(),
        )
        faults = self.faults.of(f"{method} {address.path}")
        seen.fault = tuple(faults)
        self.seen.add(seen)
        query = dict(reversed(parse_qsl(address.query, keep_blank_values=True)))
        exchange = Exchange(connection, seen, query, faults, self.policy)
        try:
            await self._meet_faults(exchange)
            with suppress(AnswerOver):
                await self._route(exchange)
        finally:
            seen.ended_s = seen.ended_s or monotonic()

    async def _meet_faults(self, exchange: Exchange) -> None:
        faults = exchange.faults
        delay = faults.get("delay")
        if wait_s := self.policy.latency_s + (delay.seconds if delay else 0):
            await asyncio.sleep(wait_s)
        if "refuse" in faults or "hang" in faults:
            await exchange.body()
            if "hang" in faults:
                await exchange.hang()
            exchange.reset()

    async def _route(self, exchange: Exchange) -> None:
        try:
            if answer := exchange.faults.get("answer"):
                await exchange.body()
                await _canned(exchange, answer.status, answer.body, answer.headers)
            elif exchange.seen.path.startswith(ENVD_PATHS):
                await self._envd(exchange)
            elif exchange.seen.kind == "template.upload":
                await self._template_plane.upload(exchange)
            elif exchange.headers.get("x-api-key") != self.api_key:
                await exchange.refuse(401, "Invalid API key, please visit https://e2b.dev/docs for more information.")
            elif not await self._template_plane.serve(exchange):
                await self._plane.serve(exchange)
        except Refused as exc:
            code = {} if exc.error_code is None else {"error_code": exc.error_code}
            await exchange.answer_json(exc.status, {"code": exc.status, "message": exc.message, **code}, exc.headers)
        except RpcError as exc:
            await answer_error(exchange, exc)

    async def _envd(self, exchange: Exchange) -> None:
        path = exchange.seen.path
        sandbox = self._sandbox_of(exchange)
        if sandbox is None or sandbox.state != "running":
            sandbox_id = exchange.headers.get("e2b-sandbox-id", "")
            gone = {"sandboxId": sandbox_id, "message": "The sandbox was not found", "code": 502}
            await exchange.answer_json(502, gone)
            return
        exchange.seen.sandbox_id = sandbox.sandbox_id
        sandbox.connections.add(exchange.connection)
        try:
            if path == "/health":
                await exchange.answer(204)
            elif path == "/files":
                await files.serve(exchange, sandbox)
            elif not secrets.compare_digest(exchange.headers.get("x-access-token", ""), sandbox.token):
                await exchange.refuse(401, "unauthorized access, please provide a valid access token")
            elif (user := _user_of(exchange)) not in USERS:
                raise RpcError("unauthenticated", f"invalid username: '{user}'")
            else:
                service, method = path[1:].split("/", 1)
                serve = process_service.serve if service == "process.Process" else filesystem_service.serve
                await serve(method, exchange, sandbox)
        finally:
            sandbox.connections.discard(exchange.connection)

    def _sandbox_of(self, exchange: Exchange) -> Sandbox | None:
        """By header; a signed address has none, and belongs to the sandbox whose token signed it."""
        if sandbox_id := exchange.headers.get("e2b-sandbox-id"):
            return self._plane.sandboxes.get(sandbox_id)
        signed_by = (sandbox for sandbox in self._plane.sandboxes.values() if files.is_signed(exchange, sandbox))
        return next(signed_by, None)


def _user_of(exchange: Exchange) -> str:
    """Whom a call is made for, by its own word; the template's user without one."""
    kind, _, text = exchange.headers.get("authorization", "").partition(" ")
    return base64.b64decode(text).decode().partition(":")[0] if kind == "Basic" else USERS[0]


async def _canned(exchange: Exchange, status: int, body: Any, headers: dict[str, str]) -> None:
    if isinstance(body, str | bytes):
        data = body.encode() if isinstance(body, str) else body
        await exchange.answer(status, data, {"Content-Type": "text/plain", **headers})
    elif body is None:
        await exchange.answer(status, headers=headers)
    else:
        await exchange.answer_json(status, body, headers)
