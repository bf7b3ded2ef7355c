"""Where a text is or was: for tests that something is nowhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.e2b_server.sandbox import Sandbox
    from tests.e2b_server.seen import Request

BY_STDIN = ("stdin", "stdin_stream")
KEY_HEADER = "x-api-key"


def places_of(text: str, requests: Iterable[Request], sandboxes: Iterable[Sandbox]) -> list[str]:
    """Bodies other than what goes to a process's stdin, headers, addresses; environments, command lines and files."""
    return [*_travelled(text, requests), *_is_there(text.encode(), sandboxes)]


def _travelled(text: str, requests: Iterable[Request]) -> list[str]:
    found = []
    for request in requests:
        found += [f"header:{name}" for name, value in request.headers.items() if text in value and name != KEY_HEADER]
        if text.encode() in bytes(request.body) and request.kind not in BY_STDIN:
            found.append(f"{request.kind}.body")
        if text in request.query or text in request.path:
            found.append(f"{request.kind}.address")
    return found


def _is_there(wanted: bytes, sandboxes: Iterable[Sandbox]) -> list[str]:
    found = []
    for sandbox in sandboxes:
        for pid in sandbox.living():
            found += [
                f"{name}:{pid}" for name in ("environ", "cmdline") if wanted in _read(Path(f"/proc/{pid}/{name}"))
            ]
        for path in sandbox.root.rglob("*"):
            if path.is_file() and not path.is_symlink() and wanted in _read(path):
                found.append(f"disk:{path.relative_to(sandbox.root)}")
    return found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it went meanwhile
        return b""
