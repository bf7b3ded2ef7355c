"""One maker of an image at a time, among all processes of this user."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from time import sleep
from typing import TYPE_CHECKING

from adapters.docker_image.watch import Watch, cache_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

POLL_S = 0.1


@contextmanager
def making(key: str, watch: Watch) -> Iterator[None]:
    """
    Inside, nobody else of this user makes the image `key`. Whoever had to wait looks again whether it is there.

    Raises:
        RunCancelled: The watch says so while waiting.
    """
    fd = os.open(cache_folder("locks") / f"{key}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        said = False
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not said:
                    watch.say("waiting: the same image is being made by another run")
                    said = True
                watch.check()
                sleep(POLL_S)
        yield
    finally:
        # The file stays: removing it would let two processes hold the lock, each on a file of its own.
        os.close(fd)
