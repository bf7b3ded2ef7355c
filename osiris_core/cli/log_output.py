"""Configures structlog for this process: text or JSON lines on standard error, with ISO timestamps."""

from __future__ import annotations

import logging
import sys
from typing import Any, Literal


def configure_logs(log_format: Literal["text", "json"], *, debug: bool) -> None:
    """From now on every structlog line goes to standard error in that format; `debug` lets those lines through too."""
    import structlog

    renderer: Any
    if log_format == "json":
        renderer = structlog.processors.JSONRenderer(ensure_ascii=False)
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=16)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if debug else logging.INFO),
        # Not a print: a reader of standard error that left must not fail the thread that logs.
        logger_factory=_StderrLoggerFactory(),
        cache_logger_on_first_use=False,
    )


class _StderrLogger:
    """Writes finished lines; one that cannot be written is dropped."""

    def msg(self, line: str) -> None:
        from osiris_core.cli import stdout

        stdout.say(line)

    debug = info = warning = warn = error = critical = fatal = exception = log = failure = msg


class _StderrLoggerFactory:
    def __call__(self, *_: Any) -> _StderrLogger:
        return _StderrLogger()
