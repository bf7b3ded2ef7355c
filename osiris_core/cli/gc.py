"""`osiris runs gc`: remove what runs left elsewhere and nobody owns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from osiris_core.cli import exits, formatting, stdout
from osiris_core.cli.command import Command
from osiris_core.cli.options import complete_adapters, json_option, root_option

if TYPE_CHECKING:
    from osiris_core.leftovers import Leftover


@click.command("gc", cls=Command)
@root_option
@click.option("--adapter", metavar="NAME", shell_complete=complete_adapters, help="Only what this adapter made.")
@click.option("--dry-run", is_flag=True, help="Only list.")
@json_option
def gc(root: str | None, adapter: str | None, dry_run: bool, as_json: bool) -> int:
    """
    Remove containers, volumes, jobs and workers that runs of this machine left, and no live process owns.

    A run whose controller was killed goes on by itself: this ends it. What it left in its session directory stays.
    """
    found, problems = _find(root, adapter)
    for problem in problems:
        stdout.say(f"osiris: {problem}")
    states = [(item, "found" if dry_run else _removed(item)) for item in found]
    if as_json:
        listed = [{**_described(item), "state": state} for item, state in states]
        stdout.write_json({"leftovers": listed, "problems": problems})
    elif states:
        rows = [
            (item.adapter, item.kind, item.native_id[:24], item.session_id, "running" if item.is_running else "", state)
            for item, state in states
        ]
        header = ("adapter", "what", "id", "session", "was", "now")
        stdout.write_result("\n".join(formatting.table(header, rows)))
    else:
        stdout.say(f"osiris: nothing is left{' where it could be looked for' if problems else ''}")
    failed = problems or any(state not in ("found", "removed") for _, state in states)
    return exits.FAILED if failed else exits.COMPLETED


def _find(root: str | None, adapter: str | None) -> tuple[list[Leftover], list[str]]:
    """What every adapter finds; an adapter that cannot look says why, and is no reason to stop."""
    from osiris_core.cli.sessions import list_sessions, sessions_root
    from osiris_core.errors import AdapterNotInstalled, OsirisError
    from osiris_core.factory import AdapterFactory

    session_dirs = [session.layout.root for session in list_sessions(sessions_root(root))]
    found: list[Leftover] = []
    problems: list[str] = []
    for name in [adapter] if adapter else AdapterFactory.available():
        try:
            made = AdapterFactory.create(name)
            look = getattr(made, "leftovers", None)
            found.extend(look(session_dirs) if look is not None else ())
        except AdapterNotInstalled as exc:
            if adapter:
                problems.append(str(exc))
        except Exception as exc:  # noqa: BLE001 - somebody else's adapter may do anything; the others look all the same
            problems.append(
                f"{name}: {exc}" if isinstance(exc, OsirisError) else f"{name}: {type(exc).__name__}: {exc}"
            )
    own = {(item.adapter, item.kind, item.native_id): item for item in reversed(found)}  # a chain finds its targets'
    return list(reversed(own.values())), problems


def _removed(item: Leftover) -> str:
    try:
        item.remove()
    except Exception as exc:  # noqa: BLE001 - the others are still to be removed
        return f"not removed: {exc}"
    return "removed"


def _described(item: Leftover) -> dict[str, Any]:
    return {name: value for name, value in vars(item).items() if name != "remove"}
