"""The errors that an answer in GraphQL tells, each with the place in the query that it is about. Does no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from osiris_core.drivers.http_errors import HttpFailure
from osiris_core.errors import FailureClass

if TYPE_CHECKING:
    from osiris_core.redaction import Redactor

MAX_SHOWN = 5
_MAY_BE_GONE = frozenset({"THROTTLED", "RATE_LIMITED", "TOO_MANY_REQUESTS", "SERVICE_UNAVAILABLE", "TIMEOUT"})
_REMEDIES = {
    "UNAUTHENTICATED": "check the credentials of the connection (auth_type, auth_token)",
    "FORBIDDEN": "these credentials may not do that; ask for the right, or use others",
    "ACCESS_DENIED": "these credentials may not do that; ask for the right, or use others",
}


def check_errors(value: Any, where: str, redactor: Redactor) -> None:
    """
    Look at a parsed answer.

    Raises:
        HttpFailure: It has `errors`, or is no answer of GraphQL at all.
    """
    if not isinstance(value, dict) or not ("data" in value or "errors" in value):
        message = f"{where}: the answer is none of GraphQL: it has neither data nor errors; is this the right endpoint?"
        raise HttpFailure(message, failure_class=FailureClass.PROTOCOL, details={"request": where})
    errors = value.get("errors")
    if not errors:
        return
    found = [error if isinstance(error, dict) else {"message": error} for error in _listed(errors)]
    codes = {str(code) for error in found if (code := _code(error))}
    again = bool(codes) and codes <= _MAY_BE_GONE
    lines = [redactor.text(_line(error)) for error in found[:MAX_SHOWN]]
    more = f"; and {len(found) - MAX_SHOWN} more" if len(found) > MAX_SHOWN else ""
    remedy = next((_REMEDIES[code] for code in sorted(codes) if code in _REMEDIES), None)
    raise HttpFailure(
        f"{where}: the query failed: {'; '.join(lines)}{more}" + (f" ({remedy})" if remedy else ""),
        failure_class=FailureClass.INFRA_LOST if again else FailureClass.USER_ERROR,
        again=again,
        details={"request": where, "errors": redactor.texts(found[:MAX_SHOWN])},
    )


def _listed(errors: Any) -> list[Any]:
    return errors if isinstance(errors, list) else [errors]


def _code(error: dict[str, Any]) -> Any:
    extensions = error.get("extensions")
    return extensions.get("code") if isinstance(extensions, dict) else None


def _line(error: dict[str, Any]) -> str:
    """`no such field (at products.0.price, line 3:7, NOT_FOUND)`."""
    places = []
    if isinstance(path := error.get("path"), list):
        places.append(f"at {'.'.join(map(str, path))}")
    locations = error.get("locations")
    if isinstance(locations, list) and locations and isinstance(locations[0], dict):
        places.append(f"line {locations[0].get('line')}:{locations[0].get('column')}")
    if code := _code(error):
        places.append(str(code))
    message = str(error.get("message") or "an error without a message")[:500]
    return f"{message} ({', '.join(places)})" if places else message
