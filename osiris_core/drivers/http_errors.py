"""What can go wrong with a request, in words, with its failure class and whether asking again can help."""

from __future__ import annotations

import email.utils
import json
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from osiris_core.errors import FailureClass, StepError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from osiris_core.redaction import Redactor

MAX_SNIPPET_CHARS = 500
_MAX_LOOKED_AT_BYTES = 64 << 10

_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses that may be gone when asked again."""
_NOT_DONE = frozenset({425, 429})
"""Those of them that say that the request was not even begun."""
_REMEDIES = {
    400: "check the request: params, body, headers",
    401: "check the credentials of the connection (auth_type, auth_token); a token may have expired",
    403: "these credentials may not do that; ask for the right, or use others",
    404: "check base_url and url",
    405: "check method",
    406: "check the Accept header",
    409: "a row with this key is there already; write_mode upsert changes such rows",
    407: "check the user and password in proxy",
    413: "send less at once",
    414: "send less at once",
    415: "check the Content-Type header",
    422: "check params and body",
}


class HttpFailure(StepError):
    """
    A request that came to nothing.

    Attributes:
        again: Whether asking again can help and does no harm.
        maybe_done: Whether the server may have done what was asked, though it did not say so.
        retry_after_s: How long the server asks to wait; None where it does not say.
    """

    def __init__(
        self,
        message: str,
        *,
        failure_class: FailureClass,
        again: bool = False,
        maybe_done: bool = False,
        retry_after_s: float | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message, failure_class=failure_class, details=details)
        self.again = again
        self.maybe_done = maybe_done
        self.retry_after_s = retry_after_s


class Aborted(Exception):
    """The request was given up because the step is to stop."""


def status_failure(
    status: int, headers: Mapping[str, str], body: bytes, where: str, redactor: Redactor, *, idempotent: bool
) -> HttpFailure:
    """The failure that an answer of this status is. `where` is the method and the masked address."""
    text = snippet(body, redactor)
    remedy = _REMEDIES.get(status)
    lost = status in _BUSY or status >= 500
    message = f"{where}: the server answered {status}{phrase(status)}"
    message += f" ({remedy})" if remedy and not lost else ""
    wait_s = retry_after_s(headers.get("retry-after")) if lost else None
    message += f" and asks to wait {wait_s:.0f} s" if wait_s else ""
    message += f"; it says: {text}" if text else ""
    return HttpFailure(
        message,
        failure_class=FailureClass.INFRA_LOST if lost else FailureClass.USER_ERROR,
        again=status in _BUSY and (idempotent or status in _NOT_DONE),
        maybe_done=lost and status not in _NOT_DONE,
        retry_after_s=wait_s,
        details={"status": status, "request": where},
    )


def phrase(status: int) -> str:
    """What a status means, with a blank before it; nothing for one that nobody knows."""
    try:
        return f" {HTTPStatus(status).phrase}"
    except ValueError:
        return ""


def snippet(body: bytes, redactor: Redactor) -> str:
    """The beginning of a body for people: masked before it is cut, JSON by its fields too."""
    text = body[:_MAX_LOOKED_AT_BYTES].decode("utf-8", "replace")
    try:
        masked = json.dumps(redactor.value(json.loads(text)), ensure_ascii=False)
    except (ValueError, RecursionError):
        masked = redactor.text(text)
    line = " ".join("".join(char if char.isprintable() else " " for char in masked).split())
    return line if len(line) <= MAX_SNIPPET_CHARS else f"{line[:MAX_SNIPPET_CHARS]}…"


def retry_after_s(value: str | None) -> float | None:
    """The seconds that a `Retry-After` header asks to wait, given as a number or as a date; None for neither."""
    if value is None:
        return None
    if value.strip().isascii() and value.strip().isdigit():
        return float(value)
    try:
        when = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, when.timestamp() - time.time())
