"""A session of MariaDB or MySQL: statements, rows in blocks, loads, and their end when the step is stopped."""

from __future__ import annotations

import select
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from osiris_core.drivers.mysql_errors import failed, lost
from osiris_core.drivers.mysql_login import load_library, log_in, read_without_limit
from osiris_core.drivers.mysql_rows import RowStream, columns_of
from osiris_core.drivers.sql_errors import DatabaseFailed
from osiris_core.drivers.sql_opening import connected
from osiris_core.errors import FailureClass

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Sequence

    import pyarrow as pa

    from osiris_core.drivers.sql_connection import MysqlConnection
    from osiris_core.run_pool import RunPool
    from osiris_core.step_context import StepContext

CANCEL_INTERVAL_S = 0.2
CANCEL_FOR_S = 60.0
CANCEL_CONNECT_S = 2.0
"""A server that lets nobody in for so long may still be cut off."""
BLOCK_BYTES = 1 << 20
SEND_BYTES = 1 << 20
UNREACHABLE_S = 60
_COM_QUERY = 3
_COM_RESET_CONNECTION = 0x1F
# Linux's numbers of TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT and TCP_USER_TIMEOUT; the core imports no socket.
_TCP = 6
_TCP_OPTIONS = ((4, 30), (5, 10), (6, 3), (18, UNREACHABLE_S * 1000))
WRITER_MODE = "STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION,ERROR_FOR_DIVISION_BY_ZERO"


class MysqlSession:
    """
    One connection, in a transaction from its first statement on. Closing it rolls back what was not committed.

    A cancel of the step ends the statement that runs, at the server too, and whatever is started after it.
    """

    def __init__(self, raw: Any, connection: MysqlConnection, kind: Hashable) -> None:
        self._raw = raw
        self._kind = kind
        self._connection = connection
        self._closing = threading.Lock()
        self._closed = False
        self._in_stream = False
        self.is_mariadb = "mariadb" in str(raw.get_server_info()).lower()

    @classmethod
    def open(
        cls,
        connection: MysqlConnection,
        *,
        read_only: bool = False,
        loads: bool = False,
        ctx: StepContext | None = None,
    ) -> MysqlSession:
        """
        `loads`: rows may be sent by `load`. `ctx`: of the step whose cancel ends the session, and in whose pool an
        earlier step may have left its connection.

        Raises:
            DatabaseFailed: No connection could be made.
            DriverNotInstalled: The client library is missing.
            RunCancelled, RunTimeout: The step was asked to stop.
        """
        kind = (cls, connection, loads)
        kept = ctx.pool.take(kind) if ctx is not None else None
        if kept is not None:
            session = cls(kept, connection, kind)
            try:
                session._set_up(read_only=read_only, ctx=ctx)
            except DatabaseFailed:  # the server ended it meanwhile
                session.close()
            else:
                return session
        load_library()
        raw = connected(lambda: log_in(connection, loads=loads), lambda late: late.close(), connection, ctx)
        read_without_limit(raw)
        session = cls(raw, connection, kind)
        try:
            session._set_up(read_only=read_only, ctx=ctx)
        except BaseException:
            session.close()
            raise
        return session

    def _set_up(self, *, read_only: bool, ctx: StepContext | None) -> None:
        if ctx is not None:
            ctx.on_cancel(self._stop_aside)
        if self._connection.socket_dir is None:
            for option, value in _TCP_OPTIONS:
                self._raw._sock.setsockopt(_TCP, option, value)
        settings = ["time_zone = '+00:00'", "net_write_timeout = 3600"]
        if not read_only:
            # Warnings are how the server says that it changed a value: it is to count and keep all kinds of them.
            settings += [f"sql_mode = '{WRITER_MODE}'", "sql_notes = 1", "max_error_count = 64"]
        limit_s = self._connection.statement_timeout_s
        if limit_s is not None and self.is_mariadb:
            settings.append(f"max_statement_time = {limit_s:.3f}")
        elif limit_s is not None:
            settings.append(f"max_execution_time = {max(1, round(limit_s * 1000))}")
        if read_only:  # also of what ends a transaction, as CREATE does
            self.run("SET SESSION TRANSACTION READ ONLY")
        self.run("SET " + ", ".join(f"SESSION {setting}" for setting in settings))
        self.run(f"START TRANSACTION READ {'ONLY' if read_only else 'WRITE'}")

    def hand_on(self, pool: RunPool) -> None:
        """Leave the connection to a later step, as it was when it was made; nothing uncommitted stays."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            raw = self._raw
            try:
                if self._in_stream:
                    raise DatabaseFailed("rows are on their way")
                raw._execute_command(_COM_RESET_CONNECTION, b"")
                raw._read_packet()
                raw.set_character_set("utf8mb4")
                raw.autocommit(False)
            except Exception:  # noqa: BLE001 - it is of no use to anybody then
                with suppress(Exception):
                    raw._force_close()
            else:
                pool.put(self._kind, raw, raw.close)

    def _stop_aside(self) -> None:
        threading.Thread(target=self._stop, name="osiris-mysql-cancel", daemon=True).start()

    def _stop(self) -> None:
        # Once is not enough: a statement may be started after it.
        give_up_s = time.monotonic() + CANCEL_FOR_S
        quick_s = min(self._connection.connect_timeout_s, CANCEL_CONNECT_S)
        quick = self._connection.model_copy(update={"connect_timeout_s": quick_s})
        killer: Any = None
        try:
            while time.monotonic() < give_up_s and not self._closed:
                try:
                    killer = killer or log_in(quick)
                    with self._closing:  # afterwards the connection may be another step's
                        if not self._closed:
                            killer.query(f"KILL QUERY {self._raw.thread_id()}")
                except Exception:  # noqa: BLE001 - it may be over, or no connection to be had: then ours ends here
                    killer = None
                    with self._closing, suppress(Exception):
                        if not self._closed:
                            self._raw._sock.shutdown(2)
                time.sleep(CANCEL_INTERVAL_S)
        finally:
            if killer is not None:
                with suppress(Exception):
                    killer.close()

    def run(self, statement: str, parameters: Sequence[Any] = ()) -> int:
        """Execute a statement; the number of rows that the server says were changed."""
        with self._translated(statement), self._raw.cursor() as cursor:
            return int(cursor.execute(statement, tuple(parameters) or None) or 0)

    def rows(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a statement with `%s`."""
        with self._translated(statement), self._raw.cursor() as cursor:
            cursor.execute(statement, tuple(parameters) or None)
            return list(cursor.fetchall())

    def stream(self, statement: str) -> tuple[list[Any], Iterator[list[pa.BinaryArray]]]:
        """
        The fields of a result, and its rows as they arrive: for each block the values of every column, as texts.

        One stream at a time; it ends with the connection.
        """
        with self._translated(statement):
            self._raw.query(statement, unbuffered=True)
            result = self._raw._result
            if not result.unbuffered_active:
                return [], iter(())
            fields = list(result.fields)
            # From here on we read: the library would make a Python object of every value.
            result.unbuffered_active, result.connection = False, None
            self._in_stream = True
        return fields, self._blocks(len(fields))

    def _blocks(self, count: int) -> Iterator[list[pa.BinaryArray]]:
        rows = RowStream()
        while rows.end is None:
            with self._translated():
                chunks = list(self._arrived())
            for block in rows.feed(chunks):
                yield columns_of(block, count)
        self._in_stream = False
        with self._translated():
            self._raise_at_end(rows.end)

    def _arrived(self) -> Iterator[bytes]:
        """At least some bytes, and what else is there already, up to a block."""
        source, size_bytes = self._raw._rfile, 0
        while size_bytes < BLOCK_BYTES:
            chunk: bytes = source.read1(BLOCK_BYTES)
            if not chunk:
                raise EOFError
            size_bytes += len(chunk)
            yield chunk
            pending = getattr(self._raw._sock, "pending", None)
            if not (pending is not None and pending()) and not select.select([self._raw._sock], [], [], 0)[0]:
                return

    def _raise_at_end(self, packet: bytes) -> None:
        found = load_library().protocol.MysqlPacket(packet, self._raw.encoding)
        if found.is_error_packet():
            found.raise_for_error()

    def load(self, statement: str, chunks: Iterable[bytes]) -> tuple[int, int]:
        """
        `LOAD DATA LOCAL` of what `chunks` gives; the numbers of rows and of warnings that the server counted.

        A file that the server names is not looked at: it gets these bytes and no others.

        Raises:
            DatabaseFailed: Among others, with code 1148 or 3948, where the server does not take loads.
        """
        library = load_library()
        with self._translated(statement):
            self._raw._execute_command(_COM_QUERY, statement)
            if not self._raw._read_packet().is_load_local_packet():
                raise library.err.InternalError(2027, "the server did not ask for the rows of a load")
            self._in_stream = True
        for chunk in chunks:
            for start in range(0, len(chunk), SEND_BYTES):
                with self._translated():
                    self._raw.write_packet(chunk[start : start + SEND_BYTES])
        with self._translated():
            self._raw.write_packet(b"")
            packet = self._raw._read_packet()
            self._in_stream = False
            done = library.protocol.OKPacketWrapper(packet)
            return int(done.affected_rows), int(done.warning_count)

    def commit(self) -> None:
        with self._translated():
            self._raw.commit()

    def close(self) -> None:
        """End the connection, and with it what is not committed. May be called twice."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            with suppress(Exception):
                # A goodbye would wait behind rows that nobody reads.
                self._raw._force_close() if self._in_stream else self._raw.close()

    def __enter__(self) -> MysqlSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _translated(self, statement: str | None = None) -> Iterator[None]:
        library = load_library()
        try:
            yield
        except library.err.MySQLError as exc:
            raise failed(exc, self._connection, statement) from None
        except EOFError:
            raise lost("the server closed the connection") from None
        except (OSError, RuntimeError) as exc:
            if isinstance(exc, RuntimeError) and "LOAD_LOCAL" not in str(exc):
                raise
            if isinstance(exc, RuntimeError):
                message = "the server asked for a file of this machine, which it does not get"
                raise DatabaseFailed(
                    message, FailureClass.PROTOCOL, remedy="check what the connection's host is"
                ) from None
            raise lost(str(exc)) from None


def quoted(*names: str | None) -> str:
    """Identifiers as the server takes them whatever is in them: `` `schema`.`table` ``; None is left out."""
    return ".".join("`" + name.replace("`", "``") + "`" for name in names if name is not None)
