"""
The log handlers of a process that forks. A thread that writes a line at that moment holds the lock of its stream, and
is not there in the child to let go of it: whoever logs there would wait for ever.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PATIENCE_S = 0.5
"""How long a handler is waited for that is in the middle of a line; one that takes longer hangs in something else."""


@contextmanager
def between_log_lines() -> Iterator[None]:
    """While the block runs, no other thread is in the middle of a line. In a child of it, locks are new ones anyway."""
    locked = (handler for handler in _handlers() if handler.lock is not None)
    held = [handler for handler in locked if handler.lock.acquire(timeout=PATIENCE_S)]  # type: ignore[union-attr]
    try:
        yield
    finally:
        for handler in held:
            try:
                handler.release()
            except RuntimeError:  # in the child the lock is another one, which nobody holds
                continue


def log_to(streams: Mapping[int, Any]) -> None:
    """Handlers that write to a stream of this id write to its successor from now on. Nothing is flushed."""
    for handler in _handlers():
        if isinstance(handler, logging.StreamHandler) and "stream" in vars(handler):
            handler.stream = streams.get(id(handler.stream), handler.stream)


def _handlers() -> list[logging.Handler]:
    found = dict.fromkeys(logging.root.handlers)
    for logger in list(logging.root.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger):
            found.update(dict.fromkeys(logger.handlers))
    return list(found)
