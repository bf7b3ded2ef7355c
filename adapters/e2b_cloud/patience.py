"""Tries again what may be tried again, while it may help, and no longer than somebody waits."""

from __future__ import annotations

import threading
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

from remote.sandbox import Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
PATIENCE_S = 60.0
"""How long a sandbox that cannot be reached is asked again: a deploy of E2B's edge cuts every stream."""
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 3.0
POLL_S = 0.05


class Tries:
    """
    The time for trying something again: `limit_s` since it was made, or since it last got on (`renew`).

    `check` is called in each pause; what it raises is raised.
    """

    def __init__(self, limit_s: float, check: Callable[[], None] = lambda: None) -> None:
        self._limit_s = limit_s
        self._check = check
        self.renew()

    def renew(self) -> None:
        self._deadline_s = monotonic() + self._limit_s
        self._pause_s = FIRST_PAUSE_S

    def pause(self) -> bool:
        """Wait a little, longer each time; False when the time is up."""
        until_s = monotonic() + self._pause_s
        if until_s > self._deadline_s:
            return False
        self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)
        self._check()
        while (left_s := until_s - monotonic()) > 0:
            threading.Event().wait(min(left_s, POLL_S))
            self._check()
        return True


def patiently(work: Callable[[], T], limit_s: float, check: Callable[[], None] = lambda: None) -> T:
    """
    What `work` gives, tried again for `limit_s` while E2B cannot be reached or is too busy.

    Only for what does no harm when it is done twice. `check` is called between two tries; what it raises is raised.
    """
    tries = Tries(limit_s, check)
    while True:
        try:
            return work()
        except Unreachable:
            if not tries.pause():
                raise
