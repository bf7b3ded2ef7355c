"""Tries again what may be tried again, while it may help, and no longer than somebody waits."""

from __future__ import annotations

import threading
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

from adapters.e2b_cloud.errors import E2BUnreachable, NotNow

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 3.0


def patiently(work: Callable[[], T], deadline_s: float, check: Callable[[], None] = lambda: None) -> T:
    """
    What `work` gives, tried again until `deadline_s` while E2B cannot be reached or is too busy.

    Only for what does no harm when it is done twice. `check` is called between two tries; what it raises is raised.
    """
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            return work()
        except (E2BUnreachable, NotNow):
            if monotonic() + pause_s > deadline_s:
                raise
        check()
        threading.Event().wait(pause_s)
        check()
        pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
