"""A failure as it is written down: masked, bounded, and without the engine's own frames."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osiris_core.errors import ExecutionError, FailureClass, RunCancelled, RunTimeout, classify

if TYPE_CHECKING:
    from collections.abc import Mapping

    from osiris_core.redaction import Redactor

MAX_MESSAGE_CHARS = 8_000
MAX_TRACEBACK_CHARS = 32_000
_MAX_SEARCHED_CHARS = 1_000_000
"""Longer texts are cut before they are searched for secrets: far from what is kept, so that no half of one stays."""
# As frames name it: in the zip that travels with a run that is not `__file__`.
_HERE = Path((lambda: None).__code__.co_filename).parent
_OWN = ("engine", "engine_run", "attempt", "retry", "tables", "cancellation", "adapter", "interrupts")
_OWN_FRAMES = {str(_HERE / f"{name}.py") for name in _OWN}
_OWN_ROOMS = (str(_HERE.parent / "adapters") + "/", str(_HERE.parent / "remote") + "/")


def describe_failure(
    error: BaseException, redactor: Redactor, failure_class: FailureClass | None = None
) -> dict[str, Any]:
    """The failure as JSON: `type`, `message`, `failure_class`, `traceback`, `details`. Holds no secret."""
    return {
        "type": type(error).__name__,
        "message": _masked(_message(error), redactor, MAX_MESSAGE_CHARS),
        "failure_class": str(failure_class or classify(error)),
        "traceback": _masked(_traceback(error), redactor, MAX_TRACEBACK_CHARS),
        "details": redactor.value(error.details) if isinstance(error, ExecutionError) else {},
    }


def error_of(error: Mapping[str, Any], status: str = "failed", step_id: str | None = None) -> ExecutionError:
    """The exception for a run that did not complete; made of masked text, chained to nothing."""
    failure_class = FailureClass(error.get("failure_class", FailureClass.ADAPTER_BUG))
    kind = {"cancelled": RunCancelled, "timeout": RunTimeout}.get(status, ExecutionError)
    message = error.get("message", "the run failed")
    if step_id and kind is ExecutionError:
        message = f"step '{step_id}' failed: {message}"
    return kind(message, step_id=step_id, failure_class=failure_class, details=dict(error))


def _message(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception as exc:  # noqa: BLE001 - an exception of the user's whose __str__ fails is still to be reported
        text = f"<{type(error).__name__} whose text cannot be had: {type(exc).__name__}>"
    return text or type(error).__name__


def _traceback(error: BaseException) -> str:
    try:
        summary = traceback.TracebackException.from_exception(error, compact=True)
        # The last frame stays in any case: of an error of our own it says where.
        while len(summary.stack) > 1 and _is_own(summary.stack[0].filename):
            del summary.stack[0]
        return "".join(summary.format())
    except Exception as exc:  # noqa: BLE001 - as above
        return f"<no traceback: {type(exc).__name__}>"


def _is_own(filename: str) -> bool:
    """Whether a frame belongs to the engine, or to the library that tries steps again for it."""
    return (
        filename in _OWN_FRAMES
        or filename.startswith(_OWN_ROOMS)
        or "/tenacity/" in filename
        or filename.endswith("/concurrent/futures/_base.py")
    )


def _masked(text: str, redactor: Redactor, limit: int) -> str:
    return _shortened(redactor.text(_shortened(text, _MAX_SEARCHED_CHARS)), limit)


def _shortened(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n… {len(text) - limit} characters left out …\n{text[-half:]}"
