"""Whether a MariaDB or MySQL server can be reached, and who it is: what `osiris doctor --connections` asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from osiris_core.drivers.mysql_client import MysqlSession

if TYPE_CHECKING:
    from osiris_core.drivers.sql_connection import MysqlConnection


def check_mysql(connection: MysqlConnection, timeout_s: float) -> str:
    """
    Log in and ask the server's version; changes nothing.

    Raises:
        DatabaseFailed: It cannot be reached, or refuses; with what to do.
        DriverNotInstalled: The client library is missing.
    """
    limits = {"connect_timeout_s": min(connection.connect_timeout_s, timeout_s), "statement_timeout_s": timeout_s}
    quick = connection.model_copy(update=limits)
    with MysqlSession.open(quick, read_only=True) as session:
        ((version, database, user),) = session.rows("SELECT VERSION(), DATABASE(), CURRENT_USER()")
        ((_, tls),) = session.rows("SHOW SESSION STATUS LIKE 'Ssl_version'")
    name = "MariaDB" if session.is_mariadb else "MySQL"
    return f"{name} {version.partition('-')[0]}, database {database} as {user}, {tls or 'not encrypted'}"
