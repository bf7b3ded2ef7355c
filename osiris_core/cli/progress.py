"""What a run looks like while it lasts: the state of its steps, fed by its events, and plain lines of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from osiris_core.cli import formatting, stdout
from osiris_core.session import SessionLayout, read_json

if TYPE_CHECKING:
    from collections.abc import Callable

PROGRESS_LINE_INTERVAL_S = 10.0


class View(Protocol):
    """Takes the events of a run, one by one, from one thread."""

    def event(self, event: dict[str, Any]) -> None: ...

    def close(self) -> None:
        """The run is over; may be called without a single event, and twice."""
        ...


@dataclass
class StepState:
    """One step as it is now."""

    step_id: str
    status: str = "waiting"
    rows: int | None = None
    took_s: float | None = None
    started_s: float | None = None
    note: str = ""

    @property
    def elapsed_s(self) -> float | None:
        """How long it took, or is running; None before it started."""
        if self.took_s is None and self.started_s is not None:
            return monotonic() - self.started_s
        return self.took_s


@dataclass
class RunState:
    """The whole run as it is now."""

    session_dir: str
    pipeline: str = ""
    adapter: str = ""
    expected: int = 0
    started_s: float = field(default_factory=monotonic)
    steps: dict[str, StepState] = field(default_factory=dict)

    def apply(self, event: dict[str, Any]) -> StepState | None:
        """Take one event in; return the step it is about."""
        kind, step_id = event["event"], event.get("step_id")
        if kind == "run.start":
            self.pipeline, self.adapter, self.expected = event["pipeline"], event["adapter"], event["steps"]
            for name in _step_ids(self.session_dir):
                self.steps.setdefault(name, StepState(name))
        if step_id is None:
            return None
        step = self.steps.setdefault(step_id, StepState(step_id))
        if kind == "step.start":
            step.status, step.started_s, step.took_s, step.note = "running", monotonic(), None, ""
        elif kind == "step.complete":
            step.status, step.note = "completed", ""
            step.rows, step.took_s = event["rows_written"] or event["rows_read"], event["execution_time_ms"] / 1000
        elif kind == "step.error":
            step.status, step.note = _ending(event), formatting.first_line(event["error"]["message"])
            step.took_s = event["execution_time_ms"] / 1000
        elif kind == "step.skipped":
            step.status = "reused" if event["reason"] == "reused" else "skipped"
            step.note = "" if event["reason"] == "reused" else event["reason"].replace("_", " ")
        elif kind == "step.retry":
            step.status = "retrying"
            step.note = f"try {event['step_attempt']} in {formatting.duration(event['delay_s'])}"
        elif kind == "step.progress":
            step.note = describe_progress(event)
        return step

    @property
    def done(self) -> int:
        return sum(step.status in ("completed", "reused") for step in self.steps.values())


def describe_progress(event: dict[str, Any]) -> str:
    """`1,000 of 3,000 rows (33 %)`."""
    done, total, unit = event["done"], event.get("total"), event.get("unit", "rows")
    if not total:
        return formatting.count(done, unit)
    return f"{done:,.0f} of {formatting.count(total, unit)} ({done / total:.0%})"


def _ending(event: dict[str, Any]) -> str:
    failure_class = str(event["error"]["failure_class"])
    return failure_class if failure_class in ("timeout", "cancelled") else "failed"


def _step_ids(session_dir: str) -> list[str]:
    """The steps in the manifest's order, from what was written down before the run started."""
    run = read_json(SessionLayout(Path(session_dir)).run_file) or {}
    return [step["id"] for step in run.get("prepared", {}).get("manifest", {}).get("steps", [])]


class PlainLines:
    """One line on standard error for everything worth one. No colours, no cursor: for files and CI logs."""

    def __init__(self, session_dir: str, write: Callable[[str], object] = stdout.say) -> None:
        self._state = RunState(session_dir)
        self._write = write
        self._told_s: dict[str, float] = {}

    def event(self, event: dict[str, Any]) -> None:
        step = self._state.apply(event)
        text = self._run_line(event) if step is None else self._step_line(event, step)
        if text:
            self._write(f"{formatting.clock(event['ts'])} {text}")

    def close(self) -> None:
        return

    def _run_line(self, event: dict[str, Any]) -> str | None:
        if event["event"] == "run.start":
            return f"{event['pipeline']}: {formatting.count(event['steps'], 'steps')} on {event['adapter']}"
        if event["event"] == "log" and event["level"] in ("warning", "error"):
            return f"{event['level']}: {formatting.first_line(event['message'], 2000)}"
        return None

    def _step_line(self, event: dict[str, Any], step: StepState) -> str | None:
        kind = event["event"]
        if kind == "step.start":
            again = f" (try {event['step_attempt']})" if event["step_attempt"] > 1 else ""
            return f"{step.step_id}  started{again}"
        if kind == "step.progress":
            now_s = monotonic()
            if now_s - self._told_s.get(step.step_id, step.started_s or now_s) < PROGRESS_LINE_INTERVAL_S:
                return None
            self._told_s[step.step_id] = now_s
            return f"{step.step_id}  running  {step.note}"
        if kind == "log" and event["level"] in ("warning", "error"):
            return f"{step.step_id}  {event['level']}: {formatting.first_line(event['message'], 2000)}"
        if kind == "step.retry":
            message = formatting.first_line(event["error"]["message"])
            return f"{step.step_id}  failed, {step.note}: {message}"
        if kind not in ("step.complete", "step.error", "step.skipped"):
            return None
        parts = [step.step_id, step.status]
        if kind == "step.complete" and step.rows is not None:
            parts.append(formatting.count(step.rows))
        if kind != "step.skipped" and step.took_s is not None:
            parts.append(formatting.duration(step.took_s))
        return "  ".join([*parts, *([step.note] if step.note else [])])
