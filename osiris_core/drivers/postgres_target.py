"""How Arrow's columns get into a table of PostgreSQL: by the wire's own types, or as texts that the server reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from osiris_core.drivers.postgres_client import quoted
from osiris_core.drivers.postgres_values import array_text, conversion, server_text
from osiris_core.drivers.sql_errors import DatabaseFailed, no_such_column
from osiris_core.drivers.sql_exact import refusing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from osiris_core.drivers.postgres_tables import Table, TableColumn

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
    found = conversion(field.type, target)
    if found.wire is not None:
        return Sending(target, found.wire, refusing(found.convert, target.name, target.sql_type), staged=False)
    as_text = array_text if target.type_name.startswith("_") else server_text
    convert = refusing(lambda values: as_text(found.convert(values)), target.name, target.sql_type)
    return Sending(target, pa.string(), convert, staged=True)


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
