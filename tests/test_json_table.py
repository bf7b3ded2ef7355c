"""Records into a table: however they come in pages, and whatever is in them, nothing changes. Plain data, no I/O."""

from __future__ import annotations

import gzip
import json
import math
import tempfile
import zlib
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_core.drivers import json_table
from osiris_core.drivers.http_body import BodyDamaged, BodyReader, BodyTooLarge
from osiris_core.drivers.json_exact import NotJson, json_text, read_json
from osiris_core.drivers.json_flatten import flatten
from osiris_core.drivers.json_path import NoSuchPath, find, parse_path
from osiris_core.drivers.json_rows import json_rows
from osiris_core.drivers.json_table import RecordTable

TEXTS = st.text(st.characters(codec="utf-8"), max_size=5)
NUMBERS = (
    st.integers(-5, 5)
    | st.integers(-(1 << 70), 1 << 70)
    | st.sampled_from([1 << 53, (1 << 53) + 1, (1 << 63) - 1, 1 << 63, -(1 << 63), -(1 << 63) - 1])
    | st.floats(allow_nan=False, allow_infinity=False)
)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["x", "y"]), inner, max_size=2),
    max_leaves=4,
)
RECORDS = st.lists(st.dictionaries(st.sampled_from(["a", "b", "c"]), VALUES, max_size=3), max_size=8)


def table_of(pages: list[list[Any]], **settings: Any) -> pa.Table:
    with tempfile.TemporaryDirectory() as folder:
        table = RecordTable(lambda: Path(folder), **settings)
        for page in pages:
            table.add(page)
        schema = table.schema()
        found = pa.Table.from_batches(list(table.batches(schema)), schema)
        assert found.num_rows == sum(map(len, pages)) or not schema.names
        return found


@settings(max_examples=200, deadline=None)
@given(records=RECORDS, cuts=st.lists(st.integers(0, 8), max_size=3), decimals=st.booleans(), held=st.booleans())
def test_pages_do_not_show(records: list[Any], cuts: list[int], decimals: bool, held: bool) -> None:
    """The same records give the same table in one page and in many, in memory and from disk."""
    records = read_json(json.dumps(records).encode(), decimals=decimals)
    edges = sorted({0, len(records), *(cut for cut in cuts if cut < len(records))})
    pages = [records[start:end] for start, end in pairwise(edges)]
    whole = table_of([records])
    with pytest.MonkeyPatch.context() as patch:
        if not held:
            patch.setattr(json_table, "HELD_BYTES", 0)
        parts = table_of(pages)
    assert parts.schema == whole.schema
    assert parts.equals(whole) or parts.to_pydict() == whole.to_pydict()


@settings(max_examples=300, deadline=None)
@given(records=RECORDS, decimals=st.booleans())
def test_no_value_changes(records: list[Any], decimals: bool) -> None:
    """Each value of each record is in its column: equal, or as the text that JSON has for it."""
    records = read_json(json.dumps(records).encode(), decimals=decimals)
    table = table_of([records])
    columns = table.to_pydict()
    for number, record in enumerate(records):
        row = flatten(record, ".")
        for name, column in columns.items():
            value, found = row.get(name), column[number]
            if value is None:
                assert found is None
            elif isinstance(found, str):
                assert found == value or (
                    not isinstance(value, str) and json.loads(found) == json.loads(json_text(value))
                )
            elif isinstance(found, bool) or isinstance(value, bool):
                assert found is value
            else:
                assert found == value
                assert math.copysign(1, found) == math.copysign(1, value) or not isinstance(found, float)


@settings(max_examples=200, deadline=None)
@given(value=VALUES, decimals=st.booleans())
def test_json_is_written_as_it_was_read(value: Any, decimals: bool) -> None:
    """A value survives reading and writing; a decimal with all its digits."""
    text = json.dumps(value, ensure_ascii=False)
    read = read_json(text.encode(), decimals=decimals)
    assert read_json(json_text(read).encode(), decimals=decimals) == read
    assert json.loads(json_text(read)) == value


@pytest.mark.parametrize(
    ("text", "back"), [("1.50", "1.50"), ("1E+2", "1E2"), ("-0.0", "-0.0"), ("0.1e-7", "1E-8"), ("1e400", "1E400")]
)
def test_decimals_keep_their_digits(text: str, back: str) -> None:
    """What Python writes of a decimal is what JSON allows."""
    value = read_json(text.encode(), decimals=True)
    assert isinstance(value, Decimal)
    assert json_text(value) == back
    assert Decimal(back) == value


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", "-Infinity", "1e9999999999999999999", "", "[1,]", "{'a': 1}"])
@pytest.mark.parametrize("decimals", [True, False])
def test_what_is_no_json(text: str, decimals: bool) -> None:
    """By the standard, and not by what Python takes."""
    with pytest.raises(NotJson):
        read_json(text.encode(), decimals=decimals)


@settings(max_examples=100, deadline=None)
@given(
    body=st.binary(max_size=300),
    cuts=st.lists(st.integers(0, 400), max_size=4),
    packer=st.sampled_from(["gzip", "deflate", ""]),
)
def test_a_body_cut_anywhere(body: bytes, cuts: list[int], packer: str) -> None:
    """The pieces do not show; a body beyond its limit, or that ends too early, is none."""
    packed = {"gzip": gzip.compress, "deflate": zlib.compress, "": bytes}[packer](body)
    edges = sorted({0, len(packed), *(cut for cut in cuts if cut < len(packed))})
    pieces = [packed[start:end] for start, end in pairwise(edges)]
    reader = BodyReader(packer, len(body))
    for piece in pieces:
        reader.feed(piece)
    assert reader.finish() == body
    if body:
        short = BodyReader(packer, len(body) - 1)
        with pytest.raises(BodyTooLarge):  # noqa: PT012 - in whichever piece
            for piece in pieces:
                short.feed(piece)
        if packer:
            ended = BodyReader(packer, len(body))
            ended.feed(packed[:-5])
            with pytest.raises(BodyDamaged):
                ended.finish()


def test_two_packed_bodies_in_a_row() -> None:
    """A gzip file may be several; what is no gzip is damaged."""
    reader = BodyReader("gzip", 100)
    reader.feed(gzip.compress(b"one ") + gzip.compress(b"two"))
    assert reader.finish() == b"one two"
    with pytest.raises(BodyDamaged):
        BodyReader("gzip", 100).feed(b"plain text")


@pytest.mark.parametrize(
    ("path", "value", "found"),
    [
        ("", 1, 1),
        ("$", {"a": 1}, {"a": 1}),
        ("$.a.b", {"a": {"b": 1}}, 1),
        ("a[1].b", {"a": [0, {"b": 2}]}, 2),
        ("a[*].b", {"a": [{"b": 1}, {"b": 2}]}, [1, 2]),
        ("[*].a[*]", [{"a": [1]}, {"a": None}, {"a": [2, 3]}], [1, 2, 3]),
        ("['a.b']['c']", {"a.b": {"c": 1}}, 1),
        ("a.b", {"a": None}, None),
    ],
)
def test_paths(path: str, value: Any, found: Any) -> None:
    assert find(value, parse_path(path)) == found


@pytest.mark.parametrize("path", ["a..b", ".a", "a[", "a[x]", "a]", "a[-1]"])
def test_what_is_no_path(path: str) -> None:
    """It is refused when it is read, and not when it is used."""
    with pytest.raises(ValueError, match="is no path"):
        parse_path(path)


def test_nothing_there() -> None:
    """The error says where the way ended."""
    with pytest.raises(NoSuchPath, match=r"a\[0\]\.b is a number, and no object"):
        find({"a": [{"b": 1}]}, parse_path("a[0].b.c"))


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(st.tuples(st.none() | st.integers(-(1 << 63), (1 << 63) - 1), st.none() | TEXTS), max_size=5))
def test_rows_as_json(rows: list[tuple[Any, Any]]) -> None:
    """A batch becomes the objects that it is made of."""
    batch = pa.record_batch(
        {"n": pa.array([r[0] for r in rows], pa.int64()), 't"': pa.array([r[1] for r in rows], pa.string())}
    )
    assert [json.loads(text) for text in json_rows(batch)] == [{"n": n, 't"': t} for n, t in rows]
