"""How a connection to MariaDB or MySQL is made: the client library, TLS, and how the user shows who it is."""

from __future__ import annotations

import ssl
from importlib import import_module
from typing import TYPE_CHECKING, Any

from osiris_core.drivers.mysql_errors import not_connected
from osiris_core.drivers.sql_certificates import certificate_files
from osiris_core.errors import DriverNotInstalled

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

    from osiris_core.drivers.sql_connection import MysqlConnection

PACKAGES = ("cryptography>=42", "numpy>=1.26", "pymysql>=1.2,<2", "pynacl>=1.5")
_ASKS_IN_CLEAR = 2061
_CLEAR_PLUGINS = ("mysql_clear_password", "dialog")
"""What a server says that wants the password as it is."""


def load_library() -> ModuleType:
    """
    The client library.

    Raises:
        DriverNotInstalled: It, or numpy, is not there; the message says what to install.
    """
    try:
        import_module("numpy")
        import_module("pymysql.protocol")
        return import_module("pymysql")
    except ModuleNotFoundError as exc:
        message = f"MariaDB and MySQL need {exc.name}, which is not installed here: pip install 'osiris-core[mysql]'"
        raise DriverNotInstalled(message) from None


def log_in(connection: MysqlConnection, *, loads: bool = False) -> Any:
    """
    A connection of the client library, whose reads may wait for `connect_timeout_s`. `loads`: rows may be sent by it.

    Raises:
        DatabaseFailed: The server is not there, or refuses; or it asks for what it does not get.
    """
    library = load_library()
    password = connection.password.get_secret_value().encode() if connection.password is not None else b""
    place: dict[str, Any] = {"host": connection.host, "port": connection.server_port}
    if connection.socket_dir is not None:
        place = {"unix_socket": connection.socket_dir}
    with certificate_files(connection) as files:
        try:
            raw = library.connect(
                **place,
                user=connection.user,
                password=password,
                database=connection.database,
                charset="utf8mb4",
                autocommit=False,
                connect_timeout=connection.connect_timeout_s,
                read_timeout=connection.connect_timeout_s,
                local_infile=loads,
                program_name="osiris",
                max_allowed_packet=1 << 30,
                auth_plugin_map=_plugins(connection),
                **_tls(connection, files),
            )
        except (library.err.MySQLError, OSError) as exc:
            raise not_connected(exc, connection) from None
        except RuntimeError as exc:  # a way to log in needs a library that is not there
            raise DriverNotInstalled(f"{exc}: pip install 'osiris-core[mysql]'") from None
    # From here on a server that asks for a file gets an error; a load has its own way.
    raw._local_infile = False
    return raw


def read_without_limit(raw: Any) -> None:
    """Once it is logged in a statement may take its time."""
    raw._read_timeout = raw._current_timeout = None
    raw._sock.settimeout(None)


def _tls(connection: MysqlConnection, files: Mapping[str, str]) -> dict[str, Any]:
    if connection.tls == "off":
        return {"ssl_disabled": True}
    if connection.tls == "prefer" and "tls_cert" not in files:
        return {}
    context = ssl.create_default_context(cafile=files.get("tls_ca"))
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # what servers make for themselves does not pass it
    context.check_hostname = connection.tls == "verify-full"
    context.verify_mode = ssl.CERT_REQUIRED if connection.tls.startswith("verify") else ssl.CERT_NONE
    if "tls_cert" in files:
        context.load_cert_chain(files["tls_cert"], files["tls_key"])
    return {"ssl": context}


def _plugins(connection: MysqlConnection) -> dict[str, Any]:
    """Who wants the password as it is gets it when it is known who that is: by its certificate, or by its socket."""
    if connection.tls.startswith("verify") or connection.socket_dir is not None:
        return {}
    return dict.fromkeys(_CLEAR_PLUGINS, _Refusal)


class _Refusal:
    """An answer of the client library to a server that asks for the password."""

    def __init__(self, _: Any) -> None: ...

    def authenticate(self, _: Any) -> Any:
        raise load_library().err.OperationalError(_ASKS_IN_CLEAR, "the server asks for the password as it is")
