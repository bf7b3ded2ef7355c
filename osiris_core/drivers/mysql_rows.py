"""
The rows of a text result of the MySQL protocol as Arrow arrays, whole blocks of rows at a time. Never reads or waits.

A row is a packet (three bytes of length, one of sequence), in it each value behind its length. numpy walks all rows of
a block at once, a column after the other, so the cost per value is that of a few array operations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterator

HEADER_BYTES = 4
LARGEST_PACKET = 0xFFFFFF
"""A packet of this size goes on in the next one."""
_NULL, _TWO_BYTES, _THREE_BYTES, _EIGHT_BYTES, _ERROR = 0xFB, 0xFC, 0xFD, 0xFE, 0xFF
_SMALLEST_ROW_WITH_FE = 9
"""A row may begin with 0xFE, then its first value's length is in eight bytes; a shorter packet is the end."""
_WINDOW_BYTES = 64
"""Up to this width values are copied as rows of a matrix."""
_LONG_BYTES = 512
"""From this average on a value is copied by itself."""


class MalformedRows(Exception):
    """What came is no result of so many columns."""


@dataclass(frozen=True)
class RowBlock:
    """Some rows: their bytes, padded, and where in them each row's first value begins and its last one ends."""

    data: Any
    starts: Any
    ends: Any

    def __len__(self) -> int:
        return len(self.starts)


class RowStream:
    """
    Takes bytes cut anywhere, gives blocks of whole rows.

    Attributes:
        end: The last packet's content, once it came: the server's end or its error. What follows it is not ours.
    """

    def __init__(self) -> None:
        self.end: bytes | None = None
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._needed_bytes = 0

    def feed(self, chunks: list[bytes]) -> Iterator[RowBlock]:
        """The rows that are whole with these bytes; an unfinished one is kept for the next call."""
        import numpy as np

        self._held += chunks
        self._held_bytes += sum(map(len, chunks))
        if self._held_bytes < self._needed_bytes:
            return  # a large value arrives in many pieces: they are looked at when it is whole
        joined = b"".join([*self._held, bytes(_WINDOW_BYTES)])
        data = np.frombuffer(joined, np.uint8)
        used = 0
        while self.end is None:
            starts, after = _packets(data[used : len(joined) - _WINDOW_BYTES])
            if not len(starts):
                break
            starts, after = starts + used, after + used
            count, large = self._rows_until_end(data, starts, after)
            if count:
                yield RowBlock(data, starts[:count] + HEADER_BYTES, after[:count])
                used = int(after[count - 1])
            if large:
                found = _joined(joined[used : len(joined) - _WINDOW_BYTES])
                if found is None:
                    break
                content, size = found
                padded = np.frombuffer(content + bytes(_WINDOW_BYTES), np.uint8)
                yield RowBlock(padded, np.array([0]), np.array([len(content)]))
                used += size
            elif self.end is not None or count == len(starts):
                break
        rest = joined[used : len(joined) - _WINDOW_BYTES]
        self._held, self._held_bytes, self._needed_bytes = [rest], len(rest), _needed_bytes(rest)

    def _rows_until_end(self, data: Any, starts: Any, after: Any) -> tuple[int, bool]:
        """How many of the packets are rows before the end, or before one that goes on in another packet."""
        import numpy as np

        sizes = after - starts - HEADER_BYTES
        first = data[starts + HEADER_BYTES]
        special = (sizes == LARGEST_PACKET) | (
            (first >= _EIGHT_BYTES) & ((first == _ERROR) | (sizes < _SMALLEST_ROW_WITH_FE))
        )
        at = int(np.argmax(special))
        if not special[at]:
            return len(starts), False
        if sizes[at] == LARGEST_PACKET:
            return at, True
        self.end = data[starts[at] + HEADER_BYTES : after[at]].tobytes()
        return at, False


def _needed_bytes(rest: bytes) -> int:
    """How many bytes there have to be before another row can be whole."""
    at = 0
    while at + HEADER_BYTES <= len(rest):
        after = at + HEADER_BYTES + int.from_bytes(rest[at : at + 3], "little")
        if after > len(rest):
            return after
        at = after
    return at + HEADER_BYTES


def _packets(data: Any) -> tuple[Any, Any]:
    """Where the whole packets at the beginning of `data` begin, and where each one ends."""
    import numpy as np

    if len(data) >= HEADER_BYTES:
        # The highest byte of a length is zero for rows under 64 KiB, and texts hold no zeros: nearly every zero is in a
        # header. The chain is made of those that lead to a header with the next number, and that another one leads to;
        # whether it is one is checked.
        found = np.flatnonzero(data[2:-1] == 0)
        after = found + (HEADER_BYTES + data[found].astype(np.int64) + (data[found + 1].astype(np.int64) << 8))
        last = len(data) - HEADER_BYTES
        following = data[np.minimum(after, last) + 3]
        leads = (after <= len(data)) & ((after > last) | (following == data[found + 3] + np.uint8(1)))
        found, after = found[leads], after[leads]
        reached = np.zeros(len(data) + 1, bool)
        reached[0] = True
        reached[after] = True
        chained = reached[found]
        found, after = found[chained], after[chained]
        if len(found) and found[0] == 0 and (after[:-1] == found[1:]).all() and _leads_on(data, int(after[-1])):
            return found, after
    return _packets_one_by_one(data)


def _leads_on(data: Any, at: int) -> bool:
    """Whether no whole packet follows at `at`."""
    if at + HEADER_BYTES > len(data):
        return True
    size = int(data[at]) | int(data[at + 1]) << 8 | int(data[at + 2]) << 16
    return at + HEADER_BYTES + size > len(data)


def _packets_one_by_one(data: Any) -> tuple[Any, Any]:
    import numpy as np

    raw, at, starts, ends = data.tobytes(), 0, [], []
    while at + HEADER_BYTES <= len(raw):
        after = at + HEADER_BYTES + int.from_bytes(raw[at : at + 3], "little")
        if after > len(raw):
            break
        starts.append(at)
        ends.append(after)
        at = after
    return np.array(starts, np.int64), np.array(ends, np.int64)


def _joined(raw: bytes) -> tuple[bytes, int] | None:
    """The content of a row in several packets, and how many bytes these take; None when they are not all there."""
    parts, at = [], 0
    while at + HEADER_BYTES <= len(raw):
        size = int.from_bytes(raw[at : at + 3], "little")
        if at + HEADER_BYTES + size > len(raw):
            return None
        parts.append(raw[at + HEADER_BYTES : at + HEADER_BYTES + size])
        at += HEADER_BYTES + size
        if size < LARGEST_PACKET:
            return b"".join(parts), at
    return None


def columns_of(block: RowBlock, count: int) -> list[pa.BinaryArray]:
    """
    The values of a block, a column at a time, as the server wrote them; null where they are.

    Raises:
        MalformedRows: The rows do not have `count` values.
    """
    data, at = block.data, block.starts
    limit = len(data) - _WINDOW_BYTES
    columns = []
    for _ in range(count):
        if (at >= block.ends).any():
            raise MalformedRows(f"a row has less than {count} values")
        at, sizes, nulls = _value_sizes(data, at)
        if (at + sizes > limit).any():
            raise MalformedRows("a value is longer than its row")
        columns.append(_array(data, at, sizes, nulls))
        at = at + sizes
    if (at != block.ends).any():
        raise MalformedRows(f"a row has other values than {count}")
    return columns


def _value_sizes(data: Any, at: Any) -> tuple[Any, Any, Any]:
    """Where the values begin whose lengths stand at `at`, these lengths, and which are null (None: none is)."""
    import numpy as np

    first = data[at]
    sizes = first.astype(np.int64)
    if first.max() < _NULL:
        return at + 1, sizes, None
    begins = at + 1
    nulls = first == _NULL
    sizes[nulls] = 0
    for mark, width in ((_TWO_BYTES, 2), (_THREE_BYTES, 3), (_EIGHT_BYTES, 8)):
        wide = np.flatnonzero(first == mark)
        if len(wide):
            where = at[wide]
            if int(where.max()) + width >= len(data):
                raise MalformedRows("a length is cut off")
            sizes[wide] = sum(data[where + 1 + byte].astype(np.int64) << (8 * byte) for byte in range(width))
            begins[wide] += width
    if (sizes < 0).any():
        raise MalformedRows("a length is negative")
    return begins, sizes, nulls if nulls.any() else None


def _array(data: Any, begins: Any, sizes: Any, nulls: Any) -> pa.BinaryArray:
    import numpy as np

    count = len(begins)
    offsets: Any = np.zeros(count + 1, np.int32)
    np.cumsum(sizes, out=offsets[1:])
    validity: Any = None if nulls is None else np.packbits(~nulls, bitorder="little")
    content = _gathered(data, begins, sizes, offsets)
    buffers = [None if validity is None else pa.py_buffer(validity), pa.py_buffer(offsets), pa.py_buffer(content)]
    return pa.Array.from_buffers(pa.binary(), count, buffers)  # type: ignore[return-value]


def _gathered(data: Any, begins: Any, sizes: Any, offsets: Any) -> Any:
    """The values one behind the other."""
    import numpy as np

    width, total = int(sizes.max()), int(offsets[-1])
    if not total:
        return b""
    if width <= _WINDOW_BYTES:
        rows = np.lib.stride_tricks.sliding_window_view(data, width)[begins]
        if total == width * len(sizes):
            return rows.reshape(-1)
        return rows[np.arange(width) < sizes[:, None]]
    if total > _LONG_BYTES * len(sizes):
        view = memoryview(data)
        return b"".join(
            [view[start : start + size] for start, size in zip(begins.tolist(), sizes.tolist(), strict=True)]
        )
    return data[np.repeat(begins - offsets[:-1], sizes) + np.arange(total)]
