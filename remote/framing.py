"""
JSON text sequences (RFC 7464) as pure code: RS (0x1E), one JSON text, LF. Never reads, writes or waits.

What is not a frame (a print before `hello`, the rest of a frame whose beginning was lost) comes out as `Stray`, and
costs the frames around it nothing.
"""

from __future__ import annotations

from typing import NamedTuple

RS = b"\x1e"
LF = b"\n"
MAX_FRAME_BYTES = 64 << 20
KEPT_BYTES = 1 << 10
"""How much of a frame that is too long is shown."""


class Frame(NamedTuple):
    """One whole JSON text, without its separators. Whether it is JSON is for the reader to say."""

    text: bytes


class Stray(NamedTuple):
    """Bytes that belong to no frame, and why: `garbage`, `cut` or `too_long` (then only the first of them)."""

    data: bytes
    reason: str


def encode_frame(text: bytes) -> bytes:
    """One JSON text as a frame. A text in UTF-8 JSON cannot hold RS itself: control characters are escaped in it."""
    return RS + text + LF


class FrameDecoder:
    """
    Turns bytes into frames, however they are cut.

    A frame ends at its first LF: compact JSON has none within. A new RS before that means that the end of the frame
    was lost. Never holds more than `max_frame_bytes` between calls.
    """

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._max_bytes = max_frame_bytes
        self._pending = bytearray()
        self._in_frame = False
        self._skipping = False

    def feed(self, data: bytes) -> list[Frame | Stray]:
        """What is now complete, in order."""
        found: list[Frame | Stray] = []
        if self._in_frame or self._pending or self._skipping:
            begun = data.find(LF) + 1 or len(data)
            self._feed(data[:begun], found)
            data = data[begun:]
        done = data.rfind(LF) + 1
        lines = data[:done].split(LF)[:-1]
        # Whole frames and nothing else, as it nearly always is, are cut at once: twice as fast.
        if lines and data.count(RS, 0, done) == len(lines) and all(map(self._is_frame, lines)):
            found += [Frame(line[1:]) for line in lines]
            data = data[done:]
        self._feed(data, found)
        return found

    def _is_frame(self, line: bytes) -> bool:
        return line.startswith(RS) and len(line) <= self._max_bytes + 1

    def _feed(self, data: bytes, found: list[Frame | Stray]) -> None:
        start, end = 0, data.find(LF)
        while start < len(data):
            if 0 <= end < start:
                end = data.find(LF, start)
            begin = data.find(RS, start, end if end >= 0 else len(data))
            if begin >= 0:  # in a frame: a new one begins within it, the rest of it was lost
                self._end(data[start:begin], "cut" if self._in_frame else "garbage", found)
                self._in_frame, start = True, begin + 1
            elif end >= 0:
                if self._in_frame:
                    self._end(data[start:end], None, found)
                else:  # strays are given out line by line
                    self._end(data[start : end + 1], "garbage", found)
                start = end + 1
            else:
                self._take(data[start:], found)
                break

    def finish(self) -> list[Frame | Stray]:
        """What is left at the end of the stream."""
        found: list[Frame | Stray] = []
        self._end(b"", "cut" if self._in_frame else "garbage", found)
        return found

    def _take(self, piece: bytes, found: list[Frame | Stray]) -> None:
        if self._skipping:
            return
        if len(self._pending) + len(piece) > self._max_bytes:
            self._pending += piece[:KEPT_BYTES]
            found.append(Stray(bytes(self._pending[:KEPT_BYTES]), "too_long"))
            self._pending, self._skipping = bytearray(), True
        else:
            self._pending += piece

    def _end(self, piece: bytes, reason: str | None, found: list[Frame | Stray]) -> None:
        if self._skipping or self._pending or len(piece) > self._max_bytes:
            self._take(piece, found)
            piece = bytes(self._pending)
        if not self._skipping and (piece or reason is None):
            found.append(Frame(piece) if reason is None else Stray(piece, reason))
        self._pending, self._skipping, self._in_frame = bytearray(), False, False
