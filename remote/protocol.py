"""
The words that host and worker exchange: JSON-RPC 2.0, versioned. Standard library only; reads and writes nothing.

`docs/protocol.md` is this file for people, with a transcript.
"""

from __future__ import annotations

import json
from enum import IntEnum
from typing import Any

PROTOCOL_VERSION = "1.1"
"""`major.minor`: another major is refused in `hello`, another minor only adds."""

UNASKED = ("heartbeat", "summary")
"""What a worker says of itself when `start` asked for that."""
NOTIFICATIONS = ("hello", "event", *UNASKED)

HEARTBEAT_INTERVAL_S = 1.0
"""How often a host asks for a sign of life while a run lasts, or a worker gives one unasked."""
SILENCE_LIMIT_S = 5.0
"""After this long without one byte a worker counts as lost."""

WORKER_PACKAGES = {
    "duckdb": ">=1.4,<3",
    "jsonrpcserver": ">=5.0.9,<6",
    "psutil": ">=5.9",
    "pyarrow": ">=18",
    "pydantic": ">=2.9,<3",
    "tenacity": ">=8.3",
}
"""The third-party packages that a worker's Python must have; our own code travels with the run."""
MIN_PYTHON = (3, 11)


class ErrorCode(IntEnum):
    """Every code in an error answer; those from -32768 to -32100 are JSON-RPC's own."""

    PARSE_ERROR = -32700
    INVALID_REQUEST = -32600
    METHOD_NOT_FOUND = -32601
    INVALID_PARAMS = -32602
    INTERNAL_ERROR = -32603
    NOT_STARTED = -32000
    ALREADY_STARTED = -32001
    NOT_OVER = -32002
    PACKAGE_BROKEN = -32003


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def encode(message: dict[str, Any]) -> bytes:
    """A message as compact JSON. What is no text in UTF-8 is escaped."""
    return _encode(message).encode("utf-8", "backslashreplace")


def request(request_id: int | str, method: str, params: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}


def error(request_id: int | str | None, code: int, message: str, data: Any = None) -> dict[str, Any]:
    body = {"code": int(code), "message": message}
    return {"jsonrpc": "2.0", "id": request_id, "error": body if data is None else {**body, "data": data}}


def notification(method: str, params: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": method, "params": params}


def is_compatible(version: str) -> bool:
    """Whether the other side's protocol version can be talked to."""
    return version.partition(".")[0] == PROTOCOL_VERSION.partition(".")[0]
