"""Whether a PostgreSQL server can be reached, and who it is: what `osiris doctor --connections` asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from osiris_core.drivers.postgres_client import PostgresSession

if TYPE_CHECKING:
    from osiris_core.drivers.sql_connection import PostgresConnection

_WHO = """\
SELECT current_setting('server_version'), current_database()::text, current_user::text,
  coalesce((SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()), '')
"""


def check_postgres(connection: PostgresConnection, timeout_s: float) -> str:
    """
    Log in and ask the server's version; changes nothing.

    Raises:
        DatabaseFailed: It cannot be reached, or refuses; with what to do.
        DriverNotInstalled: The client library is missing.
    """
    limits = {"connect_timeout_s": min(connection.connect_timeout_s, timeout_s), "statement_timeout_s": timeout_s}
    quick = connection.model_copy(update=limits)
    with PostgresSession.open(quick, read_only=True) as session:
        ((version, database, user, tls),) = session.rows(_WHO)
    encrypted = f", {tls}" if tls else ", not encrypted"
    return f"PostgreSQL {version.split()[0]}, database {database} as {user}{encrypted}"
