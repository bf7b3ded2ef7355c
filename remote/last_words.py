"""What a supervisor says when its engine is dead: why, from the evidence, and then the end of journal and summary."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osiris_core.aftermath import Aftermath, stopped_by
from osiris_core.errors import ExecutionError, FailureClass
from osiris_core.journal import Journal, read_events
from osiris_core.memory_evidence import oom_kills
from osiris_core.prepared import PreparedRun
from osiris_core.session import SessionLayout, write_json
from remote import folders
from remote.output_spool import OutputSpool

if TYPE_CHECKING:
    from osiris_core.redaction import Redactor
    from remote.engine_process import EngineProcess
    from remote.methods import StartParams


def conclude(
    work_dir: str,
    prepared_json: dict[str, Any],
    params: StartParams,
    redactor: Redactor,
    engine: EngineProcess,
    killed_for: tuple[str, str] | None,
    oom_kills_before: int | None,
) -> dict[str, Any]:
    """
    Write the events that the engine owes and the summary; return the latter.

    `killed_for` is the failure class and the reason if it was the supervisor who ended the engine.
    """
    prepared = PreparedRun.from_json(prepared_json)
    layout = SessionLayout(Path(work_dir, folders.SESSION_FOLDER))
    layout.root.mkdir(exist_ok=True)
    with Journal(layout.events_file, params.session_id, params.attempt) as journal:
        told = Aftermath(prepared.steps, read_events(layout.events_file), params.attempt)
        origin = journal.origin("engine", redactor, told.last_seq)
        if not told.ended:
            OutputSpool(engine.printed, origin, redactor).drain()
        assert engine.status is not None
        failure = _failure(engine.status, told.running, killed_for, oom_kills_before, engine.printed.tail())
        stop = stopped_by(failure.failure_class, killed_for[1]) if killed_for else None
        summary = told.conclude(failure, redactor, origin, stop).to_json()
        journal.sync()
    write_json(Path(work_dir, folders.SUMMARY_FILE), summary)
    return summary


def _failure(
    status: int,
    running: list[str],
    killed_for: tuple[str, str] | None,
    oom_kills_before: int | None,
    last_output: str,
) -> ExecutionError:
    """Why an engine process ended, as far as its wait status and the kernel's counters tell."""
    during = f" while {_named(running)} ran" if running else ""
    details: dict[str, Any] = {"last_output": last_output} if last_output else {}
    if killed_for is not None:
        failure_class, reason = FailureClass(killed_for[0]), killed_for[1]
        message = f"{reason}, did not stop when it was asked to, and was killed"
        return ExecutionError(message, failure_class=failure_class, details=details)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        name = signal.Signals(number).name if number in set(signal.Signals) else str(number)
        details["signal"] = name
        message = f"the engine process was killed by {name}{during}"
        now = oom_kills()
        if number == signal.SIGKILL and oom_kills_before is not None and now is not None and now > oom_kills_before:
            message = f"the engine process ran out of memory{during}: the kernel killed it"
            return ExecutionError(message, failure_class=FailureClass.OUT_OF_MEMORY, details=details)
        # A crash is in the code that ran; who sends KILL or TERM is somebody outside.
        outside = number in (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
        failure_class = FailureClass.INFRA_LOST if outside else FailureClass.USER_ERROR
        return ExecutionError(_with_output(message, last_output), failure_class=failure_class, details=details)
    exit_code = os.WEXITSTATUS(status)
    details["exit_code"] = exit_code
    failure_class = FailureClass.USER_ERROR if running else FailureClass.ADAPTER_BUG
    message = f"the engine process left with exit code {exit_code}{during}, before the run was over"
    return ExecutionError(_with_output(message, last_output), failure_class=failure_class, details=details)


def _named(steps: list[str]) -> str:
    return f"step '{steps[0]}'" if len(steps) == 1 else "steps " + ", ".join(f"'{step}'" for step in steps)


def _with_output(message: str, last_output: str) -> str:
    # Behind what was said there may be the report of a crash, which ends with a list of modules.
    said = last_output.partition("Fatal Python error:")[0]
    last_line = said.strip().rsplit("\n", 1)[-1].strip()
    return f"{message}: {last_line}" if last_line else message
