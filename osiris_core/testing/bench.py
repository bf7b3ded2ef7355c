"""Where conformance checks are run: adapters of the kind under test, folders, input files, and what was seen so far."""

from __future__ import annotations

import sys
import threading
import time
import traceback
import weakref
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from osiris_core.testing.check import Verdict
from osiris_core.testing.evidence import Evidence
from osiris_core.testing.streams import captured_streams

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from osiris_core.adapter import ExecutionAdapter
    from osiris_core.testing.candidate import Candidate
    from osiris_core.testing.check import Check
    from osiris_core.testing.parity_stage import Stage
    from osiris_core.testing.trial import Controller


INTERRUPT_LIMIT_S = 15.0
"""How long the run under way may take to end at Ctrl-C."""


@dataclass(frozen=True)
class Arrival:
    """
    How it shows that a setting of an adapter's reaches the place of a run: a command there, and what it has to print.

    Attributes:
        settings: What is set, beside what the adapter under test has.
        shell: A line for /bin/sh, run as a step.
        prints: A line that it has to print.
    """

    settings: Mapping[str, Any]
    shell: str
    prints: str


@dataclass
class Bench:
    """
    One adapter under test.

    Attributes:
        known_gaps: What it cannot do, by the name or tag of checks, each with the reason.
        left_behind: What of the runs of a session directory is still in the adapter's place, a sentence each; besides
            what the adapter's own `leftovers` tells.
        runs_at_once: How many runs the checks start side by side.
        controllers: Processes that run something for the check at hand; they do not outlive it.
    """

    candidate: Candidate
    folder: Path
    stage: Stage
    known_gaps: Mapping[str, str] = field(default_factory=dict)
    left_behind: Callable[[Path], Iterable[str]] = lambda _: ()
    runs_at_once: int = 50
    controllers: list[Controller] = field(default_factory=list)
    _seen: dict[Any, Evidence] = field(default_factory=dict)
    _made: weakref.WeakSet[ExecutionAdapter] = field(default_factory=weakref.WeakSet)

    def verdict(self, check: Check) -> Verdict:
        """Run a check, unless it is a gap; whatever goes wrong is a fault of the adapter's."""
        if (reason := check.gap({**self.candidate.known_gaps, **self.known_gaps})) is not None:
            return Verdict(check, "gap", (reason,))
        started_s = time.monotonic()
        evidence = self.evidence(check)
        try:
            faults = [evidence.error] if evidence.error is not None else list(check.faults(evidence))
        except Exception:  # noqa: BLE001 - a report without the key that is looked at
            faults = [traceback.format_exc()]
        return Verdict(check, "fails" if faults else "holds", tuple(faults), time.monotonic() - started_s)

    def evidence(self, check: Check) -> Evidence:
        """What a check looks at; run when it is first asked for."""
        if check.run in self._seen:
            return self._seen[check.run]
        folder = self.folder / f"{len(list(self.folder.iterdir())) + 1}-{check.name}"
        folder.mkdir()
        evidence = Evidence(folder)
        if check.scenario is not None and not check.scenario.without_local:
            with captured_streams():
                evidence.reference = self.stage.reference(check.scenario)
        try:
            with captured_streams() as streams:
                self._within_limit(check, evidence)
        finally:
            self.clear_up(evidence)
        evidence.streams = streams.written
        if check.scenario is None:
            self._seen[check.run] = evidence
        return evidence

    def _within_limit(self, check: Check, evidence: Evidence) -> None:
        """Run it in a thread that can be left behind: an adapter that hangs must not hang its report."""

        def work() -> None:
            try:
                check.run(self, evidence)
            except BaseException:  # noqa: BLE001 - an adapter may raise anything; it is told as what it is
                evidence.error = traceback.format_exc()

        worker = threading.Thread(target=work, name=f"check {check.name}", daemon=True)
        worker.start()
        try:
            worker.join(check.limit_s)
        except KeyboardInterrupt:
            self._cancel_all()
            worker.join(INTERRUPT_LIMIT_S)
            raise
        if worker.is_alive():
            where = "".join(traceback.format_stack(sys._current_frames()[worker.ident or 0]))
            evidence.error = f"it is not over after {check.limit_s:g} s, and was left where it is:\n{where}"

    def clear_up(self, evidence: Evidence) -> None:
        """Take down what is left of its runs, and end it: the next check is not to pay for this one."""
        for controller in self.controllers:
            controller.kill()
        self.controllers.clear()
        self._cancel_all()
        evidence.remains = list(self._remains(evidence.folder))
        evidence.look_for_processes()

    def _cancel_all(self) -> None:
        for adapter in list(self._made):
            with suppress(Exception):  # an adapter under test may do anything
                adapter.cancel("its check is over")

    def make(self, **settings: Any) -> ExecutionAdapter:
        """A new adapter, set up as the one under test is but for `settings`; whoever asked closes it."""
        adapter = self.candidate.make((str(self.stage.code),), **settings)
        self._made.add(adapter)
        return adapter

    def recipe(self) -> dict[str, Any]:
        """What a controller of its own makes such an adapter of."""
        return self.candidate.recipe((str(self.stage.code),))

    def _remains(self, folder: Path) -> Iterable[str]:
        """What the runs below a folder left elsewhere; once told of, it is removed where the adapter knows how to."""
        session_dirs = sorted({path.parent for path in folder.rglob("run.json")})
        for session_dir in session_dirs:
            yield from self.left_behind(session_dir)
        with self.make() as adapter:
            look = getattr(adapter, "leftovers", None)
            for item in look(session_dirs) if look is not None else ():
                if item.session_dir in map(str, session_dirs):
                    yield f"{item.kind} {item.native_id} is there"
                    item.remove()
