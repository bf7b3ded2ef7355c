"""What PostgreSQL says, as failures: by SQLSTATE, and by the client's own words where there is none."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from osiris_core.drivers.sql_errors import DatabaseFailed, Meaning, cannot_connect, hidden
from osiris_core.errors import FailureClass

if TYPE_CHECKING:
    from osiris_core.drivers.sql_connection import PostgresConnection

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


_NAMES = {"PG_DIAG_COLUMN_NAME": "column", "PG_DIAG_TABLE_NAME": "table", "PG_DIAG_CONSTRAINT_NAME": "constraint"}


def meaning_of(code: str) -> Meaning:
    return MEANINGS.get(code) or MEANINGS.get(code[:2]) or Meaning(_USER)


def lost(message: str) -> DatabaseFailed:
    return DatabaseFailed(f"the connection was lost: {message}", FailureClass.INFRA_LOST, code="08006")


def not_connected(connection: PostgresConnection, text: str) -> DatabaseFailed:
    message = re.sub(r"^\w+: \[libpq\] Failed to connect: ", "", text)
    for pattern, code in _CONNECT_MEANINGS:
        if pattern.search(message):
            return cannot_connect(connection, message, meaning_of(code), code)
    if "definition of service" in message:
        remedy = "the variable PGSERVICE names a service that is not there: unset it; no service is looked at here"
        return cannot_connect(connection, message, Meaning(_USER, remedy))
    if _TLS.search(message):
        return cannot_connect(connection, message, Meaning(_USER, "see tls, tls_ca and host of the connection"))
    if _HOST_NAME.search(message):
        return cannot_connect(connection, message, Meaning(_LOST, "check the connection's host"))
    remedy = "check the connection's host and port, and that the server runs and may be reached from here"
    return cannot_connect(connection, message, Meaning(_LOST, remedy), "08001")


def without_statement(text: str) -> str:
    """A message without the statement that was sent, and without the library's own words before it."""
    text = re.sub(r"\n+Query was: .*", "", text, flags=re.DOTALL)
    return re.sub(r"^(\w+: )?(\[libpq\] )?([^:]*\[PGRES_\w+\]: )?(ERROR:\s+)?", "", text).strip()


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def failed(exc: Any, connection: PostgresConnection) -> DatabaseFailed:
    """A statement's failure, from what the client library raised."""
    facts = {_text(name): _text(value) for name, value in exc.details or ()}
    code = str(exc.sqlstate or "")
    message = facts.get("PG_DIAG_MESSAGE_PRIMARY") or without_statement(str(exc))
    for name in ("PG_DIAG_MESSAGE_DETAIL", "PG_DIAG_CONTEXT", "PG_DIAG_MESSAGE_HINT"):
        if facts.get(name) and facts[name] not in message:
            message += f" ({facts[name]})"
    message = hidden(message, connection)
    if not code and says_lost(message):
        return lost(message)
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


def says_lost(message: str) -> bool:
    return _GONE.search(message) is not None
