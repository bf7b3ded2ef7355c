"""Runs a scenario on an adapter, and takes down all that a user can see of it."""

from __future__ import annotations

import os
import re
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osiris_core.context import ExecutionContext
from osiris_core.errors import ExecutionError, PreparationError
from osiris_core.journal import JOURNAL_NAME, read_events
from osiris_core.sealing import sha256_of
from osiris_core.session import read_json
from osiris_core.testing.parity_compare import Normaliser

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from osiris_core.adapter import ExecutionAdapter
    from osiris_core.report import RunReport
    from osiris_core.testing.parity_scenario import Scenario


@dataclass
class Outcome:
    """
    What is left of a scenario's run.

    Attributes:
        problems: Why it could not start; then there is nothing else.
        raised: The error of `execute`: type, message, failure class, step and details.
        report: The report, as JSON.
        events: The journal.
        tree: The artifacts directory: per path its kind, mode, size and sha256 or target.
        left: The names in the session directory.
        status_file: What `status.json` says.
        folder: Everything that was written for this run lies below it.
        normaliser: Takes the place of this run out of texts.
        runs_here: Whether its steps ran in this process.
    """

    adapter: str
    session_dir: Path
    folder: Path
    normaliser: Normaliser
    runs_here: bool = False
    problems: list[str] = field(default_factory=list)
    raised: dict[str, Any] | None = None
    report: dict[str, Any] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    tree: dict[str, tuple[str, ...]] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    status_file: dict[str, Any] | None = None
    took_s: float = 0.0

    @property
    def status(self) -> str:
        return str(self.report["status"]) if self.report else "refused"

    def raise_nothing(self, work: Callable[[], object]) -> None:
        """Do it, and take down the error that it raises."""
        try:
            work()
        except ExecutionError as exc:
            self.raised = {
                "type": type(exc).__name__,
                "message": str(exc),
                "failure_class": str(exc.failure_class),
                "step_id": exc.step_id,
                "details": exc.details,
            }

    def take_down(self, report: RunReport | None = None) -> None:
        """What the run came to: its report, and what is in its session directory."""
        self.report = report.to_json() if report is not None else {}
        journal = self.session_dir / JOURNAL_NAME
        self.events = list(read_events(journal)) if journal.exists() else []
        self.tree = dict(tree_of(self.session_dir / "artifacts"))
        self.status_file = read_json(self.session_dir / "status.json")
        self.left = sorted(path.name for path in self.session_dir.iterdir())

    def named(self, event: str, step_id: str | None = None) -> list[dict[str, Any]]:
        """The events of that name, of one step or of all."""
        return [item for item in self.events if item["event"] == event and step_id in (None, item.get("step_id"))]

    @property
    def strays(self) -> set[str]:
        """What lies among the artifacts and is none, as a warning says."""
        said = (re.match(r"not an artifact: (.*): ", event["message"], re.DOTALL) for event in self.named("log"))
        steps = (event.get("step_id", "") for event in self.named("log"))
        return {f"{step_id}/{match[1]}" for step_id, match in zip(steps, said, strict=True) if match}

    def told(self, name: str) -> list[dict[str, Any]]:
        """The data of a driver's own events of that name."""
        return [item["data"] for item in self.named("step.event") if item["name"] == name]

    def step(self, step_id: str) -> dict[str, Any]:
        return next(record for record in self.report["steps"] if record["step_id"] == step_id)

    def printed(self, stream: str = "stdout") -> list[str]:
        """The lines that user code printed, as far as they became events."""
        return [item["message"] for item in self.named("log") if item.get("stream") == stream]


def run_scenario(scenario: Scenario, adapter: ExecutionAdapter, folder: Path, inputs: Path, code: Path) -> Outcome:
    """Run it in `folder`, which is new, with its input files in `inputs` and drivers in `code`."""
    session_dir = folder / "session"
    normaliser = Normaliser({"<session>": session_dir, "<inputs>": inputs, "<code>": code})
    outcome = Outcome(adapter.name, session_dir, folder, normaliser, getattr(adapter, "runs_here", False))
    started_s = time.monotonic()
    with environment(scenario.variables):
        for number, steps in enumerate([scenario.steps, scenario.again][: 2 if scenario.again else 1], 1):
            settings = {"base_dir": str(inputs), "checkpoint": "never", **scenario.settings}
            context = ExecutionContext(
                session_id=f"parity-{scenario.name}",
                session_dir=str(outcome.session_dir),
                trace_rpc=str(folder / f"rpc-{number}.jsonl"),
                resume=number > 1,
                **settings,
            )
            manifest = scenario.manifest or {"pipeline": scenario.name, "steps": [dict(item) for item in steps]}
            _run(scenario, adapter, manifest, context, outcome)
    outcome.took_s = time.monotonic() - started_s
    return outcome


def _run(
    scenario: Scenario,
    adapter: ExecutionAdapter,
    manifest: Path | dict[str, Any],
    context: ExecutionContext,
    outcome: Outcome,
) -> None:
    try:
        prepared = adapter.prepare(manifest, context)
    except PreparationError as exc:
        outcome.problems = [str(problem) for problem in exc.problems]
        return
    if scenario.cancel == "before":
        adapter.cancel("changed my mind")
    over = threading.Event()
    canceller = threading.Thread(target=_cancel_at_first_word, args=(scenario.cancel, adapter, outcome, over))
    canceller.start()
    try:
        outcome.raise_nothing(lambda: adapter.execute(prepared, context))
    finally:
        over.set()
        canceller.join()
    outcome.take_down(adapter.collect(prepared, context))


def _cancel_at_first_word(step_id: str, adapter: ExecutionAdapter, outcome: Outcome, over: threading.Event) -> None:
    """From a thread of its own, as a user interface would."""
    while step_id not in ("", "before") and not over.wait(0.02):
        journal = outcome.session_dir / JOURNAL_NAME
        events = read_events(journal) if journal.exists() else ()
        if any(event["event"] in ("step.event", "log") and event.get("step_id") == step_id for event in events):
            adapter.cancel("enough")
            return


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """This process's environment has these variables until the block is over."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def tree_of(folder: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Everything below a folder: per path its kind, mode, size and sha256 or target."""
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            yield name, ("link", str(path.readlink()))
        elif path.is_dir():
            yield name, ("folder", oct(path.stat().st_mode))
        elif path.is_file():
            yield name, ("file", oct(path.stat().st_mode), str(path.stat().st_size), sha256_of(path))


def processes_with(words: str) -> list[int]:
    """Living processes, of this machine's whole table, that have these words in their command line."""
    wanted, found = words.encode(), []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if wanted in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found
