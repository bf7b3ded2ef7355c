"""How a command ends: exit codes, and errors as a message or as the one JSON document."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from osiris_core.cli import stdout

if TYPE_CHECKING:
    from osiris_core.errors import OsirisError

COMPLETED, FAILED, BAD_INPUT, TIMEOUT, CANCELLED = 0, 1, 2, 124, 130

EXIT_CODES = {"completed": COMPLETED, "failed": FAILED, "timeout": TIMEOUT, "cancelled": CANCELLED}
"""The exit code of a run by its status."""

given_secrets: list[str] = []
"""Values given on this command line, so that not even a crash shows them."""


def report_invalid(error: OsirisError, *, as_json: bool) -> int:
    """Say what is wrong with the input, every problem a line with its file and line first; return the exit code."""
    problems = getattr(error, "problems", None)
    if as_json:
        found = [problem.to_json() for problem in problems] if problems else [{"message": str(error)}]
        stdout.write_json({"status": "invalid", "problems": found})
    if not problems:
        stdout.say(f"osiris: {error}")
        return BAD_INPUT
    for problem in problems:
        stdout.say(str(problem))
    stdout.say(f"osiris: {len(problems)} problem{'s' if len(problems) != 1 else ''}; nothing was started")
    return BAD_INPUT


def report_lost(error: OSError, *, as_json: bool) -> int:
    """Say that a run could not write down what happened (a full disk, a session directory gone); return the code."""
    message = f"the run could not be written down: {error}"
    stdout.say(f"osiris: {message}")
    if as_json:
        described = {"type": type(error).__name__, "message": message, "failure_class": "resource_denied"}
        stdout.write_json({"status": "failed", "error": described})
    return FAILED


def report_crash(error: BaseException, *, as_json: bool) -> int:
    """Say that this is our bug, with the traceback, masked; return the exit code."""
    from osiris_core.failure import describe_failure
    from osiris_core.redaction import Redactor, is_secret_field

    known = [value for name, value in os.environ.items() if is_secret_field(name)]
    described: dict[str, Any] = describe_failure(error, Redactor([*given_secrets, *known]))
    stdout.say(described["traceback"].rstrip())
    stdout.say(
        f"osiris: unexpected {described['type']}: this is a bug in Osiris core or in a plugin; please report it with "
        "the lines above"
    )
    if as_json:
        stdout.write_json({"status": "failed", "error": {**described, "failure_class": "adapter_bug"}})
    return FAILED
