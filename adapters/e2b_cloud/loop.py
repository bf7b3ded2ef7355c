"""The private event loop that the SDK runs on, in a thread of its own, behind calls that wait like any other."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from concurrent import futures
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from osiris_core.errors import FailureClass
from remote.sandbox import SandboxError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")
log = logging.getLogger("osiris.e2b")
POLL_S = 0.05
"""How soon a cancel is seen while something is waited for."""


class PrivateLoop:
    """
    One for all adapters of a process, and nobody else's: whether and which loop the caller runs makes no difference.

    Its calls may come from any thread but its own.
    """

    _shared: ClassVar[PrivateLoop | None] = None
    _lock: ClassVar[threading.Lock] = threading.Lock()

    @classmethod
    def shared(cls) -> PrivateLoop:
        """
        The process's own; its thread is a daemon that costs nothing while nothing runs.

        Raises:
            SandboxError: The process was forked from one that used the SDK, whose threads are missing here.
        """
        with cls._lock:
            if cls._shared is None:
                cls._shared = cls()
            if cls._shared.pid != os.getpid():
                message = "E2B cannot be used in a fork of a process that used it; start processes with 'spawn'"
                raise SandboxError(message, failure_class=FailureClass.USER_ERROR)
            return cls._shared

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(_note_unheard)
        threading.Thread(target=self._serve, name="osiris-e2b", daemon=True).start()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def run(self, work: Coroutine[Any, Any, T], check: Callable[[], None] = lambda: None) -> T:
        """
        What `work` returns; what it raises is raised. `check` is called meanwhile, several times a second.

        When `check` raises, or Ctrl-C comes, `work` is cancelled and not waited for.
        """
        future = self.begin(work)
        try:
            return self.wait(future, check)
        finally:
            future.cancel()  # does nothing to one that is done

    @staticmethod
    def wait(future: futures.Future[T], check: Callable[[], None] = lambda: None) -> T:
        """What comes of it; as `run`, but what is not waited for any more goes on."""
        while True:
            done, _ = futures.wait([future], POLL_S)
            if done:
                return future.result()
            check()

    def begin(self, work: Coroutine[Any, Any, T]) -> futures.Future[T]:
        """Let it run; its result may be asked for, or not."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def call(self, work: Callable[[], object]) -> None:
        """Have it called in the loop's thread soon."""
        self._loop.call_soon_threadsafe(work)


def _note_unheard(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What became of work that was given up, and of tasks of the SDK's own below it, is nothing for a terminal."""
    log.debug("given up and ended by %s", type(context.get("exception")).__name__)
