"""One test's own database, user and password on a server, and a client beside ours to look at what happened."""

from __future__ import annotations

import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.database_server import MariadbServer, PostgresServer


class Database:
    """
    A database that exists for one test.

    Attributes:
        connection: What `osiris_connections.yaml` would say of it, with its password.
    """

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

    server: PostgresServer

    def __init__(self, server: PostgresServer) -> None:
        super().__init__(server)
        self.admin = self._open(server.admin, server.admin_password, "postgres")
        self._execute(self.admin, f"CREATE USER {self.user} PASSWORD '{self.password}'")
        self._execute(self.admin, f"CREATE DATABASE {self.name} OWNER {self.user}")
        self._own = self._open(self.user, self.password, self.name)

    def _open(self, user: str, password: str, database: str) -> Any:
        import adbc_driver_postgresql.dbapi

        uri = f"postgresql://{user}:{password}@127.0.0.1:{self.server.port}/{database}"
        return adbc_driver_postgresql.dbapi.connect(uri, autocommit=True)

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

    def active(self) -> list[str]:
        """What the server executes for this database's user, our own looking excepted."""
        found = self.ask_admin(
            f"SELECT query::text FROM pg_stat_activity WHERE usename = '{self.user}' AND state = 'active'"
        )
        return [row[0] for row in found]

    def remove(self) -> None:
        for connection in (self._own,):
            with suppress(Exception):
                connection.close()
        with suppress(Exception):
            self._execute(self.admin, f"DROP DATABASE {self.name} WITH (FORCE)")
            self._execute(self.admin, f"DROP USER {self.user}")
        with suppress(Exception):
            self.admin.close()


class MariadbDatabase(Database):
    """`run` and `rows` are the owner's; `admin` the server's administrator."""

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

    def active(self) -> list[str]:
        found = self.ask_admin(
            f"SELECT info FROM information_schema.processlist WHERE user = '{self.user}' AND command = 'Query'"
        )
        return [row[0] for row in found]

    def remove(self) -> None:
        for connection in (self._own,):
            with suppress(Exception):
                connection.close()
        with suppress(Exception):
            self._execute(self.admin, f"DROP DATABASE {self.name}")
            self._execute(self.admin, f"DROP USER '{self.user}'@'%'")
        with suppress(Exception):
            self.admin.close()
