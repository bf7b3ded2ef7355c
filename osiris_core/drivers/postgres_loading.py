"""One write into a table of PostgreSQL, from the look at the table to the commit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from osiris_core.drivers.postgres_client import quoted
from osiris_core.drivers.postgres_tables import find_table, look_up_table
from osiris_core.drivers.postgres_target import create_statement, sendings
from osiris_core.drivers.sql_errors import DatabaseFailed
from osiris_core.drivers.sql_loading import TableLoad, administrators_remedy, not_there
from osiris_core.drivers.sql_marker import MARKER_TABLE, Marker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from osiris_core.drivers.postgres_client import PostgresSession
    from osiris_core.drivers.postgres_tables import Table as ServerTable
    from osiris_core.drivers.postgres_target import Sending
    from osiris_core.drivers.postgres_writer import PostgresWriterConfig
    from osiris_core.step_context import StepContext
    from osiris_core.tables import Table

STAGING = "osiris_staging"
_INSERTED = """\
SELECT coalesce(sum(pg_stat_get_xact_tuples_inserted(relid)), 0)::int8
FROM (SELECT $1::int8::oid AS relid UNION SELECT relid FROM pg_partition_tree($1::int8::oid)) AS parts
"""


_VISIBLE = "SELECT count(*)::int8 FROM {} WHERE xmin::text = (txid_current() % 4294967296)::text"
"""Where the server keeps no such numbers (track_counts = off): the rows that this transaction made."""


class PostgresLoad(TableLoad["ServerTable", "Sending"]):
    """See `TableLoad`."""

    config: PostgresWriterConfig

    def __init__(self, session: PostgresSession, config: PostgresWriterConfig, table: Table, ctx: StepContext) -> None:
        super().__init__(config, table, ctx)
        self._session = session
        self._raised: BaseException | None = None

    def find_target(self) -> tuple[ServerTable, str]:
        config, session = self.config, self._session
        found = look_up_table(session, config.schema_, config.table)
        if found is None and config.create_if_missing:
            place = quoted(config.schema_, config.table)
            session.run(create_statement(self.schema, place, config.primary_key))
        if found is None:
            try:
                found = find_table(session, config.schema_, config.table)
            except DatabaseFailed as exc:
                raise not_there(exc) from None
        if found.kind not in ("r", "p", "f"):
            raise DatabaseFailed(f"{config.table} is a view", remedy="write to a table")
        return found, found.place

    def match(self, target: ServerTable) -> list[Sending]:
        return sendings(self.schema, target)

    def markers(self, target: ServerTable) -> PostgresMarkers:
        return PostgresMarkers.there(self._session, target.schema)

    def commit(self) -> None:
        self._session.commit()

    def write(self, target: ServerTable, columns: list[Sending]) -> int:
        if self.config.write_mode == "replace":
            # Not TRUNCATE: who reads goes on reading the old rows until the commit, and is not locked out.
            self._session.run(f"DELETE FROM {target.place}")  # noqa: S608 - quoted
        before = self._inserted(target)
        if self.config.write_mode == "upsert":
            self._stage(columns)
            return self._upsert(target, columns)
        if any(column.staged for column in columns):
            self._stage(columns)
            listed = ", ".join(quoted(column.name) for column in columns)
            self._session.run(f"INSERT INTO {target.place} ({listed}) {_from_staging(columns)}")
        else:
            self._send(columns, target.name, target.schema)
        rows = self._inserted(target) - before
        if rows != self.table.num_rows:
            message = "the server did not insert every row: a trigger or rule of the table kept or moved some"
            self.ctx.log(message, level="warning", sent=self.table.num_rows, inserted=rows)
        return rows

    def _inserted(self, target: ServerTable) -> int:
        ((counts,),) = self._session.rows("SELECT current_setting('track_counts')::bool")
        if counts:
            ((rows,),) = self._session.rows(_INSERTED, [target.oid])
        else:
            ((rows,),) = self._session.rows(_VISIBLE.format(target.place))
        return int(rows)

    def _stage(self, columns: list[Sending]) -> None:
        """The rows in a table of this session's own; columns that the server is to read are texts in it."""
        listed = ", ".join(
            f"{quoted(column.name)} {'text' if column.staged else column.target.sql_type}" for column in columns
        )
        self._session.run(f"CREATE TEMPORARY TABLE {STAGING} ({listed}) ON COMMIT DROP")
        self._send(columns, STAGING, None)

    def _upsert(self, target: ServerTable, columns: list[Sending]) -> int:
        key = self.config.primary_key or []
        listed = ", ".join(quoted(column.name) for column in columns)
        changed = [
            f"{quoted(column.name)} = EXCLUDED.{quoted(column.name)}" for column in columns if column.name not in key
        ]
        action = f"UPDATE SET {', '.join(changed)}" if changed else "NOTHING"
        statement = (
            f"WITH written AS (INSERT INTO {target.place} ({listed}) {_from_staging(columns)} "  # noqa: S608 - quoted
            f"ON CONFLICT ({', '.join(map(quoted, key))}) DO {action} RETURNING 1) SELECT count(*)::int8 FROM written"
        )
        try:
            ((count,),) = self._session.rows(statement)
        except DatabaseFailed as exc:
            if exc.code == "42P10":
                named = ", ".join(key)
                raise exc.with_remedy(f"upsert needs a primary key or unique constraint on ({named})") from None
            if exc.code == "21000":
                raise exc.with_remedy("two rows of the input have the same primary_key: leave one") from None
            raise
        return int(count)

    def _send(self, columns: list[Sending], name: str, schema: str | None) -> None:
        wire = pa.schema([(column.name, column.wire) for column in columns])
        reader = pa.RecordBatchReader.from_batches(wire, self._batches(columns, wire))
        try:
            self._session.ingest(reader, name, schema, temporary=schema is None)
        except DatabaseFailed:
            if self._raised is not None:  # ours, which came back as the client's
                raise self._raised from None
            raise

    def _batches(self, columns: list[Sending], wire: pa.Schema) -> Iterator[pa.RecordBatch]:
        try:
            for batch in self.batches():
                arrays: list[Any] = [
                    column.convert(values) for column, values in zip(columns, batch.columns, strict=True)
                ]
                yield pa.RecordBatch.from_arrays(arrays, schema=wire)
        except GeneratorExit:
            raise
        except BaseException as exc:
            self._raised = exc
            raise


def _from_staging(columns: list[Sending]) -> str:
    # Without the target's length: a cast to varchar(3) would cut off silently what an assignment refuses.
    items = ", ".join(
        f"{quoted(column.name)}::{column.target.sql_type}" if column.staged else quoted(column.name)
        for column in columns
    )
    return f"SELECT {items} FROM pg_temp.{STAGING}"  # noqa: S608 - quoted


class PostgresMarkers:
    """See `sql_marker.MarkerStore`."""

    def __init__(self, session: PostgresSession, place: str) -> None:
        self._session = session
        self._place = place

    @classmethod
    def there(cls, session: PostgresSession, schema: str) -> PostgresMarkers:
        """
        With the table, which is made where it is missing, in this transaction.

        Raises:
            DatabaseFailed: It may not be made; what to do instead is said.
        """
        place = quoted(schema, MARKER_TABLE)
        if look_up_table(session, schema, MARKER_TABLE) is not None:
            return cls(session, place)
        statement = (
            f"CREATE TABLE IF NOT EXISTS {place} (run_key text, step_id text, target text NOT NULL, "
            "rows_written bigint, content text, written_at timestamptz NOT NULL DEFAULT now(), "
            "PRIMARY KEY (run_key, step_id))"
        )
        try:
            session.rows("SELECT pg_advisory_xact_lock(hashtext($1))::text", [f"{schema}.{MARKER_TABLE}"])
            session.run(statement)
        except DatabaseFailed as exc:
            if exc.code == "42501":
                raise exc.with_remedy(administrators_remedy(statement)) from None
            raise
        return cls(session, place)

    def claim(self, run_key: str, step_id: str, target: str) -> Marker | None:
        inserted = self._session.rows(
            f"INSERT INTO {self._place} (run_key, step_id, target) VALUES ($1, $2, $3) "  # noqa: S608 - quoted
            "ON CONFLICT DO NOTHING RETURNING 1",
            [run_key, step_id, target],
        )
        if inserted:
            return None
        ((where, rows, content),) = self._session.rows(
            f"SELECT target, rows_written, content FROM {self._place} WHERE run_key = $1 AND step_id = $2",  # noqa: S608
            [run_key, step_id],
        )
        return Marker(where, rows, content)

    def complete(self, run_key: str, step_id: str, rows: int, content: str) -> None:
        self._session.rows(
            f"UPDATE {self._place} SET rows_written = $3::int8, content = $4 "  # noqa: S608 - quoted
            "WHERE run_key = $1 AND step_id = $2 RETURNING 1",
            [run_key, step_id, str(rows), content],
        )
