"""The live view on a terminal: a row a step and a line for the whole, redrawn in place. Imports rich when drawn."""

from __future__ import annotations

import threading
from time import monotonic
from typing import TYPE_CHECKING, Any

from osiris_core.cli import formatting
from osiris_core.cli.progress import RunState, StepState

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

REFRESH_PER_S = 8
_STYLES = {
    "running": "cyan",
    "completed": "green",
    "reused": "green",
    "retrying": "yellow",
    "failed": "bold red",
    "timeout": "bold red",
    "cancelled": "yellow",
    "skipped": "dim",
    "waiting": "dim",
}
_FIRST = {"running": 0, "retrying": 0, "failed": 1, "timeout": 1, "cancelled": 1}


class LiveView:
    """
    Draws from the first event on. What drivers print meanwhile appears above it.

    Args:
        transient: Wipe it off at the end, because a summary follows in the same place.
    """

    def __init__(self, session_dir: str, *, transient: bool) -> None:
        self._state = RunState(session_dir)
        self._transient = transient
        self._lock = threading.Lock()
        self._live: Live | None = None

    def event(self, event: dict[str, Any]) -> None:
        with self._lock:
            step = self._state.apply(event)
        if self._live is None:
            self._live = self._start()
        if event["event"] == "log" and event["level"] in ("warning", "error"):
            place = f"{step.step_id}  " if step is not None else ""
            message = formatting.first_line(event["message"], 2000)
            self._live.console.print(_text(f"{place}{event['level']}: {message}"))

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _start(self) -> Live:
        from rich.console import Console
        from rich.live import Live

        console = Console(stderr=True)
        live = Live(
            console=console,
            get_renderable=lambda: self._draw(console),
            refresh_per_second=REFRESH_PER_S,
            transient=self._transient,
        )
        live.start(refresh=True)
        return live

    def _draw(self, console: Console) -> Table:
        from rich.table import Table

        with self._lock:
            state = self._state
            shown = visible_steps(list(state.steps.values()), max(3, console.size.height - 4))
            grid = Table.grid(padding=(0, 2))
            for _ in range(3):
                grid.add_column(no_wrap=True)
            grid.add_column(justify="right", no_wrap=True)
            grid.add_column(no_wrap=True, overflow="ellipsis")
            for step in shown:
                rows = "" if step.rows is None else formatting.count(step.rows)
                elapsed = "" if step.elapsed_s is None else formatting.duration(step.elapsed_s)
                style = _STYLES.get(step.status, "")
                grid.add_row(
                    _text(step.step_id), _text(step.status, style), _text(rows), _text(elapsed), _text(step.note)
                )
            hidden = len(state.steps) - len(shown)
            total = f"{state.done} of {formatting.count(state.expected, 'steps')}"
            more = f"{hidden} more not shown" if hidden else ""
            elapsed = formatting.duration(monotonic() - state.started_s)
            grid.add_row(_text(state.pipeline, "bold"), _text(total), _text(state.adapter), _text(elapsed), _text(more))
        return grid


def _text(text: str, style: str = "") -> Text:
    from rich.text import Text

    return Text(formatting.visible(text), style)


def visible_steps(steps: list[StepState], room: int) -> list[StepState]:
    """At most `room` of the steps, in their order: what runs and what failed first, then what is next or just ended."""
    if len(steps) <= room:
        return steps
    frontier = next((index for index, step in enumerate(steps) if step.status in ("running", "waiting")), len(steps))
    ranked = sorted(
        range(len(steps)), key=lambda index: (_FIRST.get(steps[index].status, 2), abs(index - frontier), index)
    )
    return [steps[index] for index in sorted(ranked[:room])]
