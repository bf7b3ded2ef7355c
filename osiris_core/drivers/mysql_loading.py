"""One write into a table of MariaDB or MySQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from osiris_core.drivers.csv_text import as_text
from osiris_core.drivers.mysql_client import quoted
from osiris_core.drivers.mysql_tables import find_table, look_up_table, unique_keys
from osiris_core.drivers.mysql_target import create_statement, lines, load_statement, sendings
from osiris_core.drivers.sql_errors import DatabaseFailed
from osiris_core.drivers.sql_loading import TableLoad, administrators_remedy, not_there
from osiris_core.drivers.sql_marker import MARKER_TABLE, Marker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from osiris_core.drivers.mysql_client import MysqlSession
    from osiris_core.drivers.mysql_tables import Table as ServerTable
    from osiris_core.drivers.mysql_target import Sending
    from osiris_core.drivers.mysql_writer import MysqlWriterConfig
    from osiris_core.step_context import StepContext
    from osiris_core.tables import Table

STAGING = "osiris_staging"
NO_LOADS = ("1148", "3948", "4166", "3950")
"""The server, or its administrator, does not take LOAD DATA LOCAL."""
UNCHANGED = "nothing was written; change the rows, or the table, before you write them"
INSERT_VALUES = 8_000
DUPLICATE = "1062"


class MysqlLoad(TableLoad["ServerTable", "Sending"]):
    """See `TableLoad`."""

    config: MysqlWriterConfig

    def __init__(self, session: MysqlSession, config: MysqlWriterConfig, table: Table, ctx: StepContext) -> None:
        super().__init__(config, table, ctx)
        self._session = session

    def find_target(self) -> tuple[ServerTable, str]:
        config, session = self.config, self._session
        found = look_up_table(session, config.schema_, config.table)
        if found is None and config.create_if_missing:
            # Committed by the server at once: after a failure an empty table may be left, never some of the rows.
            place = quoted(config.schema_, config.table)
            session.run(create_statement(self.schema, place, config.primary_key))
        if found is None:
            try:
                found = find_table(session, config.schema_, config.table)
            except DatabaseFailed as exc:
                raise not_there(exc) from None
        if found.kind != "BASE TABLE":
            raise DatabaseFailed(f"{config.table} is a view", remedy="write to a table")
        if not found.is_transactional:
            raise DatabaseFailed(
                f"table {config.table} has the engine {found.engine}, in which a write cannot be taken back",
                remedy=f"ALTER TABLE {found.place} ENGINE=InnoDB",
            )
        key = set(config.primary_key or ())
        if config.write_mode == "upsert" and key not in unique_keys(session, found):
            named = ", ".join(config.primary_key or ())
            message = f"table {config.table} has no primary key or unique index on ({named}), which upsert needs"
            raise DatabaseFailed(message, remedy="name its key in primary_key, or let an administrator make one")
        return found, found.place

    def match(self, target: ServerTable) -> list[Sending]:
        return sendings(self.schema, target)

    def markers(self, target: ServerTable) -> MysqlMarkers:
        return MysqlMarkers.there(self._session, target.schema)

    def commit(self) -> None:
        self._session.commit()

    def write(self, target: ServerTable, columns: list[Sending]) -> int:
        if self.config.write_mode == "upsert":
            return self._upsert(target, columns)
        if self.config.write_mode == "replace":
            # Not TRUNCATE, which commits at once.
            self._session.run(f"DELETE FROM {target.place}")  # noqa: S608 - quoted
        return self._send(columns, target.place)

    def _send(self, columns: list[Sending], place: str) -> int:
        try:
            rows, warnings = self._session.load(load_statement(place, columns), self._lines(columns))
        except DatabaseFailed as exc:
            if exc.code not in NO_LOADS:
                raise
            self.ctx.log(
                "the server does not take LOAD DATA LOCAL; rows go by INSERT, which is slower", level="warning"
            )
            return self._insert(columns, place)
        if warnings:
            self._refuse_changes()
            raise DatabaseFailed(f"the server changed values of the load: {warnings} warnings", remedy=UNCHANGED)
        return rows

    def _lines(self, columns: list[Sending]) -> Iterator[bytes]:
        for batch in self.batches():
            yield lines(batch, columns)

    def _refuse_changes(self) -> None:
        """
        A load changes what does not fit, leaves out what is there already, and only warns: here that is an error.

        Raises:
            DatabaseFailed: The last statement gave a warning.
        """
        for level, code, message in self._session.rows("SHOW WARNINGS LIMIT 1"):
            raise DatabaseFailed(str(message), code=str(code), remedy=UNCHANGED, details={"level": str(level)})

    def _insert(self, columns: list[Sending], place: str) -> int:
        names = ", ".join(quoted(column.name).replace("%", "%%") for column in columns)
        written, size = 0, max(1, INSERT_VALUES // len(columns))
        for batch in self.batches():
            values = [_parameters(column, batch.column(index)) for index, column in enumerate(columns)]
            rows = list(zip(*values, strict=True))
            for start in range(0, len(rows), size):
                part = rows[start : start + size]
                marks = ", ".join(["(" + ", ".join(["%s"] * len(columns)) + ")"] * len(part))
                statement = f"INSERT INTO {place.replace('%', '%%')} ({names}) VALUES {marks}"  # noqa: S608 - quoted
                written += self._session.run(statement, [value for row in part for value in row])
                self._refuse_changes()
        return written

    def _upsert(self, target: ServerTable, columns: list[Sending]) -> int:
        session, key = self._session, self.config.primary_key or []
        listed = ", ".join(quoted(column.name) for column in columns)
        session.run(f"CREATE TEMPORARY TABLE {STAGING} ENGINE=InnoDB SELECT {listed} FROM {target.place} LIMIT 0")  # noqa: S608
        self._send(columns, STAGING)
        keys = ", ".join(map(quoted, key))
        if session.rows(f"SELECT 1 FROM {STAGING} GROUP BY {keys} HAVING COUNT(*) > 1 LIMIT 1"):  # noqa: S608 - quoted
            raise DatabaseFailed("two rows of the input have the same primary_key", remedy="leave one of them")
        same = " AND ".join(f"t.{quoted(name)} = s.{quoted(name)}" for name in key)
        changed = [f"t.{quoted(column.name)} = s.{quoted(column.name)}" for column in columns if column.name not in key]
        if changed:
            session.run(f"UPDATE {target.place} t JOIN {STAGING} s ON {same} SET {', '.join(changed)}")  # noqa: S608
        session.run(
            f"INSERT INTO {target.place} ({listed}) "  # noqa: S608 - quoted
            f"SELECT {', '.join(f's.{quoted(column.name)}' for column in columns)} "
            f"FROM {STAGING} s LEFT JOIN {target.place} t ON {same} WHERE t.{quoted(key[0])} IS NULL"
        )
        ((rows,),) = session.rows(f"SELECT COUNT(*) FROM {STAGING}")  # noqa: S608 - a constant
        return int(rows)


def _parameters(column: Sending, values: Any) -> list[Any]:
    """The values as parameters of a statement; bytes as bytes."""
    if pa.types.is_binary(values.type):
        return list(values.to_pylist())
    made = column.convert(values)
    return list((made if column.target.type_name == "bit" else as_text(made)).to_pylist())


class MysqlMarkers:
    """See `sql_marker.MarkerStore`."""

    def __init__(self, session: MysqlSession, place: str) -> None:
        self._session = session
        self._place = place

    @classmethod
    def there(cls, session: MysqlSession, schema: str) -> MysqlMarkers:
        """
        With the table, which is made where it is missing; the server commits that at once.

        Raises:
            DatabaseFailed: It may not be made; what to do instead is said.
        """
        place = quoted(schema, MARKER_TABLE)
        if look_up_table(session, schema, MARKER_TABLE) is not None:
            return cls(session, place)
        statement = (
            f"CREATE TABLE IF NOT EXISTS {place} (run_key VARCHAR(64) NOT NULL, step_id VARCHAR(128) NOT NULL, "
            "target TEXT NOT NULL, rows_written BIGINT NULL, content VARCHAR(64) NULL, "
            "written_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, PRIMARY KEY (run_key, step_id)) "
            "ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
        )
        try:
            session.run(statement)
        except DatabaseFailed as exc:
            if exc.code in ("1142", "1044"):
                raise exc.with_remedy(administrators_remedy(statement)) from None
            raise
        return cls(session, place)

    def claim(self, run_key: str, step_id: str, target: str) -> Marker | None:
        statement = f"INSERT INTO {self._place} (run_key, step_id, target) VALUES (%s, %s, %s)"  # noqa: S608 - quoted
        try:
            self._session.run(statement, [run_key, step_id, target])
        except DatabaseFailed as exc:
            if exc.code != DUPLICATE:
                raise
        else:
            return None
        # With a lock: what was committed since this transaction began is to be seen.
        ((where, rows, content),) = self._session.rows(
            f"SELECT target, rows_written, content FROM {self._place} "  # noqa: S608 - quoted
            "WHERE run_key = %s AND step_id = %s LOCK IN SHARE MODE",
            [run_key, step_id],
        )
        return Marker(str(where), int(rows), str(content))

    def complete(self, run_key: str, step_id: str, rows: int, content: str) -> None:
        self._session.run(
            f"UPDATE {self._place} SET rows_written = %s, content = %s "  # noqa: S608 - quoted
            "WHERE run_key = %s AND step_id = %s",
            [rows, content, run_key, step_id],
        )
