"""A wire between a client and a server that breaks where a test wants it to."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class LossyProxy:
    """
    Forwards to a port of this machine. When a client first sends `marker`, that still reaches the server, `then` is
    called, and the client hears nothing any more. Later connections are left alone.
    """

    def __init__(self, port: int, marker: bytes, then: Callable[[], None] = lambda: None) -> None:
        self._target, self._marker, self._then = port, marker, then
        self.broke = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            self._open += [client, server]
            cut = threading.Event()
            threading.Thread(target=self._upwards, args=(client, server, cut), daemon=True).start()
            threading.Thread(target=self._downwards, args=(server, client, cut), daemon=True).start()

    def _upwards(self, client: socket.socket, server: socket.socket, cut: threading.Event) -> None:
        with suppress(OSError):
            while data := client.recv(1 << 16):
                breaks = self._marker in data and not self.broke.is_set()
                if breaks:
                    cut.set()
                server.sendall(data)
                if breaks:
                    self._then()
                    self.broke.set()
                    client.shutdown(socket.SHUT_RDWR)
                    break  # the server goes on with what it has, then it sees the end
            server.shutdown(socket.SHUT_WR)

    def _downwards(self, server: socket.socket, client: socket.socket, cut: threading.Event) -> None:
        with suppress(OSError):
            while data := server.recv(1 << 16):
                if not cut.is_set():
                    client.sendall(data)
            client.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for end in [self._listener, *self._open]:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)  # wakes the threads that wait for it
            with suppress(OSError):
                end.close()
