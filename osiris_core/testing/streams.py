"""Everything that this process writes to its standard streams for a while, from Python or past it."""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class Streams:
    """What was written, once the block is over."""

    written = b""


@contextmanager
def captured_streams() -> Iterator[Streams]:
    """Both streams go into a file until the block is over, also those of children."""
    streams = Streams()
    with tempfile.TemporaryFile() as file:
        before = {name: getattr(sys, name) for name in ("stdout", "stderr")}
        _flush(before.values())
        kept = {fd: os.dup(fd) for fd in (1, 2)}
        # A second object with the file's own descriptor: whoever holds on to it writes nowhere afterwards.
        text = open(os.dup(file.fileno()), "w", buffering=1, encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
        try:
            for fd in kept:
                os.dup2(file.fileno(), fd)
            sys.stdout = sys.stderr = text
            yield streams
        finally:
            _flush([text])
            for name, stream in before.items():
                setattr(sys, name, stream)
            for fd, copy in kept.items():
                os.dup2(copy, fd)
                os.close(copy)
            file.seek(0)
            streams.written = file.read()
            text.close()


def _flush(streams: Any) -> None:
    for stream in streams:
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
