"""A long request to the engine (build, pull) whose answer comes piece by piece, and that can be broken off."""

from __future__ import annotations

import queue
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adapters.docker_image.watch import Watch

POLL_S = 0.1
HANG_UP_S = 5.0
"""How long a broken-off request's thread is waited for."""


def answers(
    client: Any,
    path: str,
    watch: Watch,
    *,
    params: dict[str, Any],
    headers: dict[str, str] | None = None,
    body: BinaryIO | None = None,
) -> Iterator[dict[str, Any]]:
    """
    Post to the engine and give its messages as they come. There is no time limit: a build step may be silent for long.

    The connection is cut when the caller stops reading, is interrupted, or is cancelled: the engine then stops too.

    Raises:
        RunCancelled: The watch says so.
    """
    request = _Request(client.api, path, params, headers or {}, body)
    try:
        while True:
            try:
                item = request.arrived.get(timeout=POLL_S)
            except queue.Empty:
                watch.check()
                continue
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            watch.check()
            yield item
    finally:
        request.hang_up()


class _Request:
    """The request in a thread of its own, because a blocked read can only be ended from another one."""

    def __init__(self, api: Any, path: str, params: dict[str, Any], headers: dict[str, str], body: Any) -> None:
        self.arrived: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._api = api
        self._call = {"params": params, "headers": headers, "data": _Body(body, self) if body is not None else None}
        self._response: Any = None
        self.given_up = False
        self._thread = threading.Thread(target=self._run, args=(path,), name="osiris-docker-image", daemon=True)
        self._thread.start()

    def _run(self, path: str) -> None:
        try:
            api = self._api
            self._response = api._post(api._url(path), stream=True, timeout=None, **self._call)
            api._raise_for_status(self._response)
            if not self.given_up:
                for message in api._stream_helper(self._response, decode=True):
                    self.arrived.put(message)
            self.arrived.put(None)
        except BaseException as exc:  # noqa: BLE001 - it is raised in the calling thread
            self.arrived.put(exc)
        finally:
            if self._response is not None:
                self._response.close()

    def hang_up(self) -> None:
        """Cut the connection if the answer is not over. Closing alone would not wake the thread that reads."""
        self.given_up = True
        if self._response is not None and self._thread.is_alive():
            with suppress(Exception):
                raw = self._api._get_raw_response_socket(self._response)
                getattr(raw, "_sock", raw).shutdown(socket.SHUT_RDWR)
        self._thread.join(HANG_UP_S)


class _Body:
    """A file that ends in an error once nobody wants it to be sent any more."""

    def __init__(self, file: Any, request: _Request) -> None:
        self._file, self._request = file, request

    def read(self, size: int = -1) -> bytes:
        if self._request.given_up:
            raise ConnectionAbortedError("given up")
        found: bytes = self._file.read(size)
        return found

    def __iter__(self) -> Any:
        return iter(lambda: self.read(1 << 20), b"")

    def fileno(self) -> int:
        fd: int = self._file.fileno()
        return fd

    def tell(self) -> int:
        position: int = self._file.tell()
        return position

    def seek(self, position: int, whence: int = 0) -> int:
        moved: int = self._file.seek(position, whence)
        return moved
