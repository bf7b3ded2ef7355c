"""`osiris runs delete`: remove sessions, and what their runs still have elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from osiris_core.cli import exits, stdout
from osiris_core.cli.command import Command
from osiris_core.cli.options import complete_sessions, json_option, root_option

if TYPE_CHECKING:
    from osiris_core.cli.sessions import SessionInfo


@click.command("delete", cls=Command)
@click.argument("names", metavar="ID...", nargs=-1, required=True, shell_complete=complete_sessions)
@root_option
@click.option("--force", is_flag=True, help="Also where the place of an orphaned run cannot be reached.")
@json_option
def delete(names: tuple[str, ...], root: str | None, force: bool, as_json: bool) -> int:
    """
    Remove the reports, events, artifacts and checkpoints of runs; one that is under way is refused.

    Of an orphaned run its container or worker is removed first. Other files in a session directory stay.
    """
    from osiris_core.cli.sessions import find_session, sessions_root

    folder = sessions_root(root)
    sessions = [find_session(folder, name) for name in names]  # all of them are there, or nothing is deleted
    found = []
    for session in sessions:
        reason = _delete(session, force=force)
        found.append({"session_id": session.session_id, "session_dir": str(session.layout.root), "problem": reason})
        if reason is not None:
            stdout.say(f"osiris: {session.session_id} was not deleted: {reason}")
    if as_json:
        stdout.write_json([{**item, "deleted": item["problem"] is None} for item in found])
    else:
        gone = [item["session_id"] for item in found if item["problem"] is None]
        stdout.write_result("\n".join(f"deleted  {name}" for name in gone))
    return exits.FAILED if any(item["problem"] for item in found) else exits.COMPLETED


def _delete(session: SessionInfo, *, force: bool) -> str | None:
    """Why it could not be deleted; None when it is gone."""
    from osiris_core.errors import OsirisError, SessionBusy
    from osiris_core.orphans import end_place
    from osiris_core.session import Session

    try:
        owned = Session.reopen(str(session.layout.root))
    except SessionBusy as exc:
        return f"{exc} (osiris runs cancel {session.session_id} stops it)"
    try:
        end_place(owned, owned.recorded)
    except OsirisError as exc:
        if not force:
            owned.close()
            return f"{exc} (--force deletes it all the same)"
    owned.delete()
    return None
