"""The body of an answer, unpacked piece by piece and never beyond its limit. Does no I/O."""

from __future__ import annotations

import zlib

_GZIP_OR_ZLIB = 47
"""zlib's word for: 32 KiB of window, the format told by the header."""


class BodyTooLarge(Exception):
    """The answer is larger than the limit, packed or unpacked."""


class BodyDamaged(Exception):
    """The answer cannot be unpacked, or ends before its end."""


class BodyReader:
    """
    Takes the pieces of one body as they come and gives the whole.

    A packed body may not unpack to more than the limit either: what is beyond is not even unpacked.
    """

    def __init__(self, encoding: str, limit_bytes: int) -> None:
        """
        Raises:
            BodyDamaged: The encoding is one that was not asked for.
        """
        self._limit_bytes = limit_bytes
        self._pieces: list[bytes] = []
        self._size_bytes = 0
        encoding = encoding.strip().lower()
        if encoding not in ("", "identity", "gzip", "x-gzip", "deflate"):
            raise BodyDamaged(f"it is packed as {encoding!r}, which was not asked for")
        self._unpacker = zlib.decompressobj(_GZIP_OR_ZLIB) if encoding not in ("", "identity") else None

    def feed(self, data: bytes) -> None:
        if self._unpacker is None:
            self._take(data)
            return
        while data:
            if self._unpacker.eof:  # a gzip file may be several, one after the other
                self._unpacker = zlib.decompressobj(_GZIP_OR_ZLIB)
            try:
                self._take(self._unpacker.decompress(data, self._limit_bytes - self._size_bytes + 1))
            except zlib.error as exc:
                raise BodyDamaged(f"it cannot be unpacked: {exc}") from exc
            data = self._unpacker.unused_data or self._unpacker.unconsumed_tail

    def _take(self, data: bytes) -> None:
        self._size_bytes += len(data)
        if self._size_bytes > self._limit_bytes:
            raise BodyTooLarge
        self._pieces.append(data)

    def finish(self) -> bytes:
        if self._unpacker is not None and self._pieces and not self._unpacker.eof:
            raise BodyDamaged("it ends in the middle of what is packed")
        return b"".join(self._pieces)
