"""Connecting, within its limit, and not a moment longer than the step goes on."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Generic, TypeVar

from osiris_core.drivers.sql_errors import Meaning, cannot_connect
from osiris_core.errors import FailureClass

if TYPE_CHECKING:
    from collections.abc import Callable

    from osiris_core.drivers.sql_connection import SqlConnection
    from osiris_core.step_context import StepContext

T = TypeVar("T")
_SILENT = Meaning(FailureClass.INFRA_LOST, "check the connection's host and port: what listens there says nothing")


def connected(
    connect: Callable[[], T], close: Callable[[T], object], connection: SqlConnection, ctx: StepContext | None
) -> T:
    """
    What `connect` returns or raises. It runs in a thread of its own, for neither a client library nor a name lookup
    can be stopped; a connection that it makes too late is closed there.

    Raises:
        DatabaseFailed: There is none after `connect_timeout_s`.
        RunCancelled, RunTimeout: The step was asked to stop.
    """
    if ctx is not None:
        ctx.raise_if_cancelled()
    attempt = _Attempt(connect, close)
    if ctx is not None:
        ctx.on_cancel(attempt.ended.set)
    threading.Thread(target=attempt.run, name="osiris-connect", daemon=True).start()
    attempt.ended.wait(connection.connect_timeout_s)
    if attempt.take():
        if attempt.error is not None:
            raise attempt.error
        return attempt.made[0]
    if ctx is not None:
        ctx.raise_if_cancelled()
    raise cannot_connect(connection, f"no answer within {connection.connect_timeout_s:g} s", _SILENT)


class _Attempt(Generic[T]):
    """Either the one who waits takes what was made, or it is closed."""

    def __init__(self, connect: Callable[[], T], close: Callable[[T], object]) -> None:
        self._connect = connect
        self._close = close
        self._lock = threading.Lock()
        self._given_up = False
        self.ended = threading.Event()
        self.made: list[T] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            found = self._connect()
        except BaseException as exc:  # noqa: BLE001 - raised by who waits
            self.error = exc
        else:
            with self._lock:
                if not self._given_up:
                    self.made.append(found)
            if not self.made:
                with suppress(Exception):
                    self._close(found)
        self.ended.set()

    def take(self) -> bool:
        """Whether it ended. If not, it is given up."""
        with self._lock:
            self._given_up = not self.made and self.error is None
            return not self._given_up
