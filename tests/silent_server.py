"""Servers that are none: one that says nothing, and one that greets as MySQL does and writes down what it is told."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_CAPABILITIES = 0x000FFFFF & ~0x0800
"""All of the first twenty but TLS."""


@contextmanager
def silent_server() -> Iterator[int]:
    """The port of a server that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        yield listening.getsockname()[1]


@contextmanager
def greeting_server(plugin: str, asks_for: str | None = None) -> Iterator[tuple[int, list[bytes]]]:
    """Its port, and what it was told. `plugin`: how it lets users log in; `asks_for`: what it wants instead, then."""
    told: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with suppress(OSError):
                client, _ = listening.accept()
                with client:
                    client.settimeout(3)
                    client.sendall(_packet(_greeting(plugin), 0))
                    told.append(client.recv(4096))
                    client.sendall(_packet(b"\xfe" + (asks_for or plugin).encode() + b"\0" + b"s" * 20 + b"\0", 2))
                    told.append(client.recv(4096))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1], told
    thread.join(5)


def _packet(body: bytes, number: int) -> bytes:
    return len(body).to_bytes(3, "little") + bytes([number]) + body


def _greeting(plugin: str) -> bytes:
    low, high = _CAPABILITIES & 0xFFFF, _CAPABILITIES >> 16
    return (
        b"\x0a8.0.0\0"
        + struct.pack("<I", 1)
        + b"saltsalt\0"
        + struct.pack("<HBHHB", low, 45, 2, high, 21)
        + b"\0" * 10
        + b"saltsaltsalt\0"
        + plugin.encode()
        + b"\0"
    )
