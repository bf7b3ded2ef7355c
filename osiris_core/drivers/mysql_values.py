"""Arrow's values as those of MariaDB's types: what its load would change silently is cast without loss, or refused."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from osiris_core.arrow_constants import int64_scalar, text_scalar
from osiris_core.drivers.csv_text import as_text
from osiris_core.drivers.sql_exact import (
    CLOCK,
    DAY,
    Inexact,
    as_dates,
    as_floats,
    check_places,
    check_texts,
    in_microseconds,
    is_number,
    refused,
    rounded,
    without_zone,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from osiris_core.drivers.mysql_tables import TableColumn

    Convert = Callable[[Any], Any]

_INTEGERS = frozenset({"tinyint", "smallint", "mediumint", "int", "bigint"})
_DIGITS = re.compile(r"\(([0-9]+)(?:,([0-9]+))?\)")
_MEMBERS = re.compile(r"'((?:[^']|'')*)'")
_FIRST_YEAR = 1901
_TEXTS = {
    "date": DAY,
    "datetime": rf"{DAY}([ T]{CLOCK})?",
    "timestamp": rf"{DAY}([ T]{CLOCK})?",
    "time": rf"-?\d?{CLOCK}",
}
_TEMPORAL = frozenset(_TEXTS)


def conversion(kind: pa.DataType, target: TableColumn) -> Convert:
    """
    What makes values of a plain type such as `LINES` writes and the server reads without changing them silently.

    It raises `Inexact` or an error of Arrow.

    Raises:
        DatabaseFailed: The column takes none of that type.
    """
    if pa.types.is_null(kind):
        return _unchanged
    if pa.types.is_binary(kind):
        return _as_hex
    convert = _specific(kind, target)
    if convert is not None:
        return convert
    if target.type_name in _TEMPORAL or pa.types.is_interval(kind):
        raise refused(kind, target.name, target.full_type)
    if pa.types.is_boolean(kind):
        return lambda values: values.cast(pa.int8())
    if pa.types.is_timestamp(kind):
        return without_zone
    return _as_time if pa.types.is_duration(kind) else _unchanged


def _unchanged(values: Any) -> Any:
    return values


def _specific(kind: pa.DataType, target: TableColumn) -> Convert | None:
    """Where what the server makes of a text depends on the column's type."""
    name, numbers = target.type_name, is_number(kind)
    first, second = _digits(target.full_type)
    if name == "bit" and (numbers or pa.types.is_string(kind)):
        return lambda values: _whole_texts(values).cast(pa.uint64())
    if name in _INTEGERS and (numbers or pa.types.is_string(kind)):
        return _integer(kind, pa.uint64() if "unsigned" in target.full_type else pa.int64())
    if name == "year" and (numbers or pa.types.is_string(kind)):
        return _as_year
    if name == "decimal" and pa.types.is_floating(kind):
        return lambda values: rounded(values, second or 0)
    if name in ("float", "double") and (numbers or (pa.types.is_string(kind) and second is not None)):
        return _float(kind, pa.float32() if name == "float" else pa.float64(), second)
    if name in _TEMPORAL:
        return _temporal(kind, name, first or 0)
    if name in ("enum", "set") and (pa.types.is_integer(kind) or pa.types.is_string(kind)):
        members = [found.replace("''", "'") for found in _MEMBERS.findall(target.full_type)]
        return lambda values: _not_numbered(as_text(values), members)
    return None


def _digits(full_type: str) -> tuple[int | None, int | None]:
    found = _DIGITS.search(full_type)
    if found is None:
        return None, None
    return int(found[1]), int(found[2]) if found[2] is not None else None


def _integer(kind: pa.DataType, wanted: pa.DataType) -> Convert:
    if pa.types.is_string(kind):
        return _whole_texts
    return _unchanged if pa.types.is_integer(kind) else lambda values: values.cast(wanted)


def _whole_texts(values: Any) -> Any:
    if not pa.types.is_string(values.type):
        return values
    return check_texts(values, r"[+-]?\d+", "a whole number")


def _as_year(values: Any) -> Any:
    """Years with four digits: of two the server guesses a century."""
    if pa.types.is_string(values.type):
        return check_texts(values, r"\d{4}", "a year of four digits")
    years = values.cast(pa.int64())
    short = pc.and_(pc.less(years, int64_scalar(_FIRST_YEAR)), pc.not_equal(years, int64_scalar(0)))
    if pc.any(short).as_py():
        raise Inexact(f"{years.filter(short)[0].as_py()} is before {_FIRST_YEAR}")
    return pc.utf8_lpad(years.cast(pa.string()), 4, "0")


def _float(kind: pa.DataType, wanted: pa.DataType, places: int | None) -> Convert:
    if places is None:
        return lambda values: as_floats(values, wanted)
    if pa.types.is_floating(kind):
        return lambda values: rounded(values, places)
    return lambda values: check_places(check_texts(as_text(values), "[^eE]*", "a number without an exponent"), places)


def _temporal(kind: pa.DataType, name: str, places: int) -> Convert | None:
    if pa.types.is_string(kind):
        what = f"a {name} as it is written here (ISO 8601)"
        return lambda values: check_places(check_texts(values, _TEXTS[name], what), places)
    if name == "time":
        if pa.types.is_duration(kind):
            return lambda values: _as_time(in_microseconds(values, places))
        return (lambda values: in_microseconds(values, places)) if pa.types.is_time(kind) else None
    if pa.types.is_date(kind):
        return _unchanged
    if not pa.types.is_timestamp(kind):
        return None
    return as_dates if name == "date" else lambda values: in_microseconds(without_zone(values), places)


def _not_numbered(texts: Any, members: list[str]) -> Any:
    """Texts of an enum or set: a number would be taken for the place of a member."""
    numbered = texts.filter(pc.match_substring_regex(texts, r"^\d+$")).unique().to_pylist()
    strange = [text for text in numbered if text is not None and text not in members]
    if strange:
        raise Inexact(f"{strange[0]!r} is none of its values")
    return texts


def _as_hex(values: Any) -> Any:
    return pa.array([None if value is None else value.hex() for value in values.to_pylist()], pa.string())


def _as_time(values: Any) -> Any:
    """Durations as the server writes TIME: `-12:34:56.500000`."""
    total = values.cast(pa.duration("us")).cast(pa.int64())
    rest = pc.abs(total)
    parts = []
    for unit, width in ((1_000_000, 6), (60, 2), (60, 2)):
        higher = pc.divide(rest, int64_scalar(unit))
        part = pc.subtract(rest, pc.multiply(higher, int64_scalar(unit)))
        parts.append(pc.utf8_lpad(part.cast(pa.string()), width, "0"))
        rest = higher
    clock = pc.binary_join_element_wise(rest.cast(pa.string()), parts[2], parts[1], text_scalar(":"))
    text = pc.binary_join_element_wise(clock, parts[0], text_scalar("."))
    minus = pc.binary_join_element_wise(text_scalar("-"), text, text_scalar(""))
    return pc.if_else(pc.less(total, int64_scalar(0)), minus, text)
