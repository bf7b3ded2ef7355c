"""The one file that knows PostgreSQL's client library: connections, statements, streams both ways, what errors mean."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from osiris_core.drivers.postgres_address import connection_uri
from osiris_core.drivers.postgres_errors import (
    MEANINGS,
    failed,
    lost,
    not_connected,
    says_lost,
    without_statement,
)
from osiris_core.drivers.sql_certificates import certificate_files
from osiris_core.drivers.sql_errors import DatabaseFailed, hidden
from osiris_core.drivers.sql_opening import connected
from osiris_core.errors import DriverNotInstalled, FailureClass

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import ModuleType

    from osiris_core.drivers.sql_connection import PostgresConnection
    from osiris_core.run_pool import RunPool
    from osiris_core.step_context import StepContext

PACKAGES = ("adbc-driver-postgresql>=1.5,<2", "adbc-driver-manager>=1.5,<2")
CANCEL_INTERVAL_S = 0.2
CANCEL_FOR_S = 60.0
BATCH_BYTES = 4 << 20
SETTINGS = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "standard_conforming_strings": "on",
}
"""What decides how values read as texts, whatever the server's or the user's defaults are."""


def load_library() -> ModuleType:
    """
    The client library.

    Raises:
        DriverNotInstalled: It is not there; the message says what to install.
    """
    try:
        return import_module("adbc_driver_postgresql.dbapi")
    except ModuleNotFoundError as exc:
        message = f"PostgreSQL needs {exc.name}, which is not installed here: pip install 'osiris-core[postgres]'"
        raise DriverNotInstalled(message) from None


def _connect(connection: PostgresConnection) -> Any:
    library = load_library()
    with certificate_files(connection) as files:
        try:
            return library.connect(connection_uri(connection, files))
        except library.Error as exc:
            raise not_connected(connection, str(exc)) from None


class PostgresSession:
    """
    One connection, in a transaction from its first statement on. Closing it rolls back what was not committed.

    A cancel of the step ends the statement that runs, at the server too, and whatever is started after it.
    """

    def __init__(self, raw: Any, connection: PostgresConnection) -> None:
        self._raw = raw
        self._connection = connection
        self._closing = threading.Lock()
        self._closed = False
        self._cursors: list[Any] = []

    @classmethod
    def open(
        cls, connection: PostgresConnection, *, read_only: bool = False, ctx: StepContext | None = None
    ) -> PostgresSession:
        """
        `ctx`: of the step whose cancel ends the session, and in whose pool an earlier step may have left its
        connection.

        Raises:
            DatabaseFailed: No connection could be made.
            DriverNotInstalled: The client library is missing.
            RunCancelled, RunTimeout: The step was asked to stop.
        """
        kept = ctx.pool.take((cls, connection)) if ctx is not None else None
        if kept is not None:
            session = cls(kept, connection)
            try:
                session._set_up(read_only=read_only, ctx=ctx)
            except DatabaseFailed:  # the server ended it meanwhile
                session.close()
            else:
                return session
        load_library()
        raw = connected(lambda: _connect(connection), lambda late: late.close(), connection, ctx)
        session = cls(raw, connection)
        try:
            session._set_up(read_only=read_only, ctx=ctx)
        except BaseException:
            session.close()
            raise
        return session

    def _set_up(self, *, read_only: bool, ctx: StepContext | None) -> None:
        if ctx is not None:
            ctx.on_cancel(self._stop_aside)
        self._begin(read_only=read_only)

    def _begin(self, *, read_only: bool) -> None:
        """Start the transaction. What is set holds for it alone: behind a pooler the connection is everybody's."""
        if read_only:
            self.run("SET TRANSACTION READ ONLY")
        settings = dict(SETTINGS)
        if self._connection.statement_timeout_s is not None:
            settings["statement_timeout"] = str(max(1, round(self._connection.statement_timeout_s * 1000)))
        self.rows("SELECT " + ", ".join(f"set_config('{name}', '{value}', true)" for name, value in settings.items()))

    def hand_on(self, pool: RunPool) -> None:
        """Leave the connection to a later step, as it was when it was made; nothing uncommitted stays."""
        with self._closing:
            if self._closed:
                return
            raw = self._raw
            try:
                for cursor in self._cursors:
                    cursor.close()
                raw.rollback()
                raw.adbc_connection.set_autocommit(True)
                with raw.cursor() as cursor:
                    cursor.execute("DISCARD ALL")
                raw.adbc_connection.set_autocommit(False)
            except Exception:  # noqa: BLE001 - it is of no use to anybody then
                with suppress(Exception):
                    raw.close()
            else:
                pool.put((type(self), self._connection), raw, raw.close)
            self._closed = True

    def _stop_aside(self) -> None:
        threading.Thread(target=self._stop, name="osiris-postgres-cancel", daemon=True).start()

    def _stop(self) -> None:
        # Once is not enough: a cancel between two statements is forgotten when the next one starts.
        give_up_s = time.monotonic() + CANCEL_FOR_S
        while time.monotonic() < give_up_s:
            with self._closing:
                if self._closed:
                    return
                with suppress(Exception):
                    self._raw.adbc_connection.cancel()
            time.sleep(CANCEL_INTERVAL_S)

    def run(self, statement: str) -> None:
        """Execute a statement that gives no rows."""
        with self._translated(), self._raw.cursor() as cursor:
            cursor.execute(statement)

    def rows(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a statement with `$1`, `$2`, …"""
        with self._translated(), self._raw.cursor() as cursor:
            cursor.execute(statement, list(parameters) or None)
            found: list[tuple[Any, ...]] = cursor.fetchall()
            return found

    def describe(self, statement: str) -> pa.Schema:
        """What columns a statement would give, without running it."""
        with self._translated(), self._raw.cursor() as cursor:
            schema: pa.Schema = cursor.adbc_execute_schema(statement)
            return schema

    def stream(self, statement: str) -> Iterator[pa.RecordBatch]:
        """
        The rows of a statement, batch by batch as they arrive, in the types of `describe`.

        It runs when this returns. One stream at a time; it ends with the connection.
        """
        hint = {"adbc.postgresql.batch_size_hint_bytes": str(BATCH_BYTES)}
        with self._translated():
            cursor = self._raw.cursor(adbc_stmt_kwargs=hint)
            self._cursors.append(cursor)
            cursor.execute(statement)
            reader = cursor.fetch_record_batch()
        return self._batches(reader)

    def _batches(self, reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
        while True:
            with self._translated():
                try:
                    batch = reader.read_next_batch()
                except StopIteration:
                    return
            yield batch

    def ingest(self, batches: pa.RecordBatchReader, table: str, schema: str | None, *, temporary: bool = False) -> int:
        """
        Send rows into a table by COPY, and return how many were sent. What `batches` raises is raised.

        The types of `batches` must be those of the table's columns.
        """
        with self._translated(), self._raw.cursor() as cursor:
            place = {} if temporary else {"db_schema_name": schema}
            sent: int = cursor.adbc_ingest(table, batches, mode="append", temporary=temporary, **place)
            return sent

    def commit(self) -> None:
        with self._translated():
            self._raw.commit()

    def close(self) -> None:
        """End the connection, and with it whatever it still runs. May be called twice."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            for cursor in self._cursors:
                with suppress(Exception):  # a stream that is not read to its end
                    cursor.adbc_cancel()
                with suppress(Exception):
                    cursor.close()
            with suppress(Exception):  # it may be lost
                self._raw.close()

    def __enter__(self) -> PostgresSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        library = load_library()
        try:
            yield
        except library.Error as exc:
            raise failed(exc, self._connection) from None
        except OSError as exc:  # how a stream fails on its way
            if exc.errno is not None:
                raise
            raise self._failed_in_stream(str(exc)) from None
        except pa.ArrowInvalid as exc:  # what arrived is a value that Arrow does not have, as an interval of 342 years
            message = without_statement(str(exc).rpartition("[libpq] ")[2])
            raise DatabaseFailed(message, remedy="cast the column to text in the query") from None

    def _is_there(self) -> bool:
        """Whether the server still answers. What the transaction did is lost either way."""
        try:
            self._raw.rollback()
            with self._raw.cursor() as cursor:
                cursor.execute("SELECT 1")
        except load_library().Error:
            return False
        return True

    def _failed_in_stream(self, text: str) -> DatabaseFailed:
        """An error in a stream comes as a text without a code: whether the connection is there says the rest."""
        message = hidden(without_statement(text), self._connection)
        if says_lost(message) or not self._is_there():
            return lost(message)
        if "statement timeout" in message:
            return DatabaseFailed(message, FailureClass.TIMEOUT, code="57014", remedy=MEANINGS["57014"].remedy)
        return DatabaseFailed(message)


def quoted(*names: str | None) -> str:
    """Identifiers as the server takes them whatever is in them: `"schema"."table"`; None is left out."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in names if name is not None)
