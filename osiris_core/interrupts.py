"""Keeps Ctrl-C out of work that must not be left in the middle."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Generic, TypeVar

from osiris_core.errors import ExecutionError, FailureClass

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
POLL_S = 0.2
"""How often the waiting thread looks for a Ctrl-C that woke nobody (`_thread.interrupt_main`); a signal wakes it."""


class Sheltered(Generic[T]):
    """
    Runs `work` in a thread of its own while the calling thread only waits.

    A KeyboardInterrupt in the calling thread calls `on_interrupt`, and is raised again when `work` is over: it lands
    in no line of `work`, under no lock that `work` holds. `meanwhile` is called by the calling thread, a few times a
    second as long as `work` lasts; it must not wait for anybody.
    """

    def __init__(
        self,
        work: Callable[[], T],
        on_interrupt: Callable[[], object],
        meanwhile: Callable[[], object] = lambda: None,
    ) -> None:
        self._work = work
        self._meanwhile = meanwhile
        self._on_interrupt = on_interrupt
        self._taken = threading.Lock()
        self._over = threading.Lock()
        self._over.acquire()
        self._is_over = False
        self._result: list[T] = []
        self._error: BaseException | None = None

    def run(self) -> T:
        """
        What `work` returned; what it raised is raised.

        Raises:
            ExecutionError: No thread can be started; `work` was not called.
        """
        interrupt: KeyboardInterrupt | None = None
        while not self._is_over:
            try:
                self._start()
                while not self._is_over:
                    if not self._over.acquire(timeout=POLL_S):
                        self._meanwhile()
            except KeyboardInterrupt as exc:
                self._on_interrupt()
                interrupt = exc
        if interrupt is not None:
            raise interrupt
        if self._error is not None:
            raise self._error
        return self._result[0]

    def _start(self) -> None:
        # Ctrl-C may come while a thread is being started, and nobody knows then whether it was: a second one asks.
        if self._taken.locked():
            return
        try:
            threading.Thread(target=self._run_once, name="osiris-engine", daemon=True).start()
        except RuntimeError as exc:
            message = f"the engine's thread cannot be started: {exc}"
            raise ExecutionError(message, failure_class=FailureClass.RESOURCE_DENIED) from exc

    def _run_once(self) -> None:
        if not self._taken.acquire(blocking=False):
            return
        try:
            self._result.append(self._work())
        except BaseException as exc:  # noqa: BLE001 - it is raised in the calling thread
            self._error = exc
        finally:
            self._is_over = True
            self._over.release()
