"""`osiris doctor`: whether this installation is in order, and what it may use."""

from __future__ import annotations

import platform
import sys
import tempfile
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from osiris_core.cli import exits, formatting, stdout
from osiris_core.cli.check import Check
from osiris_core.cli.command import Command
from osiris_core.cli.extras import DISTRIBUTION, installed, requirements
from osiris_core.cli.options import json_option

if TYPE_CHECKING:
    from collections.abc import Iterator


@click.command(cls=Command)
@click.option(
    "--connections",
    is_flag=False,
    flag_value="",
    default=None,
    metavar="[FILE]",
    help="Check every connection instead: reach it, log in, change nothing. Without FILE those that a run would use.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0.1),
    default=10,
    help="How long one connection may take, in seconds.",
)
@json_option
def doctor(connections: str | None, timeout_s: float, as_json: bool) -> int:
    """Check versions, plugins, optional extras and the session root, and show what a run may use; or, with
    --connections, each connection. Exit code 1 if something is broken."""
    if connections is not None:
        from osiris_core.cli.connection_checks import check_connections

        checks = check_connections(connections or None, timeout_s)
    else:
        checks = [*_versions(), *_extras(), *_resources(), _session_root(), *_plugins()]
    broken = [check for check in checks if check.state == "broken"]
    if as_json:
        stdout.write_json({"status": "broken" if broken else "ok", "checks": [asdict(check) for check in checks]})
    else:
        rows = [(check.state, check.name, check.detail + (f" ({check.fix})" if check.fix else "")) for check in checks]
        verdict = f"{formatting.count(len(broken), 'problems')} found" if broken else "all is well"
        stdout.write_result("\n".join([*formatting.table(("state", "what", ""), rows), "", verdict]))
    return exits.FAILED if broken else exits.COMPLETED


def _versions() -> Iterator[Check]:
    yield Check("python", "ok", f"{platform.python_version()} at {sys.executable}")
    own = installed(DISTRIBUTION)
    yield Check(DISTRIBUTION, "ok" if own else "note", own or "running from source, not installed")
    for name in requirements().get(None, []):
        found = installed(name)
        yield Check(name, "ok", found) if found else Check(name, "broken", "missing", f"pip install {name}")


def _extras() -> Iterator[Check]:
    for extra, names in requirements().items():
        if extra in (None, "dev"):
            continue
        if missing := [name for name in names if installed(name) is None]:
            fix = f"if you need it: pip install '{DISTRIBUTION}[{extra}]'"
            yield Check(f"extra {extra}", "note", f"not installed: {', '.join(missing)}", fix)
        else:
            yield Check(f"extra {extra}", "ok", "installed")


def _resources() -> Iterator[Check]:
    from osiris_core.resources import cpu_count, default_memory_budget_bytes, memory_bytes

    yield Check("processors", "ok", str(cpu_count()))
    yield Check("memory", "ok", formatting.size(memory_bytes()))
    yield Check("memory budget", "ok", f"{formatting.size(default_memory_budget_bytes())} by default")


def _session_root() -> Check:
    from osiris_core.cli.sessions import sessions_root

    root = sessions_root()
    folder = next(path for path in [root, *root.parents] if path.exists())
    try:
        with tempfile.TemporaryFile(dir=folder):
            return Check("session root", "ok", str(root))
    except OSError as exc:
        return Check("session root", "broken", f"{root}: {exc.strerror}", "make it writable or set OSIRIS_HOME")


def _unusable(adapter: type[Any] | None) -> str | None:
    """Why nothing can be run by an adapter here and now, as far as it says."""
    if adapter is None:
        return None
    try:
        found: str | None = adapter().unusable()
    except Exception:  # noqa: BLE001 - somebody else's may need settings, or not know the question
        return None
    return found


def _plugins() -> Iterator[Check]:
    from osiris_core.cli.catalogue import every_kind

    for kind in every_kind():
        told = set()
        for entry in kind.entries():
            told.add(entry.problem)
            state = {"not installed": "note"}.get(entry.state, entry.state)
            unusable = _unusable(entry.cls) if kind.name == "adapter" else None
            yield Check(
                f"{kind.name} {entry.name}", "note" if unusable else state, unusable or entry.problem or entry.source
            )
        for problem in kind.problems():
            if problem not in told:
                yield Check(f"{kind.name} plugins", "broken", problem)
