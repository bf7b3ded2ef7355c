"""What is the same around every run that this process sees to: its picture, its signals, its end."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osiris_core.cli import exits, stdout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from osiris_core.adapter import ExecutionAdapter
    from osiris_core.cli.progress import View
    from osiris_core.report import RunReport


def supervise(
    adapter: ExecutionAdapter,
    session_dir: str,
    work: Callable[[], RunReport],
    *,
    watched: bool,
    as_json: bool,
    before: Iterable[dict[str, Any]] = (),
) -> RunReport:
    """
    Call `work`, which makes `adapter` see to a run, and return its report.

    Signals cancel the run; with `watched` it is shown on standard error, beginning with the events `before`.
    """
    from osiris_core.cli.signals import StopSignals, kill_descendants, leave_at_once
    from osiris_core.errors import OsirisError, PreparationError, Problem

    with (
        watching(session_dir, before, watched=watched),
        StopSignals(adapter.cancel, lambda: leave_at_once(session_dir, as_json=as_json)),
    ):
        try:
            return work()
        except OsirisError:
            raise
        except BaseException as exc:
            kill_descendants()  # nobody is left who would stop what the steps started
            if not isinstance(exc, OSError) or _is_ours(session_dir):
                raise
            message = f"the session directory cannot be used: {exc.strerror or exc}"
            raise PreparationError([Problem(message, key="--session-dir", file=session_dir)]) from exc


def conclude(report: RunReport, *, as_json: bool, optioned: bool = False) -> int:
    """Write the report as the result; return the exit code, or leave with it where threads were left behind."""
    if as_json:
        stdout.write_json(report.to_json())
    else:
        from osiris_core.cli.summary import run_summary

        stdout.write_result(run_summary(report, optioned=optioned))
    code = exits.EXIT_CODES[report.status]
    if report.status in ("cancelled", "timeout") or any(step["abandoned"] for step in report.steps):
        # A thread that a step left inside a library would abort the process while Python shuts down.
        stdout.leave(code)
    return code


def _is_ours(session_dir: str) -> bool:
    """Whether a run of this process got as far as writing down what it is about to do."""
    from osiris_core.session import SessionLayout, read_json

    return (read_json(SessionLayout(Path(session_dir)).run_file) or {}).get("pid") == os.getpid()


@contextmanager
def watching(session_dir: str, before: Iterable[dict[str, Any]] = (), *, watched: bool) -> Iterator[None]:
    """While the block runs, show the run on standard error: live on a terminal, as plain lines elsewhere."""
    if not watched:
        yield
        return
    from osiris_core.logs import JournalFollower
    from osiris_core.session import SessionLayout

    view = _view(session_dir)

    def sink(event: dict[str, Any]) -> None:
        # Nothing that goes wrong with a picture of the run may hurt the run, or leave a traceback.
        try:
            view.event(event)
        except Exception as exc:  # noqa: BLE001
            stdout.say(f"osiris: cannot show {event.get('event')}: {exc!r}")

    for event in before:
        sink(event)
    follower = JournalFollower(SessionLayout(Path(session_dir)).events_file, sink).start()
    try:
        yield
    finally:
        follower.stop()
        view.close()


def _view(session_dir: str) -> View:
    if sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        from osiris_core.cli.live_view import LiveView

        return LiveView(session_dir, transient=stdout.result_is_terminal())
    from osiris_core.cli.progress import PlainLines

    return PlainLines(session_dir)
