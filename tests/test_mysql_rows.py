"""The rows of the MySQL protocol: any values, cut anywhere, and what is no result is noticed."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_core.drivers.mysql_rows import LARGEST_PACKET, MalformedRows, RowStream, columns_of

END = b"\xfe\x00\x00\x22\x00"


def value_bytes(value: bytes | None) -> bytes:
    if value is None:
        return b"\xfb"
    size = len(value)
    if size < 0xFB:
        return bytes([size]) + value
    if size < 1 << 16:
        return b"\xfc" + size.to_bytes(2, "little") + value
    if size < 1 << 24:
        return b"\xfd" + size.to_bytes(3, "little") + value
    return b"\xfe" + size.to_bytes(8, "little") + value


def wire(rows: list[list[bytes | None]], end: bytes = END, sequence: int = 7) -> bytes:
    """The packets of a result, as a server sends them."""
    found = []
    for content in [*(b"".join(map(value_bytes, row)) for row in rows), end]:
        rest: bytes | None = content
        while rest is not None:
            part, rest = rest[:LARGEST_PACKET], rest[LARGEST_PACKET:] if len(rest) >= LARGEST_PACKET else None
            found.append(len(part).to_bytes(3, "little") + bytes([sequence % 256]) + part)
            sequence += 1
    return b"".join(found)


def read(pieces: list[list[bytes]], count: int) -> tuple[list[list[Any]], RowStream]:
    stream, rows = RowStream(), []
    for chunks in pieces:
        for block in stream.feed(chunks):
            rows += [
                list(row) for row in zip(*(column.to_pylist() for column in columns_of(block, count)), strict=True)
            ]
    return rows, stream


VALUES = st.one_of(
    st.none(),
    st.binary(max_size=12),
    st.sampled_from([b"", b"0", b"\0\0\0\0\0\0\0\0\0", b"\xfe\0\0\0", b"\x01\0\0\x02\0\0\0", b"x" * 250, b"y" * 251]),
    st.integers(0, 90_000).map(lambda size: b"z" * size),
)


@settings(max_examples=150, deadline=None)
@given(st.data(), st.integers(1, 5), st.integers(0, 255))
def test_any_rows_cut_anywhere_come_back_as_they_are(data: st.DataObject, count: int, sequence: int) -> None:
    """Nulls, empty values, lengths in one to three bytes and zeros in values; wherever the bytes are cut."""
    rows = data.draw(st.lists(st.lists(VALUES, min_size=count, max_size=count), max_size=40))
    sent = wire(rows, sequence=sequence)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=6)))
    pieces = [sent[start:end] for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True)]
    found, stream = read([[piece] for piece in pieces], count)
    assert found == rows
    assert stream.end == END


def test_many_rows_are_found_without_going_through_them_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The common case does not need the slow way, whatever the sequence numbers are."""
    monkeypatch.setattr("osiris_core.drivers.mysql_rows._packets_one_by_one", None)
    rows: list[list[bytes | None]] = [[b"%d" % n, b"text %d" % (n % 7), None if n % 3 else b""] for n in range(5_000)]
    assert read([[wire(rows)]], 3)[0] == rows


def test_a_row_in_several_packets_is_one_row() -> None:
    """A value of more than 16 MB, between small ones, in pieces."""
    large = bytes(range(256)) * 70_000
    rows: list[list[bytes | None]] = [[b"1", b"a"], [b"2", large], [b"3", None]]
    sent = wire(rows)
    found, stream = read([[sent[start : start + 3_000_000]] for start in range(0, len(sent), 3_000_000)], 2)
    assert found == rows
    assert stream.end == END


def test_a_large_value_in_many_pieces_is_not_copied_with_each() -> None:
    """What is held is looked at when it can be whole: the work grows with the value, not with its square."""
    sent = wire([[b"v" * (40 << 20)], [b"w"]])
    started_s = time.process_time()
    found, stream = read([[sent[start : start + 50_000]] for start in range(0, len(sent), 50_000)], 1)
    assert time.process_time() - started_s < 3
    assert [len(value) for (value,) in found] == [40 << 20, 1]
    assert stream.end == END


def test_a_packet_of_exactly_the_largest_size_goes_on_in_an_empty_one() -> None:
    value = b"v" * (LARGEST_PACKET - 4)
    assert read([[wire([[value], [b"w"]])]], 1)[0] == [[value], [b"w"]]


def test_an_error_in_the_middle_is_the_end() -> None:
    """Rows before it are given, and it is told apart from a row that begins with 0xFE."""
    error = b"\xff\x25\x05#70100Query execution was interrupted"
    rows: list[list[bytes | None]] = [[b"1"], [b"2"]]
    found, stream = read([[wire(rows, error)]], 1)
    assert found == rows
    assert stream.end == error


@pytest.mark.parametrize("count", [1, 2, 4])
def test_another_number_of_values_is_noticed(count: int) -> None:
    with pytest.raises(MalformedRows):
        read([[wire([[b"1", b"2", b"3"]] * 3)]], count)


@settings(max_examples=100, deadline=None)
@given(st.binary(min_size=5, max_size=300), st.integers(1, 3))
def test_garbage_never_reads_beyond_its_bytes(garbage: bytes, count: int) -> None:
    """What is no result is waited for, or refused; nothing else is raised."""
    try:
        read([[garbage]], count)
    except MalformedRows:
        return
