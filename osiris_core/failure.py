"""A failure as it is written down: masked, bounded, and without the engine's own frames."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osiris_core.errors import ExecutionError, FailureClass, classify

if TYPE_CHECKING:
    from osiris_core.redaction import Redactor

MAX_MESSAGE_CHARS = 8_000
MAX_TRACEBACK_CHARS = 32_000
_OWN_FRAMES = {
    str(Path(__file__).with_name(name))
    for name in ("engine.py", "attempt.py", "retry.py", "tables.py", "cancellation.py")
}


def describe_failure(
    error: BaseException, redactor: Redactor, failure_class: FailureClass | None = None
) -> dict[str, Any]:
    """The failure as JSON: `type`, `message`, `failure_class`, `traceback`, `details`. Holds no secret."""
    message = redactor.text(_message(error))
    return {
        "type": type(error).__name__,
        "message": _shortened(message, MAX_MESSAGE_CHARS),
        "failure_class": str(failure_class or classify(error)),
        "traceback": _shortened(redactor.text(_traceback(error)), MAX_TRACEBACK_CHARS),
        "details": redactor.value(error.details) if isinstance(error, ExecutionError) else {},
    }


def _message(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception as exc:  # noqa: BLE001 - an exception of the user's whose __str__ fails is still to be reported
        text = f"<{type(error).__name__} whose text cannot be had: {type(exc).__name__}>"
    return text or type(error).__name__


def _traceback(error: BaseException) -> str:
    try:
        summary = traceback.TracebackException.from_exception(error, compact=True)
        while summary.stack and summary.stack[0].filename in _OWN_FRAMES:
            del summary.stack[0]
        return "".join(summary.format())
    except Exception as exc:  # noqa: BLE001 - as above
        return f"<no traceback: {type(exc).__name__}>"


def _shortened(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n… {len(text) - limit} characters left out …\n{text[-half:]}"
