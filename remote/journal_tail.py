"""A cursor into the engine's journal that gives its lines as frames, as they are, without parsing them."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

READ_BYTES = 256 << 10
_HEAD = b'\x1e{"jsonrpc":"2.0","method":"event","params":'
_TAIL = b"}\n"
_SEQ = re.compile(rb'"origin":"engine","attempt":(\d+),"seq":(\d+),')
_ABOUT_STEPS = b'"event":"step'


class JournalTail:
    """
    Reads what the engine of one attempt wrote, from a position that `replay` may move.

    Attributes:
        sent_seq: The number of the last event that was given out, or passed over for a `replay`.
        last_seq: The number of the last event that was seen at all.
    """

    def __init__(self, path: str, attempt: int) -> None:
        self._path = path
        self._attempt = attempt
        self._offset = 0
        self._seen_offset = 0
        self._skip_until = 0
        self.sent_seq = 0
        self.last_seq = 0

    def replay(self, after_seq: int) -> None:
        """Begin again behind event number `after_seq`."""
        self._offset = 0
        self._skip_until = self.sent_seq = after_seq

    def read(self) -> tuple[bytes, list[dict[str, Any]], bool]:
        """
        Frames of at most about 256 KiB of events, those of them about steps that were not seen before, and whether
        there may be more at once.
        """
        lines, self._offset = self._lines(self._offset)
        frames: list[bytes] = []
        noticed: list[dict[str, Any]] = []
        for seq, line in self._numbered(lines, noticed):
            if seq > self._skip_until:
                frames.append(line)
                self.sent_seq = seq
        self._seen_offset = max(self._seen_offset, self._offset)
        if not frames:
            return b"", noticed, bool(lines)
        return _HEAD + (_TAIL + _HEAD).join(frames) + _TAIL, noticed, bool(lines)

    def look_ahead(self) -> list[dict[str, Any]]:
        """All events about steps that were not seen before; what `read` gives is not changed by it."""
        noticed: list[dict[str, Any]] = []
        while True:
            lines, self._seen_offset = self._lines(self._seen_offset)
            if not lines:
                return noticed
            for _ in self._numbered(lines, noticed):
                pass

    def _numbered(self, lines: list[bytes], noticed: list[dict[str, Any]]) -> Iterator[tuple[int, bytes]]:
        for line in lines:
            found = _SEQ.search(line, 0, 80)
            if found is None or int(found[1]) != self._attempt:  # an earlier attempt's, or another origin's
                continue
            seq = int(found[2])
            if seq > self.last_seq:
                self.last_seq = seq
                if _ABOUT_STEPS in line:
                    noticed.append(json.loads(line))
            yield seq, line

    def _lines(self, offset: int) -> tuple[list[bytes], int]:
        """The whole lines from a position on, and where they end."""
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return [], offset
        try:
            size = READ_BYTES
            while True:
                data = os.pread(fd, size, offset)
                end = data.rfind(b"\n") + 1
                if end or len(data) < size:
                    break
                size *= 4  # a line longer than what was read
        finally:
            os.close(fd)
        return data[:end].splitlines(), offset + end
