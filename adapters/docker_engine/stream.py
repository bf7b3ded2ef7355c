"""
The stream of an attached container, as pure code: an 8-byte header (which stream, how long) before each piece.

Never reads, writes or waits.
"""

from __future__ import annotations

STDOUT = 1
STDERR = 2
HEADER_BYTES = 8


class StreamBroken(ValueError):
    """What came is not such a stream: the container has a terminal, or bytes are missing."""


class StreamDemultiplexer:
    """
    Tells standard output and standard error apart, however the bytes are cut.

    A piece is given out as far as it came, and not held back until it is whole.
    """

    def __init__(self) -> None:
        self._header = b""
        self._stream = 0
        self._left_bytes = 0

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """
        What came, in order, as (stream, bytes).

        Raises:
            StreamBroken: A header is none.
        """
        found: list[tuple[int, bytes]] = []
        start = 0
        while start < len(data):
            if self._left_bytes:
                piece = data[start : start + self._left_bytes]
                self._left_bytes -= len(piece)
                start += len(piece)
                found.append((self._stream, piece))
                continue
            missing = HEADER_BYTES - len(self._header)
            self._header += data[start : start + missing]
            start += missing
            if len(self._header) == HEADER_BYTES:
                self._begin(self._header)
                self._header = b""
        return found

    def _begin(self, header: bytes) -> None:
        if header[0] not in (0, STDOUT, STDERR) or header[1:4] != b"\0\0\0":
            raise StreamBroken("the container's output is no multiplexed stream")
        self._stream = header[0] or STDOUT
        self._left_bytes = int.from_bytes(header[4:], "big")
