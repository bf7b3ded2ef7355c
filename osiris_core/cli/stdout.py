"""
Keeps standard output for results alone.

Drivers run in this process, and whatever they print, in Python or in C, must not end up in the middle of a JSON
document: file descriptor 1 is pointed at standard error, and only `write_result` knows the real one.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from typing import Any

_result_fd: int | None = 1


def protect() -> None:
    """From now on only `write_result` reaches standard output. May be called twice."""
    global _result_fd
    if _result_fd != 1:
        return
    _flush(sys.stdout)
    try:
        _result_fd = os.dup(1)  # not inherited: a child of a step must not hold a reader's pipe open
    except OSError:
        _result_fd = None  # started with standard output closed: there is nobody to tell
    try:
        os.dup2(2, 1)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    # A pipe would hold back what a driver prints until the end, and lose it when the process has to leave at once.
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(line_buffering=True, errors="backslashreplace")


def write_result(text: str) -> None:
    """Write `text` and a newline to standard output. A reader that left is no error."""
    if _result_fd == 1:
        protect()
    if _result_fd is None:
        return
    # A lone surrogate (half a character in a file's name) becomes `\\udc80`, which is an escape in JSON as well.
    data = memoryview((text.rstrip("\n") + "\n").encode("utf-8", "backslashreplace"))
    with suppress(BrokenPipeError):
        while data:
            data = data[os.write(_result_fd, data) :]


def write_json(document: Any) -> None:
    """Write one JSON document; a number that JSON does not have becomes null."""
    try:
        text = json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False)
    except ValueError:
        plain = json.loads(json.dumps(document), parse_constant=lambda _: None)
        text = json.dumps(plain, ensure_ascii=False, indent=2)
    write_result(text)


def result_is_terminal() -> bool:
    """Whether results go to a terminal."""
    return _result_fd is not None and os.isatty(_result_fd)


def say(text: str) -> None:
    """Write a line to standard error: a notice, a problem, progress. One that cannot be written is dropped."""
    with suppress(OSError, ValueError):
        print(text.encode("utf-8", "backslashreplace").decode(), file=sys.stderr, flush=True)  # noqa: T201


def leave(code: int) -> None:
    """End the process now, without waiting for threads that a step left behind."""
    _flush(sys.stdout)
    _flush(sys.stderr)
    os._exit(code)


def _flush(stream: Any) -> None:
    with suppress(OSError, ValueError, AttributeError):
        stream.flush()
