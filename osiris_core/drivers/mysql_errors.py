"""What MariaDB and MySQL say, as failures: by the server's numbers."""

from __future__ import annotations

import re
import ssl
from typing import TYPE_CHECKING

from osiris_core.drivers.sql_errors import DatabaseFailed, Meaning, cannot_connect, hidden
from osiris_core.errors import FailureClass

if TYPE_CHECKING:
    from osiris_core.drivers.sql_connection import MysqlConnection

_USER, _LOST, _DENIED = FailureClass.USER_ERROR, FailureClass.INFRA_LOST, FailureClass.RESOURCE_DENIED
_PASSWORD = Meaning(_USER, "check user and password of the connection, and from where the server lets this user in")
_RIGHT = Meaning(_USER, "the connection's user lacks a right: an administrator can GRANT it")
_CROWDED = Meaning(_DENIED, "the server is short of something: connections, memory or disk")
_GONE = Meaning(_LOST)
_TIMEOUT = Meaning(FailureClass.TIMEOUT, "the server stopped the statement: see statement_timeout_s")

MEANINGS: dict[int, Meaning] = {
    **dict.fromkeys((1045, 1698, 1130, 1131, 1275, 2059, 2061), _PASSWORD),
    **dict.fromkeys((1044, 1142, 1143, 1227, 1370), _RIGHT),
    1049: Meaning(_USER, "check the connection's database"),
    **dict.fromkeys((1021, 1037, 1038, 1040, 1041, 1114, 1135, 1203, 1226), _CROWDED),
    1205: Meaning(_DENIED, "another transaction holds a lock"),
    1213: Meaning(_LOST, "another transaction was in the way; a retry policy tries again"),
    1290: Meaning(_USER, "the server only reads"),
    1317: Meaning(_USER, "somebody ended the statement at the server"),
    1792: Meaning(_USER, "an extractor only reads; to change rows use mysql.writer"),
    **dict.fromkeys((1969, 3024), _TIMEOUT),
    **dict.fromkeys((1053, 1077, 1080, 1152, 1158, 1159, 1160, 1161, 1184, 1927, 2006, 2013, 2055), _GONE),
    2002: _GONE,
    2003: Meaning(_LOST, "check the connection's host and port, and that the server runs and may be reached from here"),
    2005: Meaning(_LOST, "check the connection's host"),
    2026: Meaning(_USER, "see tls, tls_ca and host of the connection"),
}
"""By error number; the rest is the user's."""
_NEAR = re.compile(r"near '(?P<near>.*)' at line (?P<line>\d+)", re.DOTALL)
_NAMED = re.compile(r"(?:Unknown column|Table|Unknown table) '(?P<name>[^']*)'")


def meaning_of(code: int) -> Meaning:
    return MEANINGS.get(code, Meaning(_USER))


def failed(exc: BaseException, connection: MysqlConnection, statement: str | None) -> DatabaseFailed:
    """A statement's failure."""
    code, message = _parts(exc)
    said = hidden(message, connection)
    if code == 0 and not said:
        return lost("the connection is closed")
    meaning = meaning_of(code)
    if meaning is _GONE:
        return lost(said)
    position = position_in(statement, message) if statement is not None else None
    return DatabaseFailed(said, meaning.failure_class, code=str(code), remedy=meaning.remedy, position=position)


def lost(message: str) -> DatabaseFailed:
    return DatabaseFailed(f"the connection was lost: {message}", FailureClass.INFRA_LOST, code="2013")


def not_connected(exc: BaseException, connection: MysqlConnection) -> DatabaseFailed:
    code, message = _parts(exc)
    cause = getattr(exc, "original_exception", exc)
    if isinstance(cause, ssl.SSLError) or "SSL" in message:
        return cannot_connect(connection, message, MEANINGS[2026], "2026")
    if isinstance(cause, OSError) and "Name or service not known" in message:
        return cannot_connect(connection, message, MEANINGS[2005], "2005")
    if code in (2006, 2013):  # while it was made
        return cannot_connect(connection, message, MEANINGS[2003], str(code))
    return cannot_connect(connection, message, meaning_of(code or 2003), str(code or 2003))


def _parts(exc: BaseException) -> tuple[int, str]:
    if len(exc.args) >= 2 and isinstance(exc.args[0], int):
        return exc.args[0], str(exc.args[1])
    return 0, str(exc)


def position_in(statement: str, message: str) -> int | None:
    """Where in a statement an error is, from 1: by what the server quotes of it; None when it stands there twice."""
    if found := _NEAR.search(message):
        near, line = found["near"], int(found["line"])
        start = sum(len(text) + 1 for text in statement.split("\n")[: line - 1])
        at = statement.find(near, start) if near else len(statement.rstrip())
        return (at if at >= 0 else start) + 1
    if found := _NAMED.search(message):
        name = found["name"].rpartition(".")[2]
        places = [match.start() for match in re.finditer(rf"(?<!\w){re.escape(name)}(?!\w)", statement)]
        return places[0] + 1 if len(places) == 1 else None
    return None
