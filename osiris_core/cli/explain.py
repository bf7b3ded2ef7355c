"""`osiris explain`: for each step, why it would run again or be reused."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from osiris_core.cli import formatting, stdout
from osiris_core.cli.command import Command
from osiris_core.cli.options import RunOptions, input_options, json_option

if TYPE_CHECKING:
    from osiris_core.checkpoint import ResumePlan
    from osiris_core.cli.sessions import SessionInfo
    from osiris_core.prepared import PreparedRun


@click.command(cls=Command)
@click.argument("step", required=False)
@click.argument("manifest", required=False)
@input_options
@click.option("--session", metavar="ID", help="The earlier run: an id, the beginning of one, or `latest`.")
@json_option
def explain(
    step: str | None, manifest: str | None, session: str | None, as_json: bool, session_dir: str | None, **options: Any
) -> None:
    """
    Say for each step (or for STEP) whether a resumed run would reuse what is there, and if not, what differs.

    The earlier run is the one named, else the newest of the MANIFEST, else the newest at all. Give the same --param
    and --env as to the run.
    """
    from osiris_core.cli.outlook import resume_outlook
    from osiris_core.cli.request import make_request

    if manifest is None and step is not None and _is_manifest(step):
        step, manifest = None, step
    earlier = _earlier(manifest, session, session_dir, options.get("base_dir"))
    manifest = manifest or _manifest_of(earlier)
    request = make_request(RunOptions(manifest, session_dir=str(earlier.layout.root), **options))
    prepared = request.prepare()
    outlook = resume_outlook(request, prepared)
    assert outlook is not None
    ids = [planned.id for planned in prepared.steps]
    _check_step(step, ids)
    recorded = earlier.run.get("prepared") or {}
    found = [_explained(name, outlook, recorded, prepared) for name in ids if step in (None, name)]
    if as_json:
        place = {"session_id": earlier.session_id, "session_dir": str(earlier.layout.root), "manifest": manifest}
        stdout.write_json({"status": "explained", **place, "steps": found})
        return
    actions = {"reuse": "reused", "run": "runs again"}
    rows = [(item["step_id"], actions[item["action"]], f"{item['reason']}{_listed(item['changed'])}") for item in found]
    stdout.write_result("\n".join([f"session {earlier.session_id}", "", *formatting.table(("step", "", "why"), rows)]))


def _explained(name: str, outlook: ResumePlan, recorded: dict[str, Any], prepared: PreparedRun) -> dict[str, Any]:
    """What would be done with a step; `component` is what of its key, or of what it left, decided it."""
    from osiris_core.checkpoint import changed_settings
    from osiris_core.cli.outlook import UNCHANGED

    if name in outlook.reused:
        return {"step_id": name, "action": "reuse", "reason": UNCHANGED, "component": None, "changed": []}
    component = outlook.differs[name]
    before = outlook.before.get(name)
    changed = changed_settings(before, recorded, prepared, name) if component == "config" else []
    reason = outlook.runs[name]
    return {"step_id": name, "action": "run", "reason": reason, "component": component, "changed": changed}


def _listed(names: list[str]) -> str:
    return f": {', '.join(names)}" if names else ""


def _is_manifest(text: str) -> bool:
    """Whether one argument alone means a file: step ids may have dots, but do not end like this."""
    return text.endswith((".yaml", ".yml", ".json")) or Path(text).is_file()


def _earlier(manifest: str | None, session: str | None, session_dir: str | None, base_dir: str | None) -> SessionInfo:
    from osiris_core.cli.sessions import find_session, newest_of, sessions_root
    from osiris_core.errors import PreparationError, Problem
    from osiris_core.manifest import load_manifest

    if session_dir is not None:
        return find_session(sessions_root(), str(Path(session_dir).absolute()))
    if session is not None or manifest is None:
        return find_session(sessions_root(), session or "latest")
    loaded = load_manifest(manifest, base_dir=base_dir)
    found = newest_of(sessions_root(), loaded)
    if found is None:
        raise PreparationError([Problem(f"there is no earlier run of '{loaded.name}'", hint="name one with --session")])
    return found


def _manifest_of(session: SessionInfo) -> str:
    from osiris_core.errors import PreparationError, Problem

    if session.manifest_file is None:
        raise PreparationError([Problem(f"session {session.session_id} was not run from a file", hint="give MANIFEST")])
    return str(session.manifest_file)


def _check_step(step: str | None, ids: list[str]) -> None:
    from osiris_core.errors import PreparationError, Problem
    from osiris_core.suggestion import did_you_mean

    if step is not None and step not in ids:
        raise PreparationError([Problem(f"there is no step '{step}'", hint=did_you_mean(step, ids))])
