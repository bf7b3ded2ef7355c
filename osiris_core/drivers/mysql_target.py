"""How Arrow's columns get into a table of MariaDB: as texts that the server reads strictly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from osiris_core.drivers.csv_text import Format
from osiris_core.drivers.mysql_client import quoted
from osiris_core.drivers.mysql_values import conversion
from osiris_core.drivers.sql_errors import DatabaseFailed, no_such_column
from osiris_core.drivers.sql_exact import refusing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from osiris_core.drivers.mysql_tables import Table, TableColumn

LINES = Format(delimiter=",", newline="\n", quoting="minimal", quote='"', null_text="NULL")
"""As the server reads it with the words of `load_statement`: NULL is null, and "NULL" is a text."""
KEY_CHARS = 255
_MADE: dict[pa.DataType, str] = {
    pa.bool_(): "BOOLEAN",
    pa.int8(): "TINYINT",
    pa.int16(): "SMALLINT",
    pa.int32(): "INT",
    pa.int64(): "BIGINT",
    pa.uint8(): "TINYINT UNSIGNED",
    pa.uint16(): "SMALLINT UNSIGNED",
    pa.uint32(): "INT UNSIGNED",
    pa.uint64(): "BIGINT UNSIGNED",
    pa.float16(): "FLOAT",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
    pa.binary(): "LONGBLOB",
    pa.date32(): "DATE",
}
_MAX_DECIMAL = (65, 38)


@dataclass(frozen=True)
class Sending:
    """
    How one column is sent.

    Attributes:
        convert: Makes values of a batch that `LINES` writes as the server reads them.
        wrap: What the server is to make of that text: `UNHEX`, `CAST … AS UNSIGNED`; None: what the column is.
    """

    target: TableColumn
    convert: Callable[[Any], Any]
    wrap: str | None

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
        wrap = "CAST({} AS UNSIGNED)" if target.type_name == "bit" else None
        if pa.types.is_binary(field.type):
            wrap = "UNHEX({})"
        convert = refusing(conversion(field.type, target), field.name, target.full_type)
        found.append(Sending(target, convert, wrap))
    return found


def lines(batch: pa.RecordBatch, columns: list[Sending]) -> bytes:
    """A batch as the server's load reads it."""
    arrays = [column.convert(values) for column, values in zip(columns, batch.columns, strict=True)]
    written = LINES.rows(pa.RecordBatch.from_arrays(arrays, [column.name for column in columns]), 0)
    return written if isinstance(written, bytes) else written.to_pybytes()


def load_statement(place: str, columns: list[Sending]) -> str:
    """The statement that reads `lines`."""
    into = [f"@c{number}" if column.wrap else quoted(column.name) for number, column in enumerate(columns)]
    wrapped = [
        f"{quoted(column.name)} = {column.wrap.format(f'@c{number}')}"
        for number, column in enumerate(columns)
        if column.wrap
    ]
    return (
        f"LOAD DATA LOCAL INFILE 'osiris' INTO TABLE {place} CHARACTER SET utf8mb4 "
        "FIELDS TERMINATED BY ',' OPTIONALLY ENCLOSED BY '\"' ESCAPED BY '' LINES TERMINATED BY '\\n' "
        f"({', '.join(into)})" + (f" SET {', '.join(wrapped)}" if wrapped else "")
    )


def made_type(kind: pa.DataType, *, is_key: bool) -> str:
    """The server's type for a column of Arrow's; a text in a key has a greatest length."""
    if is_key and (pa.types.is_string(kind) or pa.types.is_binary(kind)):
        return f"VAR{'CHAR' if pa.types.is_string(kind) else 'BINARY'}({KEY_CHARS})"
    if pa.types.is_decimal(kind) and kind.precision <= _MAX_DECIMAL[0] and 0 <= kind.scale <= _MAX_DECIMAL[1]:
        return f"DECIMAL({kind.precision},{kind.scale})"
    if pa.types.is_timestamp(kind):
        return "DATETIME(6)" if kind.tz is None else "TIMESTAMP(6)"
    if pa.types.is_time(kind) or pa.types.is_duration(kind):
        return "TIME(6)"
    return _MADE.get(kind, "JSON" if pa.types.is_nested(kind) else "LONGTEXT")


def create_statement(schema: pa.Schema, place: str, primary_key: Sequence[str] | None) -> str:
    """The statement that makes a table of these columns; not an error where somebody was quicker."""
    key = primary_key or ()
    columns = [
        f"{quoted(field.name)} {made_type(field.type, is_key=field.name in key)} "
        f"{'NOT NULL' if field.name in key else 'NULL DEFAULT NULL'}"
        for field in schema
    ]
    if key:
        columns.append(f"PRIMARY KEY ({', '.join(map(quoted, key))})")
    return f"CREATE TABLE IF NOT EXISTS {place} ({', '.join(columns)}) ENGINE=InnoDB CHARACTER SET utf8mb4"
