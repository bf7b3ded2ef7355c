"""`osiris runs gc`: remove what runs left elsewhere and nobody owns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from osiris_core.cli import exits, formatting, stdout
from osiris_core.cli.command import Command
from osiris_core.cli.options import complete_adapters, json_option, root_option
from osiris_core.session import made_elsewhere

if TYPE_CHECKING:
    from collections.abc import Iterable

    from osiris_core.cli.sessions import SessionInfo
    from osiris_core.leftovers import Leftover


@click.command("gc", cls=Command)
@root_option
@click.option("--adapter", metavar="NAME", shell_complete=complete_adapters, help="Only what this adapter made.")
@click.option("--config", metavar="FILE", help="Look where this configuration leads to, and nowhere else.")
@click.option("--dry-run", is_flag=True, help="Only list.")
@json_option
def gc(root: str | None, adapter: str | None, config: str | None, dry_run: bool, as_json: bool) -> int:
    """
    Remove containers, volumes, jobs and workers that runs of this machine left, and no live process owns.

    A run whose controller was killed goes on by itself: this ends it. What it left in its session directory stays.
    Adapters look with the settings that runs had, as far as those were written down: what is secret is given anew.
    """
    found, problems = _find(root, adapter, config)
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


def _find(root: str | None, adapter: str | None, config: str | None) -> tuple[list[Leftover], list[str]]:
    """What every adapter finds; one that cannot look says why, and is no reason to stop."""
    from osiris_core.cli.options import RunOptions
    from osiris_core.cli.request import configured_adapter
    from osiris_core.cli.sessions import list_sessions, sessions_root
    from osiris_core.errors import AdapterNotInstalled
    from osiris_core.factory import AdapterFactory

    sessions = list(list_sessions(sessions_root(root)))
    session_dirs = [session.layout.root for session in sessions]
    found: list[Leftover] = []
    problems: list[str] = []
    if config is not None:
        given = configured_adapter(RunOptions("", adapter=adapter, config=config))
        try:
            found.extend(given.leftovers(session_dirs))
        except Exception as exc:  # noqa: BLE001 - somebody else's adapter may do anything
            problems.append(_problem(given.name, exc))
        return found, problems
    for name in [adapter] if adapter else AdapterFactory.available():
        looked_at: set[tuple[str, ...]] = set()
        for settings in [{}, *_recorded(sessions, name)]:
            try:
                made = AdapterFactory.create(name, **settings)
                if (far_end := getattr(made, "far_end", ())) not in looked_at:
                    looked_at.add(far_end)
                    look = getattr(made, "leftovers", None)
                    found.extend(look(session_dirs) if look is not None else ())
            except AdapterNotInstalled as exc:
                if adapter:
                    problems.append(str(exc))
                break
            except Exception as exc:  # noqa: BLE001 - as above; the others look all the same
                problems.append(_problem(name, exc))
    own = {(item.adapter, item.kind, item.native_id): item for item in reversed(found)}  # a chain finds its targets'
    return list(reversed(own.values())), problems


def _problem(name: str, exc: Exception) -> str:
    from osiris_core.errors import OsirisError

    return f"{name}: {exc}" if isinstance(exc, OsirisError) else f"{name}: {type(exc).__name__}: {exc}"


def _recorded(sessions: Iterable[SessionInfo], adapter: str) -> list[dict[str, Any]]:
    """The settings, each once, of runs of this adapter's that may have left something."""
    found: list[dict[str, Any]] = []
    for session in sessions:
        settings = session.run.get("config", {})
        if session.run.get("adapter") == adapter and made_elsewhere(session.run) and settings not in found:
            found.append(settings)
    return found


def _removed(item: Leftover) -> str:
    try:
        item.remove()
    except Exception as exc:  # noqa: BLE001 - the others are still to be removed
        return f"not removed: {exc}"
    return "removed"


def _described(item: Leftover) -> dict[str, Any]:
    return {name: value for name, value in vars(item).items() if name != "remove"}
