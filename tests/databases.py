"""One test's own database, user and password on a server, and a client beside ours to look at what happened."""

from __future__ import annotations

import secrets
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar

from osiris_core.drivers.mysql_extractor import MysqlExtractor
from osiris_core.drivers.mysql_writer import MysqlWriter
from osiris_core.drivers.postgres_extractor import PostgresExtractor
from osiris_core.drivers.postgres_writer import PostgresWriter
from osiris_core.tables import SpilledTable
from osiris_core.testing import run_driver

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from osiris_core.testing import DriverRun
    from tests.database_server import MariadbServer, PostgresServer

WAIT_S = 10


def in_thread(work: Callable[[], Any]) -> Future[Any]:
    """`work` in a thread of its own; its result, or what it raised, is to be asked for."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(work)
    pool.shutdown(wait=False)
    return future


class Database:
    """
    A database that exists for one test.

    Attributes:
        family: Of its connections and drivers.
        connection: What `osiris_connections.yaml` would say of it, with its password.
    """

    family: ClassVar[str]
    extractor: ClassVar[type[Any]]
    writer: ClassVar[type[Any]]
    sleep: ClassVar[str]

    def __init__(self, server: Any) -> None:
        self.server = server
        self.name = f"t_{secrets.token_hex(4)}"
        self.user = f"u_{secrets.token_hex(4)}"
        self.password = f"s3cret-{secrets.token_hex(8)}"

    @property
    def connection(self) -> dict[str, Any]:
        return {
            "host": "127.0.0.1",
            "port": self.server.port,
            "database": self.name,
            "user": self.user,
            "password": self.password,
        }

    def read(self, folder: Path, /, **config: Any) -> Any:
        """What the extractor of this family gives, as a table."""
        found = self.start_reading(folder, **config).outputs["df"]
        return found.to_table() if isinstance(found, SpilledTable) else found

    def start_reading(self, folder: Path, /, *, harness: dict[str, Any] | None = None, **config: Any) -> DriverRun:
        folder.mkdir(exist_ok=True)
        return run_driver(self.extractor, {"connection": self.connection, **config}, folder, **(harness or {}))

    def write(self, folder: Path, table: Any, /, *, harness: dict[str, Any] | None = None, **config: Any) -> DriverRun:
        """What the writer of this family does with a table."""
        folder.mkdir(exist_ok=True)
        settings = {"connection": self.connection, **config}
        return run_driver(self.writer, settings, folder, {"df": table}, **(harness or {}))

    def active(self) -> list[str]:
        """What the server executes for this database's user."""
        raise NotImplementedError

    def end_connections(self) -> None:
        """End every connection of this database's user but our own, as an administrator would."""
        raise NotImplementedError

    def tables(self) -> list[str]:
        """The tables that are there, those of the marker excepted."""
        raise NotImplementedError

    def open_transaction(self, *statements: str) -> Any:
        """A connection of its own in whose transaction these ran; `commit`, `rollback` and `close` it."""
        raise NotImplementedError

    def end_statements_with(self, part: str) -> None:
        """End the connections that execute such a statement, as an administrator would."""
        raise NotImplementedError

    def user_who_may_only(self, table: str, rights: str) -> dict[str, Any]:
        """The connection of another user, who has these rights to a table and no others."""
        raise NotImplementedError

    @property
    def schema(self) -> str:
        raise NotImplementedError

    def wait_until_active(self, part: str) -> None:
        self._wait(lambda: any(part in statement for statement in self.active()))

    def wait_until_idle(self) -> None:
        """Nothing that this database's user started is left at the server."""
        self._wait(lambda: not self.active())

    def wait_until_gone(self, connection: int) -> None:
        """The connection of this number is not at the server any more."""
        self._wait(lambda: connection not in self.connections())

    def connections(self) -> list[int]:
        raise NotImplementedError

    def _wait(self, holds: Callable[[], bool]) -> None:
        give_up_s = time.monotonic() + WAIT_S
        while not holds():
            assert time.monotonic() < give_up_s, f"still active: {self.active()}"
            time.sleep(0.02)

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        raise NotImplementedError

    def run(self, *statements: str) -> None:
        raise NotImplementedError

    def remove(self) -> None:
        raise NotImplementedError

    def value(self, statement: str) -> Any:
        return self.rows(statement)[0][0]


class PostgresDatabase(Database):
    """`run` and `rows` are the owner's; `admin` the server's administrator."""

    family = "postgres"
    extractor = PostgresExtractor
    writer = PostgresWriter
    sleep = "SELECT pg_sleep({})::text"
    server: PostgresServer

    def __init__(self, server: PostgresServer) -> None:
        super().__init__(server)
        self.admin = self._open(server.admin, server.admin_password, "postgres")
        # A schema of its own, found first because it is named as the user is: a database takes half a second.
        self.name = "postgres"
        self._others: list[str] = []
        self._execute(self.admin, f"CREATE USER {self.user} PASSWORD '{self.password}'")
        self._execute(self.admin, f"CREATE SCHEMA AUTHORIZATION {self.user}")
        self._own = self._open(self.user, self.password, self.name)

    def _open(self, user: str, password: str, database: str, *, autocommit: bool = True) -> Any:
        import adbc_driver_postgresql.dbapi

        uri = f"postgresql://{user}:{password}@127.0.0.1:{self.server.port}/{database}"
        return adbc_driver_postgresql.dbapi.connect(uri, autocommit=autocommit)

    def _execute(self, connection: Any, statement: str) -> list[tuple[Any, ...]]:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        return self._execute(self._own, statement)

    def run(self, *statements: str) -> None:
        for statement in statements:
            self._execute(self._own, statement)

    def ask_admin(self, statement: str) -> list[tuple[Any, ...]]:
        return self._execute(self.admin, statement)

    def execute(self, connection: Any, statement: str) -> None:
        self._execute(connection, statement)

    @property
    def schema(self) -> str:
        return self.user

    def tables(self) -> list[str]:
        found = self.rows("SELECT relname::text FROM pg_class WHERE relkind = 'r' AND pg_table_is_visible(oid)")
        return sorted(row[0] for row in found if not row[0].startswith(("pg_", "sql_", "osiris_writes")))

    def open_transaction(self, *statements: str) -> Any:
        if statements[0].startswith("CREATE"):
            self.run(statements[0])
            statements = statements[1:]
        connection = self._open(self.user, self.password, self.name, autocommit=False)
        for statement in statements:
            self._execute(connection, statement)
        return connection

    def end_statements_with(self, part: str) -> None:
        self.ask_admin(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            f"WHERE usename = '{self.user}' AND state = 'active' AND query LIKE '%{part}%'"
        )

    def user_who_may_only(self, table: str, rights: str) -> dict[str, Any]:
        name = f"r_{self.user}"
        self.ask_admin(f"CREATE USER {name} PASSWORD '{self.password}'")
        self.run(f"GRANT USAGE ON SCHEMA {self.user} TO {name}", f"GRANT {rights} ON {table} TO {name}")
        self._others.append(name)
        return {**self.connection, "user": name}

    def active(self) -> list[str]:
        """What the server executes for this database's user, our own looking excepted."""
        found = self.ask_admin(
            f"SELECT query::text FROM pg_stat_activity WHERE usename = '{self.user}' AND state = 'active'"
        )
        return [row[0] for row in found]

    def connections(self) -> list[int]:
        return [row[0] for row in self.ask_admin("SELECT pid FROM pg_stat_activity")]

    def end_connections(self) -> None:
        ((own,),) = self.rows("SELECT pg_backend_pid()")
        self.ask_admin(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{self.user}' AND pid <> {own}"
        )

    def remove(self) -> None:
        with suppress(Exception):
            self._own.close()
        with suppress(Exception):
            self._execute(
                self.admin, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{self.user}'"
            )
            self._execute(self.admin, f"DROP OWNED BY {self.user} CASCADE")
            self._execute(self.admin, f"DROP USER {', '.join([self.user, *self._others])}")
        with suppress(Exception):
            self.admin.close()


class MariadbDatabase(Database):
    """`run` and `rows` are the owner's; `admin` the server's administrator."""

    family = "mysql"
    extractor = MysqlExtractor
    writer = MysqlWriter
    sleep = "SELECT SLEEP({})"
    server: MariadbServer

    def __init__(self, server: MariadbServer) -> None:
        super().__init__(server)
        self.admin = self._open("root", server.admin_password, None)
        self._execute(self.admin, f"CREATE DATABASE {self.name} CHARACTER SET utf8mb4")
        self._execute(self.admin, f"CREATE USER '{self.user}'@'%' IDENTIFIED BY '{self.password}'")
        self._execute(self.admin, f"GRANT ALL ON {self.name}.* TO '{self.user}'@'%'")
        self._own = self._open(self.user, self.password, self.name)

    def _open(self, user: str, password: str, database: str | None) -> Any:
        import pymysql

        place = {"host": "127.0.0.1", "port": self.server.port, "database": database}
        return pymysql.connect(
            **place, user=user, password=password, autocommit=True, init_command="SET sql_mode = ''", charset="utf8mb4"
        )

    def _execute(self, connection: Any, statement: str) -> list[tuple[Any, ...]]:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        return self._execute(self._own, statement)

    def run(self, *statements: str) -> None:
        for statement in statements:
            self._execute(self._own, statement)

    def ask_admin(self, statement: str) -> list[tuple[Any, ...]]:
        return self._execute(self.admin, statement)

    def execute(self, connection: Any, statement: str) -> None:
        self._execute(connection, statement)

    @property
    def schema(self) -> str:
        return self.name

    def tables(self) -> list[str]:
        return sorted(row[0] for row in self.rows("SHOW TABLES") if row[0] != "osiris_writes")

    def open_transaction(self, *statements: str) -> Any:
        if statements[0].startswith("CREATE"):
            self.run(statements[0])
            statements = statements[1:]
        connection = self._open(self.user, self.password, self.name)
        connection.autocommit(False)
        for statement in statements:
            self._execute(connection, statement)
        return connection

    def end_statements_with(self, part: str) -> None:
        listed = "SELECT id FROM information_schema.processlist "
        for (number,) in self.ask_admin(f"{listed} WHERE user = '{self.user}' AND info LIKE '%{part}%'"):
            self.ask_admin(f"KILL {number}")

    def user_who_may_only(self, table: str, rights: str) -> dict[str, Any]:
        name = f"r_{self.user}"
        self.ask_admin(f"CREATE USER '{name}'@'%' IDENTIFIED BY '{self.password}'")
        self.ask_admin(f"GRANT {rights} ON {self.name}.{table} TO '{name}'@'%'")
        return {**self.connection, "user": name}

    def active(self) -> list[str]:
        found = self.ask_admin(
            f"SELECT info FROM information_schema.processlist WHERE user = '{self.user}' AND command = 'Query'"
        )
        return [row[0] for row in found]

    def connections(self) -> list[int]:
        return [row[0] for row in self.ask_admin("SELECT id FROM information_schema.processlist")]

    def end_connections(self) -> None:
        ((own,),) = self.rows("SELECT CONNECTION_ID()")
        listed = f"SELECT id FROM information_schema.processlist WHERE user = '{self.user}' AND id <> {own}"
        for (number,) in self.ask_admin(listed):
            with suppress(Exception):
                self.ask_admin(f"KILL {number}")

    def remove(self) -> None:
        with suppress(Exception):
            self._own.close()
        with suppress(Exception):
            self._execute(self.admin, f"DROP DATABASE {self.name}")
            self._execute(self.admin, f"DROP USER '{self.user}'@'%'")
        with suppress(Exception):
            self.admin.close()
