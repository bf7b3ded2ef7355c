"""Why a command did not succeed, in one sentence that says what to do, and with its failure class."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from typing import TYPE_CHECKING, Any

from osiris_core.errors import FailureClass, StepError, classify

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from osiris_core.drivers.command_process import Finished
    from osiris_core.step_context import StepContext

MAX_LAST_LINE_CHARS = 300
KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)
"""Of itself, and of what its shell waited for."""


def cannot_start(
    error: OSError, argv: Sequence[str], cwd: Path, environment: Mapping[str, str], ctx: StepContext
) -> StepError:
    """The error of a command that did not come to life."""
    program = ctx.redactor.text(argv[0])
    path = environment.get("PATH", "")
    if not cwd.is_dir():
        message = f"the command cannot start: its working directory {cwd} is not there"
    elif error.errno == errno.ENOENT:
        message = _not_found(program, argv[0], cwd, path)
    elif error.errno == errno.EACCES:
        message = f"{program!r} is not executable; set its x bit, or give its interpreter as first word"
    elif error.errno == errno.ENOEXEC:
        message = f"{program!r} is no program of this machine; a script needs an interpreter in its first line (#!)"
    elif error.errno == errno.E2BIG:
        message = f"{program!r} cannot start: its arguments and environment are too long; pass them in a file"
    else:
        message = f"{program!r} cannot start: {error.strerror or error}"
    return StepError(message, step_id=ctx.step_id, failure_class=classify(error), details={"errno": error.errno})


def _not_found(program: str, argv0: str, cwd: Path, path: str) -> str:
    there = os.path.lexists(cwd / argv0) if "/" in argv0 else shutil.which(argv0, path=path or os.defpath)
    if there:
        return f"{program!r} is there, but the interpreter in its first line (#!) is not"
    if "/" in argv0:
        return f"{program!r} is not there (looked for in {cwd}); list it under files to bring it along"
    return f"{program!r} was not found in PATH ({path or os.defpath})"


def ended_badly(finished: Finished, oom_kills: int | None, ctx: StepContext) -> StepError:
    """The error of a command that ended otherwise than it should; `oom_kills`: how many the kernel killed meanwhile."""
    code = finished.exit_code
    tail_of = "stderr" if finished.stderr_tail or not finished.stdout_tail else "stdout"
    tail = ctx.redactor.text(finished.stderr_tail if tail_of == "stderr" else finished.stdout_tail)
    details: dict[str, Any] = {"exit_code": code} if code >= 0 else {"signal": _signal_name(-code)}
    failure_class = FailureClass.USER_ERROR
    if code in KILLED and oom_kills:
        failure_class = FailureClass.OUT_OF_MEMORY
        message = "the command was killed by the kernel: the memory limit was reached"
        details["oom_kills"] = oom_kills
    elif code < 0:
        message = f"the command was killed by {_signal_name(-code)}"
    else:
        message = f"the command exited with code {code}{_meaning(code)}"
    last_line = next((line.strip() for line in reversed(tail.splitlines()) if line.strip()), "")
    if last_line:
        message += f": {last_line[:MAX_LAST_LINE_CHARS]}"
    return StepError(
        message, step_id=ctx.step_id, failure_class=failure_class, details={**details, f"{tail_of}_tail": tail}
    )


def _meaning(code: int) -> str:
    """What shells mean by a code above 128."""
    name = _signal_name(code - 128) if code > 128 else ""
    return f" ({name} below it)" if name.startswith("SIG") else ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
