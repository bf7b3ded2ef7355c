"""`osiris runs`: what was run on this machine."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from osiris_core.cli import formatting, stdout
from osiris_core.cli.attach import attach
from osiris_core.cli.cancel import cancel
from osiris_core.cli.command import Group
from osiris_core.cli.delete import delete
from osiris_core.cli.gc import gc
from osiris_core.cli.options import complete_sessions, json_option, root_option

if TYPE_CHECKING:
    from osiris_core.cli.sessions import SessionInfo


@click.group(cls=Group)
def runs() -> None:
    """Look at runs, go on with them, stop them, remove them."""


@runs.command("list")
@root_option
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="At most so many.")
@json_option
def list_runs(root: str | None, limit: int, as_json: bool) -> None:
    """
    List the runs, the one that was started last first.

    One whose process died is `orphaned` when it may go on elsewhere, else `interrupted`; `attach` goes on with both.
    """
    from osiris_core.cli.sessions import list_sessions, sessions_root

    folder = sessions_root(root)
    found = [session.to_json() for session in islice(list_sessions(folder), limit)]
    if as_json:
        stdout.write_json(found)
        return
    if not found:
        stdout.say(f"osiris: no runs in {folder}")
    rows = [
        (
            item["session_id"],
            item["status"],
            item["pipeline"],
            formatting.when(item["started_at"] or ""),
            "" if item["duration_s"] is None else formatting.duration(item["duration_s"]),
            f"{'?' if item['steps_done'] is None else item['steps_done']}/{item['steps']}",
            item["adapter"] or "",
        )
        for item in found
    ]
    if rows:
        header = ("session", "status", "pipeline", "started", "took", "steps", "adapter")
        stdout.write_result("\n".join(formatting.table(header, rows)))


@runs.command("show")
@click.argument("name", metavar="[ID]", default="latest", shell_complete=complete_sessions)
@root_option
@json_option
def show_run(name: str, root: str | None, as_json: bool) -> None:
    """
    Show one run: its steps, its error with the traceback, its artifacts, where its time went.

    ID is a session id, the beginning of one, a session directory, or `latest`.
    """
    from osiris_core.cli.sessions import find_session, sessions_root

    session = find_session(sessions_root(root), name)
    if as_json:
        stdout.write_json({**session.report, **session.to_json(), "steps": _steps(session)})
    else:
        stdout.write_result("\n".join(_lines(session)))


for command in (attach, cancel, gc, delete):
    runs.add_command(command)


def _steps(session: SessionInfo) -> list[dict[str, Any]]:
    """The steps of the report; of a run without one yet, what its journal knows."""
    steps = session.report.get("steps")
    if steps is not None:
        return list(steps)
    from osiris_core.cli.progress import RunState
    from osiris_core.journal import read_events

    state = RunState(str(session.layout.root))
    for event in read_events(session.layout.events_file):
        if event["attempt"] == session.run.get("attempt"):
            state.apply(event)
    return [{"step_id": step.step_id, "status": step.status} for step in state.steps.values()]


def _lines(session: SessionInfo) -> list[str]:
    from osiris_core.cli import summary

    report = {**session.report, "status": session.status, "pipeline": session.pipeline}
    lines = [
        summary.headline(report),
        f"session    {session.layout.root}",
        f"started    {formatting.when(str(session.run.get('started_at') or ''))}",
        f"attempt    {session.run.get('attempt')} on {session.run.get('adapter')}",
    ]
    if session.manifest_file:
        lines.append(f"manifest   {session.manifest_file}")
    if session.attachable:
        lines.append(f"controller {session.fate_of_controller}")
    if "steps" in report:
        lines += ["", *summary.step_lines(report, len(report["steps"]))]
    else:
        lines += ["", *formatting.table(("step", "status"), [(s["step_id"], s["status"]) for s in _steps(session)])]
    if report.get("error"):
        lines += ["", *summary.failure_lines(report, None)]
    lines += summary.artifact_lines(report, None)
    if timings := summary.timing_lines(report):
        lines += ["", *timings]
    return lines
