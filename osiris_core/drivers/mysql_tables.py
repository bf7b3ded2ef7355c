"""What a table of MariaDB or MySQL looks like, as the server says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from osiris_core.drivers.mysql_client import quoted
from osiris_core.drivers.sql_errors import DatabaseFailed
from osiris_core.suggestion import did_you_mean

if TYPE_CHECKING:
    from osiris_core.drivers.mysql_client import MysqlSession

_TABLE = """\
SELECT t.table_schema, t.table_name, t.table_type, COALESCE(e.transactions, ''), COALESCE(t.engine, '')
FROM information_schema.tables t LEFT JOIN information_schema.engines e ON e.engine = t.engine
WHERE t.table_schema = COALESCE(%s, DATABASE()) AND t.table_name = %s
"""
_COLUMNS = """\
SELECT column_name, LOWER(data_type), LOWER(column_type), COALESCE(generation_expression, '') <> ''
FROM information_schema.columns WHERE table_schema = %s AND table_name = %s ORDER BY ordinal_position
"""
_KEYS = """\
SELECT index_name, column_name FROM information_schema.statistics
WHERE table_schema = %s AND table_name = %s AND non_unique = 0 ORDER BY index_name, seq_in_index
"""
_NEAR = "SELECT table_name FROM information_schema.tables WHERE table_schema = COALESCE(%s, DATABASE()) LIMIT 1000"


@dataclass(frozen=True)
class TableColumn:
    """
    One column of a table.

    Attributes:
        type_name: `bigint`, `varchar`.
        full_type: With its modifiers: `bigint(20) unsigned`.
        is_made_by_server: The server computes its value, and takes none.
    """

    name: str
    type_name: str
    full_type: str
    is_made_by_server: bool


@dataclass(frozen=True)
class Table:
    """A table or view that is there."""

    schema: str
    name: str
    kind: str
    is_transactional: bool
    engine: str
    columns: list[TableColumn]

    @property
    def place(self) -> str:
        return quoted(self.schema, self.name)


def look_up_table(session: MysqlSession, schema: str | None, name: str) -> Table | None:
    """The table; None when there is none."""
    found = session.rows(_TABLE, [schema, name])
    if not found:
        return None
    where, real_name, kind, transactions, engine = found[0]
    columns = [
        TableColumn(str(row[0]), str(row[1]), str(row[2]), bool(row[3]))
        for row in session.rows(_COLUMNS, [where, real_name])
    ]
    return Table(where, real_name, kind, transactions == "YES", engine, columns)


def find_table(session: MysqlSession, schema: str | None, name: str) -> Table:
    """
    Raises:
        DatabaseFailed: There is none, with the nearest that there is.
    """
    table = look_up_table(session, schema, name)
    if table is not None:
        return table
    near = [str(row[0]) for row in session.rows(_NEAR, [schema])]
    place = f" in {schema!r}" if schema else ""
    hint = did_you_mean(name, near) or "check its name and the connection's database and rights"
    raise DatabaseFailed(f"there is no table {name!r}{place}", code="1146", remedy=hint, details={"table": name})


def unique_keys(session: MysqlSession, table: Table) -> list[set[str]]:
    """The columns of the primary key and of each unique index."""
    keys: dict[str, set[str]] = {}
    for index, column in session.rows(_KEYS, [table.schema, table.name]):
        keys.setdefault(str(index), set()).add(str(column))
    return list(keys.values())
