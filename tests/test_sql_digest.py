"""The digest by which a second try of an append knows that its rows are the ones that were written."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from osiris_core.drivers.sql_digest import content_digest

VALUES: dict[str, tuple[pa.DataType, list[Any]]] = {
    "int64": (pa.int64(), [1, None, 3, 4]),
    "bool": (pa.bool_(), [True, None, False, True]),
    "double": (pa.float64(), [1.5, None, float("inf"), 0.0]),
    "text": (pa.string(), ["a", None, "", "bc"]),
    "large text": (pa.large_string(), ["a", None, "", "bc"]),
    "view": (pa.string_view(), ["a", None, "", "a text of more than twelve bytes"]),
    "binary": (pa.binary(), [b"\0", None, b"", b"ab"]),
    "fixed": (pa.binary(2), [b"ab", None, b"cd", b"ef"]),
    "dictionary": (pa.dictionary(pa.int8(), pa.string()), ["x", None, "y", "x"]),
    "decimal": (pa.decimal128(5, 2), [Decimal("1.10"), None, Decimal("2.00"), Decimal("3.00")]),
    "wide": (pa.decimal256(50, 2), [Decimal("1.10"), None, Decimal("2.00"), Decimal("3.00")]),
    "date": (pa.date32(), [date(2024, 1, 1), None, date(2024, 1, 2), date(1, 1, 1)]),
    "time": (pa.time64("us"), [time(1), None, time(2), time(3)]),
    "timestamp": (pa.timestamp("us", "UTC"), [datetime(2024, 1, day, tzinfo=UTC) for day in (1, 2, 3, 4)]),
    "duration": (pa.duration("ms"), [timedelta(1), None, timedelta(2), timedelta(3)]),
    "interval": (pa.month_day_nano_interval(), [(1, 2, 3), None, (0, 0, 1), (4, 5, 6)]),
    "null": (pa.null(), [None] * 4),
    "list": (pa.list_(pa.string()), [["a", None], None, [], ["b"]]),
    "list of dictionaries": (pa.list_(pa.dictionary(pa.int8(), pa.string())), [["a", None], None, [], ["b"]]),
    "struct": (pa.struct({"a": pa.int8(), "b": pa.string()}), [{"a": 1, "b": "x"}, None, {"a": None, "b": ""}, {}]),
    "map": (pa.map_(pa.string(), pa.int8()), [[("a", 1)], None, [], [("b", 2), ("c", None)]]),
}


@pytest.mark.parametrize("name", VALUES)
def test_how_rows_are_cut_does_not_matter_and_each_value_does(name: str) -> None:
    """Of every type: in any batches the digest is the same; with two rows the other way round it is another."""
    kind, values = VALUES[name]
    whole = pa.table({"x": pa.array(values, kind)})
    digest = content_digest(whole)
    for size in (1, 2, 3):
        pieces = [pa.table({"x": pa.array(values[start : start + size], kind)}) for start in range(0, 4, size)]
        assert content_digest(pa.concat_tables(pieces)) == digest
    assert content_digest(pa.concat_tables([whole.slice(0, 3), whole.slice(3)])) == digest
    if name != "null":
        assert content_digest(pa.table({"x": pa.array([*values[:2], values[3], values[2]], kind)})) != digest
        assert content_digest(whole.slice(0, 3)) != digest


def test_bytes_under_a_null_are_no_value() -> None:
    """Two servers of the same rows may leave different ones there."""
    values = [
        pa.Array.from_buffers(pa.int32(), 2, [pa.py_buffer(b"\x01"), pa.py_buffer(hidden)])
        for hidden in (b"\1\0\0\0\2\0\0\0", b"\1\0\0\0\3\0\0\0")
    ]
    assert values[0].equals(values[1])
    assert len({content_digest(pa.table({"x": array})) for array in values}) == 1


def test_values_of_a_dictionary_count() -> None:
    """Not only their numbers: other categories are other rows."""
    tables = [pa.table({"x": pa.array(values).dictionary_encode()}) for values in (["x", "y"], ["p", "q"])]
    assert content_digest(tables[0]) != content_digest(tables[1])
    assert content_digest(tables[0]) == content_digest(pa.table({"x": ["x", "y"]}))


def test_texts_that_run_together_are_told_apart() -> None:
    tables = [pa.table({"x": values}) for values in (["ab", "c"], ["a", "bc"], ["abc", ""], ["abc", None])]
    assert len({content_digest(table) for table in tables}) == 4
