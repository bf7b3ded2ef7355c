"""How Arrow's columns get into a table of PostgreSQL: by the wire's own types, or as texts that the server reads."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from osiris_core.drivers.csv_text import as_text
from osiris_core.drivers.postgres_client import quoted
from osiris_core.drivers.postgres_reading import numeric_limits
from osiris_core.drivers.sql_errors import DatabaseFailed, no_such_column
from osiris_core.drivers.sql_extractor_config import MAX_DIGITS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from osiris_core.drivers.postgres_tables import Table, TableColumn

_WIRE: dict[str, pa.DataType] = {
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
    "_int2": pa.list_(pa.int16()),
    "_int4": pa.list_(pa.int32()),
    "_int8": pa.list_(pa.int64()),
    "_float4": pa.list_(pa.float32()),
    "_float8": pa.list_(pa.float64()),
    "_text": pa.list_(pa.string()),
    "_bool": pa.list_(pa.bool_()),
}
"""The Arrow type that the client sends as a server's type."""
_MADE: dict[pa.DataType, str] = {
    pa.bool_(): "boolean",
    pa.int8(): "smallint",
    pa.int16(): "smallint",
    pa.int32(): "integer",
    pa.int64(): "bigint",
    pa.uint8(): "smallint",
    pa.uint16(): "integer",
    pa.uint32(): "bigint",
    pa.uint64(): "numeric(20,0)",
    pa.float16(): "real",
    pa.float32(): "real",
    pa.float64(): "double precision",
    pa.string(): "text",
    pa.binary(): "bytea",
    pa.date32(): "date",
    pa.null(): "text",
    pa.month_day_nano_interval(): "interval",
}
"""The type of a column that `create_if_missing` makes."""


@dataclass(frozen=True)
class Sending:
    """
    How one column is sent.

    Attributes:
        wire: The type in which the client takes it.
        convert: Makes that of a batch's values.
        staged: The server reads it as text, from a table beside.
    """

    target: TableColumn
    wire: pa.DataType
    convert: Callable[[Any], Any]
    staged: bool

    @property
    def name(self) -> str:
        return self.target.name


def sendings(schema: pa.Schema, table: Table) -> list[Sending]:
    """
    One for each column of `schema` (of plain types), by name.

    Raises:
        DatabaseFailed: The table has no such column, or takes no value for it.
    """
    known = {column.name: column for column in table.columns}
    found = []
    for field in schema:
        if field.name not in known:
            raise no_such_column(field.name, known, table.name)
        target = known[field.name]
        if target.is_made_by_server:
            message = f"column {field.name!r} of {table.name} is made by the server and takes no value"
            raise DatabaseFailed(message, remedy="leave it out of the input", details={"column": field.name})
        found.append(_sending(field, target))
    return found


def _sending(field: pa.Field[Any], target: TableColumn) -> Sending:
    wire = _wire_type(field.type, target)
    if wire is None:
        texts = _as_array_text if target.type_name.startswith("_") else _as_server_text
        return Sending(target, pa.string(), texts, staged=True)
    if wire == field.type:
        return Sending(target, wire, lambda values: values, staged=False)
    return Sending(target, wire, _caster(target, wire), staged=False)


def _wire_type(kind: pa.DataType, target: TableColumn) -> pa.DataType | None:
    """The type to cast to without loss before it is sent; None: the server reads a text."""
    if target.type_name == "numeric":
        return _numeric_type(kind, target)
    wire = _WIRE.get(target.type_name)
    if wire is None or target.is_own:
        return None
    same = (
        (pa.types.is_integer(kind) and pa.types.is_integer(wire))
        or (pa.types.is_floating(kind) and pa.types.is_float64(wire))
        or (pa.types.is_timestamp(kind) and pa.types.is_timestamp(wire) and (kind.tz is None) == (wire.tz is None))
        or (pa.types.is_time(kind) and pa.types.is_time(wire))
        or (pa.types.is_null(kind))
        or kind == wire
    )
    return wire if same else None


def _numeric_type(kind: pa.DataType, target: TableColumn) -> pa.DataType | None:
    limits = numeric_limits(target.typmod)
    if pa.types.is_decimal128(kind) and (limits is None or kind.scale <= limits[1]):
        return kind
    exact = pa.types.is_decimal(kind) or pa.types.is_string(kind)
    if exact and limits is not None and limits[1] >= 0 and max(limits) <= MAX_DIGITS:
        return pa.decimal128(max(limits), limits[1])  # a digit that would be rounded away is an error
    if pa.types.is_integer(kind):
        return pa.decimal128(20, 0)
    return None


def _caster(target: TableColumn, wire: pa.DataType) -> Callable[[Any], Any]:
    def cast(values: Any) -> Any:
        try:
            return values.cast(wire)
        except pa.ArrowInvalid as exc:
            raise DatabaseFailed(
                f"column {target.name!r}: a value does not fit {target.sql_type}: {exc}",
                remedy="change it before it is written; nothing is rounded or cut off here",
                details={"column": target.name},
            ) from None

    return cast


def _as_server_text(values: Any) -> Any:
    """The values as the server's own text of them."""
    kind = values.type
    if pa.types.is_binary(kind):
        encoded = [None if item is None else "\\x" + item.hex() for item in values.to_pylist()]
        return pa.array(encoded, pa.string())
    if pa.types.is_duration(kind):
        return pc.binary_join_element_wise(
            values.cast(pa.duration("us")).cast(pa.int64()).cast(pa.string()), "microseconds", " "
        )
    if kind == pa.month_day_nano_interval():
        encoded = [None if i is None else _interval_text(i) for i in values.to_pylist()]
        return pa.array(encoded, pa.string())
    return as_text(values)


def _as_array_text(values: Any) -> Any:
    """Lists as the server's array literals: `{1,NULL,"a b"}`."""
    if not pa.types.is_list(values.type):
        return _as_server_text(values)
    items = iter(_as_server_text(values.flatten()).to_pylist())
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


def made_type(kind: pa.DataType) -> str:
    """The server's type for a column of Arrow's."""
    if pa.types.is_decimal(kind):
        return f"numeric({kind.precision},{kind.scale})"
    if pa.types.is_timestamp(kind):
        return "timestamp" if kind.tz is None else "timestamptz"
    if pa.types.is_time(kind):
        return "time"
    if pa.types.is_duration(kind):
        return "interval"
    if pa.types.is_list(kind) and kind.value_type in _MADE:
        return f"{_MADE[kind.value_type]}[]"
    return _MADE.get(kind, "jsonb" if pa.types.is_nested(kind) else "text")


def create_statement(schema: pa.Schema, place: str, primary_key: Sequence[str] | None) -> str:
    """The statement that makes a table of these columns; not an error where somebody was quicker."""
    columns = [f"{quoted(field.name)} {made_type(field.type)}" for field in schema]
    if primary_key:
        columns.append(f"PRIMARY KEY ({', '.join(map(quoted, primary_key))})")
    return f"CREATE TABLE IF NOT EXISTS {place} ({', '.join(columns)})"
