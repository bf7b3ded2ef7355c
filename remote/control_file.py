"""
The worker's end of the file transport: requests in a numbered `control.jsonl`, answers in `replies.jsonl`.

An answer has the number of its request: who comes later takes nobody else's. `hello` and `summary` have the number 0.

For whoever comes back to a worker that outlived its pipes, and for batch jobs. Events need no file of their own: the
journal is one.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress


class ControlFile:
    """
    Reads requests, each once and in their order: a line `{"n": 1, "message": {…}}`, counted from 1.

    A line that is not whole yet is waited for; a number that was seen before is passed over.
    """

    def __init__(self, control_path: str, replies_path: str) -> None:
        self._path = control_path
        self._replies_path = replies_path
        self._offset = 0
        self._last = 0

    def receive(self) -> list[tuple[int, bytes]]:
        """The requests that were completed since the last call, each with its number."""
        try:
            with open(self._path, "rb") as file:
                file.seek(self._offset)
                data = file.read()
        except OSError:
            return []
        end = data.rfind(b"\n") + 1
        self._offset += end
        found = []
        for line in data[:end].splitlines():
            try:
                item = json.loads(line)
                number, message = int(item["n"]), json.dumps(item["message"]).encode()
            except (ValueError, KeyError, TypeError):  # the answer would have no number to go to
                continue
            if number > self._last:
                self._last = number
                found.append((number, message))
        return found

    def send(self, number: int, text: bytes) -> None:
        """Append one message for whoever reads the answers; one that the disk does not take is lost."""
        line = b'{"n":%d,"message":%b}\n' % (number, text)
        with suppress(OSError):
            fd = os.open(self._replies_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                os.write(fd, line)
            finally:
                os.close(fd)
