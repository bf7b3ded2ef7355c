"""Arrow's values as those of PostgreSQL's types: cast so that nothing is lost, or as texts that the server reads."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from osiris_core.arrow_constants import int32_scalar
from osiris_core.drivers.csv_text import as_text
from osiris_core.drivers.postgres_reading import numeric_limits
from osiris_core.drivers.sql_exact import (
    CLOCK,
    DAY,
    MICROSECOND_PLACES,
    as_dates,
    as_floats,
    check_multiple,
    check_places,
    check_texts,
    in_microseconds,
    is_number,
    refused,
    without_zone,
)
from osiris_core.drivers.sql_extractor_config import MAX_DIGITS

if TYPE_CHECKING:
    from collections.abc import Callable

    from osiris_core.drivers.postgres_tables import TableColumn

WIRE: dict[str, pa.DataType] = {
    "bool": pa.bool_(),
    "int2": pa.int16(),
    "int4": pa.int32(),
    "int8": pa.int64(),
    "float4": pa.float32(),
    "float8": pa.float64(),
    "text": pa.string(),
    "varchar": pa.string(),
    "bpchar": pa.string(),
    "json": pa.string(),
    "bytea": pa.binary(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", "UTC"),
    "interval": pa.month_day_nano_interval(),
}
"""The Arrow type that the client sends as a server's type."""
LISTS = frozenset({"int2", "int4", "int8", "float4", "float8", "text", "bool"})
"""Types of which the client sends arrays too."""
_ZONE = r" ?(Z|[+-]\d\d(:?\d\d){0,2})"
_TEXTS = {
    "date": rf"-?infinity|{DAY}( BC)?",
    "time": CLOCK,
    "timetz": rf"{CLOCK}({_ZONE})?",
    "timestamp": rf"-?infinity|{DAY}([ T]{CLOCK})?( BC)?",
    "timestamptz": rf"-?infinity|{DAY}([ T]{CLOCK}({_ZONE})?)?( BC)?",
    "char": r"[ -~]?",
}
"""Texts of these types that are read for what they say. Of others the server leaves something out, as the time of a
date or the zone of a timestamp."""
_FULL_RANGE, _FULL_PRECISION = 0x7FFF, 0xFFFF
_FIELDS_NS = ((12, 0), (11, 60_000_000_000), (10, 3_600_000_000_000))
"""Of the fields of an interval by their bits (second, minute, hour) the smallest step."""


@dataclass(frozen=True)
class Conversion:
    """
    How values get into a column.

    Attributes:
        wire: The type in which the client sends them; None: as texts that the server reads.
        convert: Makes that of them, or values whose `server_text` is exact. It raises `Inexact` or an error of Arrow.
    """

    wire: pa.DataType | None
    convert: Callable[[Any], Any]


def conversion(kind: pa.DataType, target: TableColumn) -> Conversion:
    """
    For values of a plain type.

    Raises:
        DatabaseFailed: The column takes none of that type.
    """
    found = _conversion(kind, target.type_name, target.typmod, is_own=target.is_own)
    if found is None:
        raise refused(kind, target.name, target.sql_type)
    return found


def _conversion(kind: pa.DataType, name: str, typmod: int, *, is_own: bool) -> Conversion | None:
    wire = WIRE.get(name)
    if pa.types.is_null(kind):
        return Conversion(wire or pa.string(), lambda values: values.cast(wire or pa.string()))
    if name.startswith("_") and pa.types.is_list(kind):
        return _list(kind, name[1:], typmod, is_own=is_own)
    if is_own:
        return Conversion(None, _unchanged)
    make = _FAMILIES.get(name)
    if make is not None:
        return make(kind, name, typmod)
    return Conversion(wire if wire == kind else None, _unchanged)


def _unchanged(values: Any) -> Any:
    return values


def _list(kind: Any, name: str, typmod: int, *, is_own: bool) -> Conversion | None:
    item = _conversion(kind.value_type, name, typmod, is_own=is_own)
    if item is None:
        return None

    def convert(values: Any) -> Any:
        items = item.convert(values.flatten())
        sizes = pc.list_value_length(values)
        offsets = pa.concat_arrays([pa.repeat(int32_scalar(0), 1), pc.cumulative_sum(pc.fill_null(sizes, 0))])
        return pa.ListArray.from_arrays(offsets, items, mask=values.is_null() if values.null_count else None)

    wire = pa.list_(item.wire) if name in LISTS and item.wire is not None else None
    return Conversion(wire, convert)


def _integer(kind: pa.DataType, name: str, _: int) -> Conversion | None:
    if is_number(kind):
        return Conversion(WIRE[name], lambda values: values.cast(WIRE[name]))
    return _read_by_server(kind)


def _float(kind: pa.DataType, name: str, _: int) -> Conversion | None:
    if is_number(kind):
        return Conversion(WIRE[name], lambda values: as_floats(values, WIRE[name]))
    return _read_by_server(kind)


def _read_by_server(kind: pa.DataType) -> Conversion | None:
    return Conversion(None, _unchanged) if pa.types.is_string(kind) else None


def _numeric(kind: pa.DataType, _: str, typmod: int) -> Conversion | None:
    limits = numeric_limits(typmod)
    if pa.types.is_floating(kind):
        return Conversion(None, _unchanged)  # rounded by the server to its places, as is said
    if not (is_number(kind) or pa.types.is_string(kind)):
        return None
    if pa.types.is_decimal128(kind) and kind.scale >= 0 and (limits is None or kind.scale <= limits[1]):
        return Conversion(kind, _unchanged)
    if pa.types.is_integer(kind) and (limits is None or limits[1] >= 0):
        return Conversion(pa.decimal128(20, 0), lambda values: values.cast(pa.decimal128(20, 0)))
    if limits is None:
        return Conversion(None, _unchanged)
    precision, scale = limits
    if scale >= 0 and max(limits) <= MAX_DIGITS:
        wire = pa.decimal128(max(precision, scale), scale)
        return Conversion(wire, lambda values: values.cast(wire))

    def convert(values: Any) -> Any:
        # With an exponent, what is lost is not seen.
        return check_places(check_texts(as_text(values), "[^eE]*", "a number without an exponent"), scale)

    return Conversion(None, convert)


def _money(kind: pa.DataType, _: str, __: int) -> Conversion | None:
    if pa.types.is_floating(kind):
        return Conversion(None, _unchanged)
    if not (is_number(kind) or pa.types.is_string(kind)):
        return None
    return Conversion(None, lambda values: check_places(as_text(values), 2))


def _temporal(kind: pa.DataType, name: str, typmod: int) -> Conversion | None:
    places = MICROSECOND_PLACES if typmod < 0 else typmod
    wire = WIRE.get(name)
    if pa.types.is_string(kind):
        what = f"{name} as it is written here (ISO 8601)"
        return Conversion(None, lambda values: check_places(check_texts(values, _TEXTS[name], what), places))
    if name in ("time", "timetz"):
        return Conversion(wire, lambda values: in_microseconds(values, places)) if pa.types.is_time(kind) else None
    if name == "date":
        if pa.types.is_date(kind):
            return Conversion(wire, _unchanged)
        return Conversion(wire, as_dates) if pa.types.is_timestamp(kind) else None
    if pa.types.is_date(kind):
        return Conversion(wire, lambda values: values.cast(wire))
    if not pa.types.is_timestamp(kind):
        return None
    if name == "timestamp":
        return Conversion(wire, lambda values: in_microseconds(without_zone(values), places))
    return Conversion(wire, lambda values: in_microseconds(values, places).cast(wire))


def _interval(kind: pa.DataType, name: str, typmod: int) -> Conversion | None:
    fields = _FULL_RANGE if typmod < 0 else (typmod >> 16) & _FULL_RANGE
    precision = _FULL_PRECISION if typmod < 0 else typmod & _FULL_PRECISION
    places = MICROSECOND_PLACES if precision == _FULL_PRECISION else precision
    step_ns = next((step for bit, step in _FIELDS_NS if fields & (1 << bit)), None)
    if step_ns is None:  # years, months or days alone: the server leaves out what is below
        return None
    step_ns = step_ns or 10 ** (9 - places)
    if pa.types.is_string(kind):
        return Conversion(None, lambda values: check_places(values, places)) if fields == _FULL_RANGE else None
    if pa.types.is_duration(kind):

        def from_duration(values: Any) -> Any:
            values = in_microseconds(values)
            check_multiple(values.cast(pa.int64()), step_ns // 1000)
            return values

        return Conversion(None, from_duration)
    if kind != WIRE[name]:
        return None

    def from_interval(values: Any) -> Any:
        there = values.drop_null()
        pairs = pa.Array.from_buffers(pa.int64(), 2 * len(there), [None, there.buffers()[1]], offset=2 * there.offset)
        check_multiple(pc.list_element(pa.FixedSizeListArray.from_arrays(pairs, 2), 1), step_ns)
        return values

    return Conversion(WIRE[name], from_interval)


def _letter(kind: pa.DataType, name: str, _: int) -> Conversion | None:
    if not pa.types.is_string(kind):
        return None
    return Conversion(None, lambda values: check_texts(values, _TEXTS[name], "one ASCII character"))


_FAMILIES: dict[str, Callable[[pa.DataType, str, int], Conversion | None]] = {
    **dict.fromkeys(("int2", "int4", "int8"), _integer),
    **dict.fromkeys(("float4", "float8"), _float),
    **dict.fromkeys(("date", "time", "timetz", "timestamp", "timestamptz"), _temporal),
    "numeric": _numeric,
    "money": _money,
    "interval": _interval,
    "char": _letter,
}
"""Types of whose texts the server's reading may lose something. All others it reads for what they say, or refuses."""


def server_text(values: Any) -> Any:
    """The values as the server's own text of them."""
    kind = values.type
    if pa.types.is_binary(kind):
        encoded = [None if item is None else "\\x" + item.hex() for item in values.to_pylist()]
        return pa.array(encoded, pa.string())
    if pa.types.is_duration(kind):
        return pc.binary_join_element_wise(values.cast(pa.int64()).cast(pa.string()), "microseconds", " ")
    if kind == pa.month_day_nano_interval():
        encoded = [None if i is None else _interval_text(i) for i in values.to_pylist()]
        return pa.array(encoded, pa.string())
    return as_text(values)


def array_text(values: Any) -> Any:
    """Lists as the server's array literals: `{1,NULL,"a b"}`; all others as `server_text`."""
    if not pa.types.is_list(values.type):
        return server_text(values)
    items = iter(server_text(values.flatten()).to_pylist())
    sizes = pc.list_value_length(values).to_pylist()
    texts = [
        None if size is None else "{" + ",".join(_array_item(item) for item in islice(items, size)) + "}"
        for size in sizes
    ]
    return pa.array(texts, pa.string())


def _array_item(text: str | None) -> str:
    return "NULL" if text is None else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _interval_text(interval: Any) -> str:
    return f"{interval.months} months {interval.days} days {interval.nanoseconds // 1000} microseconds"
