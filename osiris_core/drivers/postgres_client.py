"""The one file that knows PostgreSQL's client library: connections, statements, streams both ways, what errors mean."""

from __future__ import annotations

import re
import threading
import time
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from osiris_core.drivers.sql_connection import PostgresConnection, as_file
from osiris_core.drivers.sql_errors import DatabaseFailed, Meaning, cannot_connect, hidden
from osiris_core.errors import DriverNotInstalled, FailureClass

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from types import ModuleType

    import pyarrow as pa

    from osiris_core.step_context import StepContext

PACKAGES = ("adbc-driver-postgresql>=1.5,<2", "adbc-driver-manager>=1.5,<2")
CANCEL_INTERVAL_S = 0.2
CANCEL_FOR_S = 60.0
BATCH_BYTES = 4 << 20
APPLICATION = "osiris"
UNREACHABLE_S = 60
"""How long what was sent may stay without an answer of the other machine before the connection counts as lost."""

_LOST = FailureClass.INFRA_LOST
_DENIED = FailureClass.RESOURCE_DENIED
_USER = FailureClass.USER_ERROR
MEANINGS = {
    "08": Meaning(_LOST),
    "28": Meaning(_USER, "check user and password of the connection, and the server's pg_hba.conf"),
    "3D000": Meaning(_USER, "check the connection's database"),
    "42501": Meaning(_USER, "the connection's user lacks a right: an administrator can GRANT it"),
    "25006": Meaning(_USER, "an extractor only reads; to change rows use postgres.writer"),
    "40": Meaning(_LOST, "another transaction was in the way; a retry policy tries again"),
    "53": Meaning(_DENIED, "the server is short of something: connections, memory or disk"),
    "54": Meaning(_USER),
    "55P03": Meaning(_DENIED, "another transaction holds a lock"),
    "57014": Meaning(FailureClass.TIMEOUT, "the server stopped the statement: see statement_timeout_s"),
    "57P01": Meaning(_LOST, "the server was shut down, or an administrator ended the connection"),
    "57P02": Meaning(_LOST),
    "57P03": Meaning(_LOST, "the server is just starting or stopping"),
    "57P05": Meaning(_LOST),
    "58": Meaning(_DENIED),
    "XX": Meaning(_DENIED),
}
"""By SQLSTATE, or by its class; the rest is the user's."""
_CONNECT_MEANINGS = (
    (re.compile(r"password authentication failed|no password supplied|role .* does not exist"), "28P01"),
    (re.compile(r"database .* does not exist"), "3D000"),
    (re.compile(r"no pg_hba.conf entry|authentication"), "28000"),
    (re.compile(r"too many (connections|clients)|remaining connection slots"), "53300"),
    (re.compile(r"the database system is"), "57P03"),
    (re.compile(r"permission denied for database"), "42501"),
)
_TLS = re.compile(r"\bSSL\b|certificate", re.IGNORECASE)
_HOST_NAME = re.compile(r"could not translate host name")
_GONE = re.compile(
    r"server closed the connection|connection to server was lost|terminating connection|could not receive data"
    r"|could not send data|no connection to the server|connection not open|SSL SYSCALL|Connection reset|Broken pipe"
)


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


def connection_uri(connection: PostgresConnection, files_dir: Path, *, read_only: bool = False) -> str:
    """
    What libpq connects with; it stays in memory. Certificates are written into `files_dir`.

    Everything is said, so that nothing of this machine (a password file, a service) is taken instead.
    """
    options = ["-c TimeZone=UTC", "-c DateStyle=ISO", "-c IntervalStyle=postgres", "-c extra_float_digits=1"]
    options += ["-c bytea_output=hex", "-c standard_conforming_strings=on"]
    if read_only:
        options.append("-c default_transaction_read_only=on")
    if connection.statement_timeout_s is not None:
        options.append(f"-c statement_timeout={max(1, round(connection.statement_timeout_s * 1000))}")
    settings: dict[str, str] = {
        "host": connection.host,
        "port": str(connection.server_port),
        "dbname": connection.database,
        "user": connection.user,
        "sslmode": "disable" if connection.tls == "off" else connection.tls,
        "connect_timeout": str(max(2, round(connection.connect_timeout_s))),  # libpq takes 1 for 2
        "client_encoding": "UTF8",
        "application_name": APPLICATION,
        "passfile": str(files_dir / "none"),
        "keepalives_idle": "30",
        "keepalives_interval": "10",
        "keepalives_count": "3",
        "tcp_user_timeout": str(UNREACHABLE_S * 1000),
        "gssencmode": "disable",
        "options": " ".join(options),
    }
    if connection.password is not None:
        settings["password"] = connection.password.get_secret_value()
    for name, value in (("sslrootcert", connection.tls_ca), ("sslcert", connection.tls_cert)):
        if value is not None:
            settings[name] = as_file(value, f"{name}.pem", files_dir)
    if connection.tls_key is not None:
        settings["sslkey"] = as_file(connection.tls_key.get_secret_value(), "sslkey.pem", files_dir)
    return "postgresql://?" + "&".join(f"{name}={quote(value, safe='')}" for name, value in settings.items())


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
    def open(cls, connection: PostgresConnection, files_dir: Path, *, read_only: bool = False) -> PostgresSession:
        """
        Raises:
            DatabaseFailed: No connection could be made.
            DriverNotInstalled: The client library is missing.
        """
        library = load_library()
        uri = connection_uri(connection, files_dir, read_only=read_only)
        try:
            raw = library.connect(uri)
        except library.Error as exc:
            raise _not_connected(connection, str(exc)) from None
        return cls(raw, connection)

    def watch(self, ctx: StepContext) -> None:
        """Be ended by a cancel of the step."""
        ctx.on_cancel(lambda: threading.Thread(target=self._stop, name="osiris-postgres-cancel", daemon=True).start())

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

    def rollback(self) -> None:
        with self._translated():
            self._raw.rollback()

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
            raise self._failed(exc) from None
        except OSError as exc:  # how a stream fails on its way
            if exc.errno is not None:
                raise
            raise self._failed_in_stream(str(exc)) from None

    def _failed(self, exc: Any) -> DatabaseFailed:
        facts = {_text(name): _text(value) for name, value in exc.details or ()}
        code = str(exc.sqlstate or "")
        message = facts.get("PG_DIAG_MESSAGE_PRIMARY") or _without_statement(str(exc))
        for name in ("PG_DIAG_MESSAGE_DETAIL", "PG_DIAG_CONTEXT", "PG_DIAG_MESSAGE_HINT"):
            if facts.get(name) and facts[name] not in message:
                message += f" ({facts[name]})"
        message = hidden(message, self._connection)
        if not code and _GONE.search(message):
            return _lost(message)
        meaning = meaning_of(code)
        position = facts.get("PG_DIAG_STATEMENT_POSITION", "")
        return DatabaseFailed(
            message,
            meaning.failure_class,
            code=code,
            remedy=meaning.remedy,
            position=int(position) if position.isdigit() else None,
            details={key: facts[name] for name, key in _NAMES.items() if facts.get(name)},
        )

    def _is_there(self) -> bool:
        """Whether the server still answers, be it that the transaction failed."""
        try:
            with self._raw.cursor() as cursor:
                cursor.execute("SELECT 1")
        except load_library().Error as exc:
            return bool(exc.sqlstate)
        return True

    def _failed_in_stream(self, text: str) -> DatabaseFailed:
        """An error in a stream comes as a text without a code: whether the connection is there says the rest."""
        message = hidden(_without_statement(text), self._connection)
        if _GONE.search(message) or not self._is_there():
            return _lost(message)
        if "statement timeout" in message:
            return DatabaseFailed(message, FailureClass.TIMEOUT, code="57014", remedy=MEANINGS["57014"].remedy)
        return DatabaseFailed(message)


_NAMES = {"PG_DIAG_COLUMN_NAME": "column", "PG_DIAG_TABLE_NAME": "table", "PG_DIAG_CONSTRAINT_NAME": "constraint"}


def meaning_of(code: str) -> Meaning:
    return MEANINGS.get(code) or MEANINGS.get(code[:2]) or Meaning(_USER)


def _lost(message: str) -> DatabaseFailed:
    return DatabaseFailed(f"the connection was lost: {message}", FailureClass.INFRA_LOST, code="08006")


def _not_connected(connection: PostgresConnection, text: str) -> DatabaseFailed:
    message = re.sub(r"^\w+: \[libpq\] Failed to connect: ", "", text)
    for pattern, code in _CONNECT_MEANINGS:
        if pattern.search(message):
            return cannot_connect(connection, message, meaning_of(code), code)
    if _TLS.search(message):
        return cannot_connect(connection, message, Meaning(_USER, "see tls, tls_ca and host of the connection"))
    if _HOST_NAME.search(message):
        return cannot_connect(connection, message, Meaning(_LOST, "check the connection's host"))
    remedy = "check the connection's host and port, and that the server runs and may be reached from here"
    return cannot_connect(connection, message, Meaning(_LOST, remedy), "08001")


def _without_statement(text: str) -> str:
    """A message without the statement that was sent, and without the library's own words before it."""
    text = re.sub(r"\n+Query was: .*", "", text, flags=re.DOTALL)
    return re.sub(r"^(\w+: )?(\[libpq\] )?([^:]*\[PGRES_\w+\]: )?(ERROR:\s+)?", "", text).strip()


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def quoted(*names: str | None) -> str:
    """Identifiers as the server takes them whatever is in them: `"schema"."table"`; None is left out."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in names if name is not None)
