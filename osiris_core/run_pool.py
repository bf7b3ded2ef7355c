"""What one step of a run is done with and another can go on with: a connection, logged in and clean."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable


class RunPool:
    """
    Thread-safe; one for a run, in the process of its engine. What nobody took is closed at the end of its steps.

    Of one kind at most `MAX_IDLE` are held: a wide run must not sit on a server's connections.
    """

    MAX_IDLE = 4

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: dict[Hashable, list[tuple[Any, Callable[[], object]]]] = {}
        self._closed = False

    def take(self, kind: Hashable) -> Any | None:
        """One of that kind, which is the caller's from now on; None when there is none."""
        with self._lock:
            found = self._idle.get(kind)
            return found.pop()[0] if found else None

    def put(self, kind: Hashable, resource: Any, close: Callable[[], object]) -> None:
        """Hold a resource for whoever takes it, or close it: when there are enough, or the steps are over."""
        with self._lock:
            held = self._idle.setdefault(kind, [])
            if not self._closed and len(held) < self.MAX_IDLE:
                held.append((resource, close))
                return
        with suppress(Exception):
            close()

    def close(self) -> None:
        """Close what is held; one that cannot be closed stops nobody. May be called twice."""
        with self._lock:
            self._closed = True
            held = [item for items in self._idle.values() for item in items]
            self._idle.clear()
        for _, close in held:
            with suppress(Exception):
                close()
