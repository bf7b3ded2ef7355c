"""A run that another process was asked for: what was written down of it, and what may still be said of it."""

from __future__ import annotations

import shlex
import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from osiris_core.aftermath import Aftermath
from osiris_core.context import ExecutionContext
from osiris_core.errors import PreparationError, Problem
from osiris_core.journal import read_events
from osiris_core.models.subject import lock_file_of
from osiris_core.prepared import PreparedRun
from osiris_core.report import RunReport
from osiris_core.secrets import references
from osiris_core.session import SessionLayout, is_owned, read_json, recorded_run

OVER = ("completed", "failed", "cancelled", "timeout")


@dataclass(frozen=True)
class EarlierRun:
    """The newest attempt in a session directory, read without owning it."""

    layout: SessionLayout
    recorded: dict[str, Any]

    @classmethod
    def read(cls, session_dir: str | Path) -> EarlierRun:
        """
        What `run.json` says.

        Raises:
            PreparationError: There is none, or it is not whole.
        """
        layout = SessionLayout(Path(session_dir).resolve())
        return cls(layout, recorded_run(layout))

    @property
    def adapter(self) -> str:
        return str(self.recorded.get("adapter", ""))

    @property
    def token(self) -> str | None:
        """What marks everything that was made for the run elsewhere; None while nothing can have been."""
        token = self.recorded.get("token")
        return token if isinstance(token, str) else None

    @cached_property
    def prepared(self) -> PreparedRun:
        return PreparedRun.from_json(self.recorded["prepared"])

    @cached_property
    def told(self) -> Aftermath:
        """What its journal says, as it is now."""
        return tell(self.layout, self.prepared, int(self.recorded["attempt"]))

    @property
    def report(self) -> RunReport | None:
        """Its report, if it is over."""
        found = read_json(self.layout.status_file) or {}
        if found.get("status") in OVER and found.get("attempt") == self.recorded["attempt"] and "timings" in found:
            return RunReport(found)
        return None

    def clear_up(self) -> None:
        """Of a run that is over, what its controller only needed while it lasted is gone on return."""
        if self.layout.work_dir.exists() and not is_owned(self.layout):
            shutil.rmtree(self.layout.work_dir, ignore_errors=True)

    @property
    def cancel_reason(self) -> str | None:
        """Why its controller gave it up without waiting for its end (a second Ctrl-C), if it did."""
        found = read_json(self.layout.status_file) or {}
        given_up = found.get("status") == "cancelled" and found.get("attempt") == self.recorded["attempt"]
        return "its controller left at once" if given_up else None

    @property
    def again(self) -> str:
        """What to type to run it again; FILE where it had settings, which are `config` in its run.json."""
        if lock_file_of(self.layout.root).exists():
            return f"osiris run --model-run FILE --adapter {self.adapter}"
        sources = self.recorded["prepared"].get("sources") or []
        manifest = sources[0]["source"] if sources else "MANIFEST"
        words = ["osiris", "run", manifest, "--adapter", self.adapter]
        words += ["--config", "FILE"] if self.recorded.get("config") else []
        words += ["--resume", "--session-dir", str(self.layout.root)]
        words += ["--out", str(self.recorded["publish_dir"])] if self.recorded.get("publish_dir") else []
        for name, value in self.recorded["prepared"].get("environment", {}).items():
            words += ["--env", name if any(True for _ in references(value)) else f"{name}={value}"]
        return shlex.join(words)

    def context(self, given: ExecutionContext | None) -> ExecutionContext:
        """The run's surroundings; of those that are `given` its variables, and how it is watched."""
        return replace(
            given or ExecutionContext(session_dir=str(self.layout.root)),
            session_id=str(self.recorded["session_id"]),
            session_dir=str(self.layout.root),
            publish_dir=self.recorded.get("publish_dir"),
        )

    def check_adapter(self, name: str) -> None:
        """
        Raises:
            PreparationError: It was run by another adapter.
        """
        if self.adapter != name:
            message = f"this run is on adapter '{self.adapter}', not on '{name}'"
            hint = f"AdapterFactory.create('{self.adapter}').attach(…), or osiris runs attach"
            raise PreparationError([Problem(message, file=str(self.layout.root), hint=hint)])


def tell(layout: SessionLayout, prepared: PreparedRun, attempt: int) -> Aftermath:
    """What the journal of a session says of one attempt."""
    return Aftermath(prepared.steps, read_events(layout.events_file), attempt)


def seconds_since(ts: str) -> float:
    """How long ago something was written into the journal of this machine; 0.0 when it was not."""
    if not ts:
        return 0.0
    return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(ts)).total_seconds())
