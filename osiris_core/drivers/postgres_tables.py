"""What a table of PostgreSQL looks like, as the server says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from osiris_core.drivers.postgres_client import quoted
from osiris_core.drivers.sql_errors import DatabaseFailed
from osiris_core.suggestion import did_you_mean

if TYPE_CHECKING:
    from osiris_core.drivers.postgres_client import PostgresSession

_TABLE = """\
SELECT c.oid::int8, n.nspname::text, c.relkind::text
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = $1 AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
  AND CASE WHEN $2 = '' THEN pg_table_is_visible(c.oid) ELSE n.nspname = $2 END
"""
# A domain is what it is made of.
_COLUMNS = """\
SELECT a.attname::text, b.typname::text, (CASE WHEN t.typtype = 'd' THEN t.typtypmod ELSE a.atttypmod END)::int4,
  a.attgenerated <> '' OR a.attidentity = 'a', b.oid >= 16384, b.typsend::text,
  format_type(a.atttypid, -1)
FROM pg_attribute a
  JOIN pg_type t ON t.oid = a.atttypid
  JOIN pg_type b ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END
WHERE a.attrelid = $1::int8::oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
_NEAR = """\
SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
  AND CASE WHEN $1 = '' THEN pg_table_is_visible(c.oid) ELSE n.nspname = $1 END
  AND n.nspname NOT IN ('pg_catalog', 'information_schema')
LIMIT 1000
"""


@dataclass(frozen=True)
class TableColumn:
    """
    One column of a table.

    Attributes:
        type_name: The catalogue's name of its type: `int8`, `numeric`, `_text`.
        typmod: The modifier of that type: lengths, digits; -1 for none.
        is_made_by_server: The server gives its value, and takes none.
        is_own: Its type is no built-in one.
        sender: The function by which the server sends its type.
        sql_type: Its type as SQL writes it, without its modifier.
    """

    name: str
    type_name: str
    typmod: int
    is_made_by_server: bool
    is_own: bool
    sender: str
    sql_type: str


@dataclass(frozen=True)
class Table:
    """A table that is there. `place` is its name with its schema, quoted."""

    oid: int
    schema: str
    name: str
    kind: str
    columns: list[TableColumn]

    @property
    def place(self) -> str:
        return quoted(self.schema, self.name)


def look_up_table(session: PostgresSession, schema: str | None, name: str) -> Table | None:
    """The table, found as the server finds it where no schema is named; None when there is none."""
    found = session.rows(_TABLE, [name, schema or ""])
    if not found:
        return None
    oid, where, kind = found[0]
    columns = [TableColumn(*row) for row in session.rows(_COLUMNS, [oid])]
    return Table(oid, where, name, kind, columns)


def find_table(session: PostgresSession, schema: str | None, name: str) -> Table:
    """
    Raises:
        DatabaseFailed: There is none, with the nearest that there is.
    """
    table = look_up_table(session, schema, name)
    if table is not None:
        return table
    near = [row[0] for row in session.rows(_NEAR, [schema or ""])]
    place = f" in schema {schema!r}" if schema else ""
    hint = did_you_mean(name, near) or "check its name and the connection's database and rights"
    raise DatabaseFailed(f"there is no table {name!r}{place}", code="42P01", remedy=hint, details={"table": name})
