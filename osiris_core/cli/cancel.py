"""`osiris runs cancel`: stop a run from another terminal, whether its controller lives or not."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from osiris_core.cli import exits, stdout
from osiris_core.cli.command import Command
from osiris_core.cli.options import Duration, complete_sessions, json_option, root_option

if TYPE_CHECKING:
    from pathlib import Path

    from osiris_core.cli.sessions import SessionInfo

POLL_S = 0.1


@click.command("cancel", cls=Command)
@click.argument("name", metavar="ID", shell_complete=complete_sessions)
@root_option
@click.option("--reason", default="osiris runs cancel", show_default=True, help="Why, for the report.")
@click.option("--wait", type=Duration(), default="60s", show_default=True, help="How long its end is waited for.")
@json_option
def cancel(name: str, root: str | None, reason: str, wait: float, as_json: bool) -> int:
    """
    Stop a run and say what it came to; one that is over stays as it is.

    A controller that lives is asked to. Where it is dead the run is stopped in its place, and what it left is fetched.
    """
    from osiris_core.cli.attach import not_attached
    from osiris_core.cli.sessions import find_session, sessions_root
    from osiris_core.errors import NotAttached

    folder = sessions_root(root)
    session = find_session(folder, name)
    try:
        over = _stop(session.layout.root, folder, reason, time.monotonic() + wait)
    except NotAttached as exc:
        return not_attached(exc, as_json=as_json)
    session = find_session(folder, str(session.layout.root))
    if as_json:
        stdout.write_json({"session_id": session.session_id, "status": session.status, "over": over})
    elif over:
        stdout.write_result(f"{session.status}  {session.session_id}")
    else:
        stdout.say(f"osiris: {session.session_id} was asked to stop, and has not within {wait:g} s")
    return exits.COMPLETED if over else exits.FAILED


def _stop(session_dir: Path, folder: Path, reason: str, deadline_s: float) -> bool:
    """Whether the run is over."""
    from osiris_core.cli.sessions import find_session
    from osiris_core.errors import SessionBusy
    from osiris_core.session import ask_to_cancel, is_owned

    asked = False
    while (session := find_session(folder, str(session_dir))).status in ("running", "orphaned", "interrupted"):
        if session.status != "running":
            try:
                _stop_orphan(session, reason)
            except SessionBusy:  # somebody attached to it just now
                continue
            return True
        if not asked:
            ask_to_cancel(session.layout, reason)
            asked = True
        if time.monotonic() > deadline_s:
            return False
        time.sleep(POLL_S)
    while is_owned(session.layout) and time.monotonic() < deadline_s:  # it is just letting go
        time.sleep(POLL_S / 10)
    return True


def _stop_orphan(session: SessionInfo, reason: str) -> None:
    from osiris_core.cli.attach import adapter_for
    from osiris_core.earlier_run import EarlierRun

    with adapter_for(EarlierRun.read(session.layout.root)) as adapter:
        adapter.attach(session.layout.root, cancel=reason)
