"""
Keeps standard output for results alone.

Drivers run in this process, and whatever they print, in Python or in C, must not end up in the middle of a JSON
document: file descriptor 1 is pointed at standard error, and only `write_result` knows the real one.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from contextlib import suppress
from typing import Any

from osiris_core.cli import formatting

_result_fd: int | None = 1
_lost: OSError | None = None


def protect() -> None:
    """From now on only `write_result` reaches standard output. May be called twice."""
    global _result_fd
    if _result_fd != 1:
        return
    closed = [fd for fd in (0, 1, 2) if _open_if_closed(fd)]
    if sys.stderr is None:
        sys.stderr = open(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    _flush(sys.stdout)
    # Not inherited: a child of a step must not hold the pipe of whoever reads the result open.
    _result_fd = None if 1 in closed else os.dup(1)
    os.dup2(2, 1)
    # A new stream: the old one knows what kind of file 1 was. By lines, because a pipe would hold back what a driver
    # prints until the end, and lose it when the process has to leave at once.
    sys.stdout = open(1, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115


def _open_if_closed(fd: int) -> bool:
    """
    Put the null device on a standard descriptor that we were started without; True if it was closed.

    Otherwise the next file that somebody opens gets its number, and whatever is printed.
    """
    try:
        os.fstat(fd)
    except OSError:
        null = os.open(os.devnull, os.O_RDWR)
        if null != fd:
            os.dup2(null, fd)
            os.close(null)
        return True
    return False


def write_result(text: str, *, exact: bool = False) -> None:
    """
    Write `text` and a newline to standard output, without a control character unless it is to be `exact`.

    A reader that left is no error. What else goes wrong (a full disk) is said, and `result_lost` from then on.
    """
    global _lost
    if _result_fd == 1:
        protect()
    if _result_fd is None:
        return
    # A lone surrogate (half a character in a file's name) becomes `\\udc80`, which is an escape in JSON as well.
    text = text if exact else formatting.visible(text)
    data = memoryview((text.rstrip("\n") + "\n").encode("utf-8", "backslashreplace"))
    try:
        while data:
            data = data[os.write(_result_fd, data) :]
    except BrokenPipeError:
        return
    except OSError as exc:
        _lost = exc
        say(f"osiris: the result cannot be written: {exc.strerror}")


def result_lost() -> bool:
    """Whether a result could not be written, for another reason than that nobody reads it."""
    return _lost is not None


def write_json(document: Any) -> None:
    """Write one JSON document; a number that JSON does not have becomes null."""
    write_result(formatting.json_text(document, indent=2))


def result_is_terminal() -> bool:
    """Whether results go to a terminal."""
    return _result_fd is not None and os.isatty(_result_fd)


def say(text: str) -> None:
    """Write a line to standard error: a notice, a problem, progress. One that cannot be written is dropped."""
    say_exactly(formatting.visible(text))


def say_exactly(line: str) -> None:
    """The same for a line whose control characters are our own: colours."""
    with suppress(OSError, ValueError):
        print(line.encode("utf-8", "backslashreplace").decode(), file=sys.stderr, flush=True)  # noqa: T201


def leave(code: int) -> None:
    """End the process now, without waiting for threads that a step left behind."""
    _flush(sys.stdout)
    _flush(sys.stderr)
    os._exit(code)


def finish(code: int) -> None:
    """
    End the process with that exit code: exit handlers run, threads that ask to be waited for are waited for.

    But the interpreter is not taken down piece by piece: with DuckDB and Arrow loaded that takes 0.07 s for nothing.
    """
    if any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()):
        sys.exit(code)
    with suppress(Exception):
        atexit._run_exitfuncs()
    with suppress(Exception):
        import ctypes

        ctypes.CDLL(None).fflush(None)  # what a driver's C code printed and the C library still holds
    leave(code)


def _flush(stream: Any) -> None:
    with suppress(OSError, ValueError, AttributeError):
        stream.flush()
