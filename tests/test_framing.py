"""Framing: whole frames come out however the bytes are cut, and what is no frame costs the frames around it nothing."""

from __future__ import annotations

import itertools
import json
import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remote.framing import MAX_FRAME_BYTES, RS, Frame, FrameDecoder, Stray, encode_frame

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
TEXTS = st.builds(lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace"), VALUES)
GARBAGE = st.binary(max_size=40).filter(lambda data: RS not in data)


def decode(data: bytes, cuts: list[int], limit: int = MAX_FRAME_BYTES) -> list[Frame | Stray]:
    decoder = FrameDecoder(limit)
    found: list[Frame | Stray] = []
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for start, end in itertools.pairwise(places):
        found += decoder.feed(data[start:end])
    return found + decoder.finish()


def frames(found: list[Frame | Stray]) -> list[bytes]:
    return [item.text for item in found if isinstance(item, Frame)]


@given(texts=st.lists(TEXTS, max_size=8), cuts=st.lists(st.integers(0, 10_000), max_size=20))
def test_frames_cut_anywhere_are_whole(texts: list[bytes], cuts: list[int]) -> None:
    """Any JSON texts come out as they went in, wherever the stream is cut."""
    data = b"".join(map(encode_frame, texts))
    assert decode(data, cuts) == [Frame(text) for text in texts]


@given(texts=st.lists(TEXTS, max_size=5))
def test_one_byte_at_a_time(texts: list[bytes]) -> None:
    """A stream that comes byte by byte gives the same frames."""
    data = b"".join(map(encode_frame, texts))
    assert decode(data, list(range(len(data)))) == [Frame(text) for text in texts]


@given(parts=st.lists(st.tuples(GARBAGE, TEXTS), max_size=6), cuts=st.lists(st.integers(0, 10_000), max_size=20))
def test_garbage_between_frames_costs_no_frame(parts: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
    """What is printed between frames comes out apart, complete and in its order, and every frame with it."""
    data = b"".join(garbage + encode_frame(text) for garbage, text in parts)
    found = decode(data, cuts)
    assert frames(found) == [text for _, text in parts]
    strays = b"".join(item.data for item in found if isinstance(item, Stray))
    assert strays == b"".join(garbage for garbage, _ in parts)


@given(data=st.binary(max_size=300), cuts=st.lists(st.integers(0, 10_000), max_size=20), limit=st.integers(1, 40))
@settings(max_examples=300)
def test_any_bytes_give_the_same_result_wherever_they_are_cut(data: bytes, cuts: list[int], limit: int) -> None:
    """Binary garbage of any kind raises nothing, and its frames do not depend on the cuts."""
    assert frames(decode(data, cuts, limit)) == frames(decode(data, [], limit))
    assert all(len(text) <= limit for text in frames(decode(data, cuts, limit)))


@given(texts=st.lists(TEXTS, min_size=2, max_size=5), lost=st.integers(1, 1_000), which=st.integers(0, 10))
def test_a_frame_that_lost_its_end_costs_only_itself(texts: list[bytes], lost: int, which: int) -> None:
    """The frame behind a cut one is whole; the cut one is a stray and says so."""
    which %= len(texts) - 1
    pieces = list(map(encode_frame, texts))
    pieces[which] = pieces[which][: -min(lost, len(pieces[which]) - 1)]
    found = decode(b"".join(pieces), [])
    assert frames(found) == [text for number, text in enumerate(texts) if number != which]
    assert [item.reason for item in found if isinstance(item, Stray)] in (["cut"], [])


def test_a_frame_that_lost_its_beginning_is_garbage() -> None:
    """The rest of a frame is given out as a stray, the next frame is whole."""
    assert decode(b'_id":1}\n' + encode_frame(b"{}"), []) == [Stray(b'_id":1}\n', "garbage"), Frame(b"{}")]


def test_an_end_in_the_middle_of_a_frame_is_told() -> None:
    """A stream that ends within a frame gives it as cut; one that ends well gives nothing."""
    decoder = FrameDecoder()
    decoder.feed(RS + b'{"a":')
    assert decoder.finish() == [Stray(b'{"a":', "cut")]
    assert decoder.finish() == []


@pytest.mark.parametrize("size", [11, 12, 5_000])
def test_a_frame_over_the_limit_is_left_out(size: int) -> None:
    """Only its beginning is shown, and the frames around it are whole."""
    data = encode_frame(b"1") + encode_frame(b"x" * size) + encode_frame(b"2")
    for cuts in ([], list(range(len(data)))):
        found = decode(data, cuts, limit=10)
        assert frames(found) == [b"1", b"2"]
        strays = [item for item in found if isinstance(item, Stray)]
        assert [item.reason for item in strays] == ["too_long"]
        assert len(strays[0].data) <= 1 << 10
    assert frames(decode(encode_frame(b"x" * 10), [], limit=10)) == [b"x" * 10]


@pytest.mark.parametrize("piece", [b"x", b"x" * 997])
def test_never_more_than_the_limit_is_held(piece: bytes) -> None:
    """A frame, or garbage, that never ends takes no more memory than the limit, in pieces of any size."""
    for head in (RS, b""):
        decoder = FrameDecoder(50_000)
        tracemalloc.start()
        decoder.feed(head)
        for _ in range(150_000 // len(piece)):
            decoder.feed(piece)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 150_000  # what is held, once more while it grows, and a little


@pytest.mark.parametrize("piece", [RS, b"\n", b"x\n", RS + b"\n", RS + RS + b"\n"])
def test_no_input_takes_long(piece: bytes) -> None:
    """The time grows with the bytes and not with their square, whatever they are."""
    data = (piece * (1 << 20))[: 1 << 20]
    started_s = time.monotonic()
    FrameDecoder().feed(data)
    assert time.monotonic() - started_s < 10
