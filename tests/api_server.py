"""A real HTTP server on this machine that does what a test tells it, down to the bytes and the reset."""

from __future__ import annotations

import json
import socket
import socketserver
import struct
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator


@dataclass
class Seen:
    """A request as it arrived: header names in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.target).query, keep_blank_values=True)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Wire:
    """What a route answers with."""

    def __init__(self, connection: socket.socket, seen: list[Seen]) -> None:
        self.connection = connection
        self.seen = seen
        self.open = True

    def raw(self, data: bytes) -> None:
        self.connection.sendall(data)

    def head(self, status: int, headers: dict[str, str]) -> None:
        lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        self.raw("\r\n".join(lines).encode("latin-1"))

    def answer(self, body: bytes, status: int = 200, **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.head(status, {"Content-Type": "application/json", "Content-Length": str(len(body)), **named})
        self.raw(body)

    def json(self, value: Any, status: int = 200, **headers: str) -> None:
        self.answer(json.dumps(value).encode(), status, **headers)

    def close(self) -> None:
        self.open = False

    def reset(self) -> None:
        """Break the connection as a machine that dies does, with a RST."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.open = False


class NotHttp(Exception):
    """What arrived is no request."""


@dataclass
class ApiServer:
    """Routes by path; `seen` has every request, `waiting` how many are being answered now."""

    url: str
    routes: dict[str, Any] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    waiting: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def on(self, path: str, route: Callable[[Seen, Wire], object]) -> str:
        self.routes[path] = route
        return self.url + path

    def gives(self, path: str, value: Any, **headers: str) -> str:
        return self.on(path, lambda seen, wire: wire.json(value, **headers))


@contextmanager
def api_server(host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> Iterator[ApiServer]:
    """A server on a free port; gone when the block ends, with whatever hangs on it."""
    connections: set[socket.socket] = set()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            connection = self.request
            try:
                if tls is not None:
                    connection = tls.wrap_socket(connection, server_side=True)
                connections.add(connection)
                wire = Wire(connection, server.seen)
                with connection.makefile("rb") as lines:
                    while wire.open and (seen := _read(lines)) is not None:
                        with server.lock:
                            server.seen.append(seen)
                            server.waiting += 1
                        try:
                            route = server.routes.get(seen.path)
                            wire.json({"no": seen.path}, 404) if route is None else route(seen, wire)
                        finally:
                            with server.lock:
                                server.waiting -= 1
            except NotHttp:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            except (OSError, ValueError):
                return
            finally:
                with suppress(OSError):
                    connection.close()

    class Threads(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

    with Threads((host, 0), Handler) as listening:
        scheme = "http" if tls is None else "https"
        server = ApiServer(f"{scheme}://{host}:{listening.server_address[1]}")
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            listening.shutdown()
            for connection in list(connections):
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


def _read(lines: Any) -> Seen | None:
    first = lines.readline()
    if not first.strip():
        return None
    if not first.rstrip().endswith((b"HTTP/1.1", b"HTTP/1.0")):
        raise NotHttp
    method, target, _ = first.decode("latin-1").split(" ", 2)
    headers: dict[str, str] = {}
    while line := lines.readline().strip():
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    return Seen(method, target, headers, lines.read(int(headers.get("content-length", 0))))
