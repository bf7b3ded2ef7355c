"""The record of every request: what it was, what travelled, when."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field

KINDS: tuple[tuple[str, str], ...] = (
    (r"POST /v2/sandboxes$", "create"),
    (r"GET /v2/sandboxes$", "list"),
    (r"POST /v2/sandboxes/[^/]+/connect$", "connect"),
    (r"DELETE /sandboxes/[^/]+$", "kill"),
    (r"GET /sandboxes/[^/]+$", "info"),
    (r"POST /sandboxes/[^/]+/timeout$", "timeout"),
    (r"GET /sandboxes/[^/]+/metrics$", "metrics"),
    (r"POST /sandboxes/[^/]+/pause$", "pause"),
    (r"POST /sandboxes/[^/]+/snapshots$", "snapshot"),
    (r"POST /sandboxes/[^/]+/fork$", "fork"),
    (r"PUT /sandboxes/[^/]+/network$", "network"),
    (r"POST /v3/templates$", "template.create"),
    (r"GET /templates/[^/]+/files/[^/]+$", "template.file"),
    (r"PUT /build-files/[^/]+$", "template.upload"),
    (r"POST /v2/templates/[^/]+/builds/[^/]+$", "template.build"),
    (r"GET /templates/[^/]+/builds/[^/]+/status$", "template.status"),
    (r"GET /templates/aliases/[^/]+$", "template.exists"),
    (r"(GET|POST|DELETE) /templates/(.*/)?tags$", "template.tags"),
    (r"DELETE /templates/[^/]+$", "template.delete"),
    (r"/process\.Process/Start$", "start"),
    (r"/process\.Process/Connect$", "reconnect"),
    (r"/process\.Process/SendInput$", "stdin"),
    (r"/process\.Process/StreamInput$", "stdin_stream"),
    (r"/process\.Process/CloseStdin$", "close_stdin"),
    (r"/process\.Process/SendSignal$", "signal"),
    (r"/process\.Process/List$", "processes"),
    (r"POST /files$", "upload"),
    (r"GET /files$", "download"),
    (r"/filesystem\.Filesystem/Stat$", "stat"),
    (r"/filesystem\.Filesystem/ListDir$", "list_dir"),
    (r"/filesystem\.Filesystem/MakeDir$", "make_dir"),
    (r"/filesystem\.Filesystem/Move$", "move"),
    (r"/filesystem\.Filesystem/Remove$", "remove"),
    (r"/filesystem\.Filesystem/.*Watch", "watch"),
    (r"GET /health$", "health"),
)
BODY_KEPT_BYTES = 4 << 20


def kind_of(request_line: str) -> str:
    """The short name of a request given as "METHOD /path"; "other" for what E2B does not have."""
    return next((kind for pattern, kind in KINDS if re.search(pattern, request_line)), "other")


@dataclass
class Request:
    """
    One request.

    Attributes:
        body: Its first 4 MiB.
        status: Of the answer; 0 as long as there is none, and for good when it was lost on the way.
        fault: The kinds of the faults it met.
        answered_s: When the first byte of the answer's body, or its head without one, was sent; 0 before. Monotonic.
        ended_s: When the last byte of the answer was sent or the connection ended; 0 before. Monotonic, as `started_s`.
    """

    kind: str
    method: str
    path: str
    query: str
    headers: dict[str, str]
    connection: int
    started_s: float
    sandbox_id: str = ""
    status: int = 0
    answered_s: float = 0.0
    ended_s: float = 0.0
    up_bytes: int = 0
    down_bytes: int = 0
    body: bytearray = field(default_factory=bytearray)
    fault: tuple[str, ...] = ()

    def keep(self, data: bytes) -> None:
        self.up_bytes += len(data)
        self.body += data[: max(0, BODY_KEPT_BYTES - len(self.body))]


class Seen:
    """All requests in the order of their arrival."""

    def __init__(self) -> None:
        self._requests: list[Request] = []
        self._lock = threading.Lock()

    def add(self, request: Request) -> None:
        with self._lock:
            self._requests.append(request)

    def clear(self) -> None:
        with self._lock:
            self._requests.clear()

    @property
    def requests(self) -> list[Request]:
        with self._lock:
            return list(self._requests)

    def of_kind(self, kind: str) -> list[Request]:
        return [request for request in self.requests if request.kind == kind]

    def kinds(self) -> list[str]:
        return [request.kind for request in self.requests]

    def count(self, kind: str | None = None) -> int:
        return len(self.requests if kind is None else self.of_kind(kind))

    @property
    def up_bytes(self) -> int:
        """The bodies of all requests."""
        return sum(request.up_bytes for request in self.requests)

    @property
    def down_bytes(self) -> int:
        """The bodies of all answers."""
        return sum(request.down_bytes for request in self.requests)
