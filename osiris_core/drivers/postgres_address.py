"""What libpq connects with: everything is said, so that it takes nothing of the machine it runs on."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Mapping

    from osiris_core.drivers.sql_connection import PostgresConnection

UNREACHABLE_S = 60
"""How long what was sent may stay without an answer of the other machine before the connection counts as lost."""
_ABSENT = "/nonexistent/osiris"
_SAID = {
    "hostaddr": "",
    "options": "",
    "password": "",
    "application_name": "osiris",
    "client_encoding": "UTF8",
    "channel_binding": "prefer",
    "gssencmode": "disable",
    "krbsrvname": "postgres",
    "requirepeer": "",
    "ssl_max_protocol_version": "",
    "ssl_min_protocol_version": "TLSv1.2",
    "sslcrldir": "",
    "sslsni": "1",
    "target_session_attrs": "any",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": str(UNREACHABLE_S * 1000),
    **dict.fromkeys(("passfile", "sslrootcert", "sslcert", "sslkey", "sslcrl"), _ABSENT),
}
"""What libpq would otherwise take from variables of the environment, a service file, or the home folder."""
_FILES = {"tls_ca": "sslrootcert", "tls_cert": "sslcert", "tls_key": "sslkey"}


def connection_uri(connection: PostgresConnection, files: Mapping[str, str]) -> str:
    """It stays in memory. `files`: of `certificate_files`."""
    settings: dict[str, str] = {
        **_SAID,
        "host": connection.host,
        "port": str(connection.server_port),
        "dbname": connection.database,
        "user": connection.user,
        "sslmode": "disable" if connection.tls == "off" else connection.tls,
        "connect_timeout": str(max(2, round(connection.connect_timeout_s))),  # libpq takes 1 for 2
        **{_FILES[name]: path for name, path in files.items()},
    }
    if connection.password is not None:
        settings["password"] = connection.password.get_secret_value()
    return "postgresql://?" + "&".join(f"{name}={quote(value, safe='')}" for name, value in settings.items())
