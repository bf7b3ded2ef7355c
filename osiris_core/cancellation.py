"""Stopping an attempt: a token that runs its hooks once, and the fence behind which nothing is published."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from osiris_core.errors import FailureClass, StepFenced

if TYPE_CHECKING:
    from collections.abc import Callable

GRACE_S = 5.0
"""How long a step has, after its hooks were called, before its attempt is fenced."""


class CancelToken:
    """
    One attempt's right to go on.

    `cancel` may be called from any thread, any number of times; the first call decides the reason. Each hook
    runs in a thread of its own, the newest is started first, each at most once; one that raises or hangs stops nobody.
    """

    __slots__ = ("_hooks", "_lock", "fenced", "reason")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hooks: list[Callable[[], object]] = []
        self.reason: FailureClass | None = None
        self.fenced = False

    @property
    def cancelled(self) -> bool:
        return self.reason is not None

    def on_cancel(self, hook: Callable[[], object]) -> None:
        """Call `hook` when the attempt is cancelled; at once, in this thread, if it already was."""
        with self._lock:
            if self.reason is None:
                self._hooks.append(hook)
                return
        _call(hook)

    def cancel(self, reason: FailureClass) -> None:
        """Ask the attempt to stop, and return without waiting for it."""
        with self._lock:
            if self.reason is not None:
                return
            self.reason = reason
            hooks, self._hooks = self._hooks[::-1], []
        # One thread a hook: a query that cannot be interrupted must not keep a process tree alive.
        for hook in hooks:
            try:
                threading.Thread(target=_call, args=(hook,), name="osiris-on-cancel", daemon=True).start()
            except RuntimeError:  # no thread is to be had any more
                _call(hook)

    def fence(self) -> None:
        """From now on nothing of this attempt is published. Waits for a publication under way."""
        with self._lock:
            self.fenced = True

    def publish(self, action: Callable[[], None]) -> None:
        """
        Do `action` unless the attempt is fenced; `fence` cannot come in between.

        Raises:
            StepFenced: The attempt was given up.
        """
        with self._lock:
            if self.fenced:
                raise StepFenced("this attempt was stopped; nothing it still does is published")
            action()


def _call(hook: Callable[[], object]) -> None:
    try:
        hook()
    except Exception:  # noqa: BLE001 - a hook that fails must not keep the next one from running
        return
