"""The sessions on this machine: where they are, what state they are in, which one is meant."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osiris_core.errors import PreparationError, Problem
from osiris_core.models.verdict import refutes
from osiris_core.session import SessionLayout, is_owned, read_json
from osiris_core.suggestion import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator

    from osiris_core.manifest import Manifest


def sessions_root(explicit: str | None = None) -> Path:
    """The folder of the sessions: as given, else `$OSIRIS_HOME/sessions`, else `.osiris/sessions` here."""
    if explicit:
        return Path(explicit).absolute()
    home = os.environ.get("OSIRIS_HOME")
    return (Path(home) / "sessions" if home else Path(".osiris", "sessions")).absolute()


@dataclass
class SessionInfo:
    """One session directory as it was found; files that are missing or torn read as empty."""

    layout: SessionLayout

    @cached_property
    def run(self) -> dict[str, Any]:
        return read_json(self.layout.run_file) or {}

    @cached_property
    def report(self) -> dict[str, Any]:
        return read_json(self.layout.status_file) or {}

    @property
    def session_id(self) -> str:
        return str(self.run.get("session_id") or self.layout.root.name)

    @property
    def pipeline(self) -> str:
        return str(self._prepared.get("manifest", {}).get("pipeline") or self.report.get("pipeline") or "")

    @property
    def manifest_file(self) -> Path | None:
        """The manifest that was run, or None for one that was no file."""
        sources = self._prepared.get("sources") or []
        return Path(sources[0]["source"]) if sources else None

    @property
    def step_ids(self) -> list[str]:
        return [step["id"] for step in self._prepared.get("manifest", {}).get("steps", [])]

    @cached_property
    def status(self) -> str:
        """
        The report's status; `running` only while a process really is.

        Else `orphaned` when something was made for the run elsewhere, which may go on; `interrupted` when it cannot.
        A model run that left other outputs than were expected has `failed`.
        """
        status = str(self.report.get("status") or "unknown")
        if status == "running" and not is_owned(self.layout):
            return "orphaned" if self.run.get("token") else "interrupted"
        if status == "completed" and refutes(self.layout, int(self.report.get("attempt") or 0)):
            return "failed"
        return status

    @property
    def attachable(self) -> bool:
        """Whether another controller can go on with it, or fetch what it left."""
        return self.status in ("orphaned", "interrupted") or bool(self.run.get("left"))

    @property
    def fate_of_controller(self) -> str:
        """What there is to say of a controller that is dead, or left without what the run made."""
        if self.status not in ("orphaned", "interrupted"):
            return f"left its results in their place; osiris runs attach {self.layout.root} fetches them"
        goes_on = "the run may go on without it; " if self.status == "orphaned" else ""
        name = shlex.quote(str(self.layout.root))
        return f"dead (pid {self.run.get('pid')}); {goes_on}osiris runs attach {name} goes on, cancel ends it"

    @property
    def duration_s(self) -> float | None:
        """How long it took, or takes until now; None when nobody wrote that down."""
        if (wall_ms := self.report.get("timings", {}).get("wall_ms")) is not None:
            return float(wall_ms) / 1000
        started = self.run.get("started_at")
        if self.status == "running" and started:
            return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(started)).total_seconds())
        return None

    def to_json(self) -> dict[str, Any]:
        steps = self.report.get("steps")
        return {
            "session_id": self.session_id,
            "session_dir": str(self.layout.root),
            "status": self.status,
            "attachable": self.attachable,
            "pipeline": self.pipeline,
            "adapter": self.run.get("adapter"),
            "attempt": self.run.get("attempt"),
            "started_at": self.run.get("started_at"),
            "duration_s": self.duration_s,
            "steps": len(self.step_ids),
            "steps_done": None if steps is None else sum(step["status"] in ("completed", "reused") for step in steps),
        }

    @property
    def _prepared(self) -> dict[str, Any]:
        found: dict[str, Any] = self.run.get("prepared") or {}
        return found


def list_sessions(root: Path) -> Iterator[SessionInfo]:
    """The sessions below `root`, the one that was started last first. A root that is not there has none."""
    started: list[tuple[int, str]] = []
    try:
        for entry in os.scandir(root):
            try:
                started.append((os.stat(os.path.join(entry.path, "run.json")).st_mtime_ns, entry.path))  # noqa: PTH116, PTH118
            except OSError:
                continue  # something else than a session
    except OSError:
        return
    for _, path in sorted(started, reverse=True):
        yield SessionInfo(SessionLayout(Path(path)))


def find_session(root: Path, name: str) -> SessionInfo:
    """
    The session that `latest`, an id, the beginning of one, or a path means.

    Raises:
        PreparationError: There is none, or more than one.
    """
    if "/" in name or Path(name, "run.json").is_file():
        found = SessionInfo(SessionLayout(Path(name).absolute()))
        if found.run:
            return found
        raise PreparationError([Problem("there is no session here (no run.json)", file=name)])
    sessions = list(list_sessions(root))
    if name == "latest" and sessions:
        return sessions[0]
    names = {session.layout.root.name: session for session in sessions}
    if name in names:
        return names[name]
    matches = [candidate for candidate in names if candidate.startswith(name)]
    if len(matches) == 1:
        return names[matches[0]]
    if matches:
        raise PreparationError([Problem(f"more than one session begins with '{name}': {', '.join(sorted(matches))}")])
    hint = did_you_mean(name, names) or "see `osiris runs list`"
    raise PreparationError([Problem(f"there is no session '{name}' below {root}", hint=hint)])


def newest_of(root: Path, manifest: Manifest) -> SessionInfo | None:
    """The session of this pipeline and manifest that was started last and is not running, or None."""
    wanted = next((file.resolve() for file in manifest.source_files), None)
    for session in list_sessions(root):
        file = session.manifest_file
        if (
            session.pipeline == manifest.name
            and (file.resolve() if file else None) == wanted
            and session.status != "running"
        ):
            return session
    return None
