"""Rows of a table as JSON that a database reads back exactly. Does no I/O."""

from __future__ import annotations

import datetime
import math
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from osiris_core.drivers.json_exact import json_text

if TYPE_CHECKING:
    from collections.abc import Iterator


class NoJsonType(ValueError):
    """A column of a type that JSON has no form for."""


def json_rows(batch: pa.RecordBatch) -> Iterator[str]:
    """
    Each row as a JSON object, every column in it. Decimals are numbers with all digits, times are ISO 8601 to the
    microsecond, bytes are Postgres's `\\\\x…`, NaN and Infinity texts.

    Raises:
        NoJsonType: A column has none, or a time is finer than a microsecond.
    """
    keys = [json_text(name) for name in batch.schema.names]
    columns = [_texts(field.name, column) for field, column in zip(batch.schema, batch.columns, strict=True)]
    for row in zip(*columns, strict=True):
        yield "{" + ",".join(f"{key}:{text}" for key, text in zip(keys, row, strict=True)) + "}"


def _texts(name: str, column: Any) -> list[str]:
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_timestamp(kind):
        try:
            column = column.cast(pa.timestamp("us", kind.tz)).cast(pa.string())
        except pa.ArrowInvalid as exc:
            raise NoJsonType(
                f"column {name!r} has times finer than a microsecond, which the server would round"
            ) from exc
    elif pa.types.is_time(kind) or pa.types.is_date(kind):
        column = column.cast(pa.string())
    elif pa.types.is_duration(kind) or pa.types.is_interval(kind) or pa.types.is_union(kind):
        raise NoJsonType(f"column {name!r} is of type {kind}, for which there is no JSON")
    return [_text(name, value) for value in column.to_pylist()]


def _text(name: str, value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return '"NaN"' if math.isnan(value) else '"Infinity"' if value > 0 else '"-Infinity"'
    if isinstance(value, bytes):
        return f'"\\\\x{value.hex()}"'
    if isinstance(value, (datetime.date, datetime.time)):
        return json_text(value.isoformat())
    if isinstance(value, dict):
        return "{" + ",".join(f"{json_text(key)}:{_text(name, item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(_text(name, item) for item in value) + "]"
    if value is None or isinstance(value, (bool, int, float, str, Decimal)):
        return json_text(value)
    raise NoJsonType(f"column {name!r} holds a {type(value).__name__}, for which there is no JSON")
