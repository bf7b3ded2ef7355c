"""Whether an HTTP interface answers, and takes the credentials of a connection: for `osiris doctor --connections`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from osiris_core.drivers.http_address import host_of
from osiris_core.drivers.http_client import HttpClient, HttpLimits, Request
from osiris_core.drivers.http_errors import HttpFailure, phrase
from osiris_core.drivers.http_retry import Again
from osiris_core.redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import Callable

    from osiris_core.drivers.http_connection import ApiConnection

_REFUSALS = frozenset({401, 403, 407})


def check_api(
    connection: ApiConnection,
    timeout_s: float,
    request: Request | None = None,
    check: Callable[[bytes, str, Redactor], None] | None = None,
) -> str:
    """
    Ask the connection's own address once, or what `request` asks, and say what came.

    Any answer will do, an interface may have nothing at its root; but one that refuses the credentials, or tells of
    trouble of the server's own, is a failure. With `check` it has to be a good answer, at whose body that looks; it
    raises `HttpFailure`.

    Raises:
        HttpFailure: As in a run.
    """
    secrets = [connection.auth_token.get_secret_value()] if connection.auth_token is not None else []
    limits = HttpLimits(
        connect_timeout_s=timeout_s,
        read_timeout_s=timeout_s,
        request_timeout_s=timeout_s,
        max_response_bytes=8 << 20,
        again=Again(retries=0),
    )
    redactor = Redactor([*secrets, *connection.headers.values()])
    with HttpClient(connection, limits, redactor) as client:
        try:
            answer = client.fetch(request or Request(connection.address))
            status = answer.status
            if check is not None:
                check(answer.body, host_of(connection.address), redactor)
        except HttpFailure as exc:
            found = exc.details.get("status")
            if check is not None or not isinstance(found, int) or found in _REFUSALS or found >= 500 or found < 400:
                raise
            status = found
    how = f", {connection.auth_type} credentials sent" if connection.auth_type not in ("none", None) else ""
    if connection.auth_type is None and connection.auth_token is not None:
        how = ", auth_token not sent: auth_type does not say how"
    return f"{host_of(connection.address)} answers {status}{phrase(status)}{how}"
