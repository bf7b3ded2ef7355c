"""Configures structlog for this process: text or JSON lines on standard error, with ISO timestamps."""

from __future__ import annotations

import logging
import sys
from typing import Any, Literal

from osiris_core.cli import formatting


def configure_logs(log_format: Literal["text", "json"], *, debug: bool) -> None:
    """From now on every structlog line goes to standard error in that format; `debug` lets those lines through too."""
    import structlog

    renderer: Any
    shown: list[Any] = []
    if log_format == "json":
        renderer = structlog.processors.JSONRenderer(serializer=formatting.json_text)
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=16)
        shown = [_visible]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            *shown,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if debug else logging.INFO),
        # Not a print: a reader of standard error that left must not fail the thread that logs.
        logger_factory=_StderrLoggerFactory(),
        cache_logger_on_first_use=False,
    )


def _visible(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    """Before the renderer, whose own control characters are colours."""
    return {key: formatting.visible(value) if isinstance(value, str) else value for key, value in event.items()}


class _StderrLogger:
    """Writes finished lines; one that cannot be written is dropped."""

    def msg(self, line: str) -> None:
        from osiris_core.cli import stdout

        stdout.say_exactly(line)

    debug = info = warning = warn = error = critical = fatal = exception = log = failure = msg


class _StderrLoggerFactory:
    def __call__(self, *_: Any) -> _StderrLogger:
        return _StderrLogger()
