"""Checks of runs that are stopped: cancelled together, interrupted, out of time. Processes are looked for."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osiris_core.session import read_json
from osiris_core.testing.check import Check
from osiris_core.testing.evidence import ended
from osiris_core.testing.trial import (
    DETACHED,
    Background,
    Controller,
    context,
    manifest,
    new_marker,
    shell,
    wait_for_ready,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from osiris_core.testing.bench import Bench
    from osiris_core.testing.evidence import Evidence

_TOPIC = "stopping"
STOP_LIMIT_S = 15.0
"""How long a run may take to end once it has to."""
LIMIT_S = 3.0


def cancelled_pair(bench: Bench, evidence: Evidence) -> None:
    """Two runs of one adapter, cancelled together and twice; then a third one; then a cancel for nobody."""
    marker = new_marker(evidence)
    with bench.make() as adapter:
        adapter.cancel("nobody runs yet")
        what = manifest(shell("naps", DETACHED.format(marker)), shell("never", "true", needs=("naps",)))
        names = ("one", "two")
        running = {name: Background(adapter, what, context(evidence, name)) for name in names}
        for name in names:
            wait_for_ready(evidence.folder / name, "naps")
        started_s = time.monotonic()
        adapter.cancel("the first reason")
        adapter.cancel("the second reason")
        for name in names:
            evidence.outcome(name, adapter, evidence.folder / name, running[name].join().report)
        evidence.facts["took_s"] = time.monotonic() - started_s
        report = adapter.run(manifest(shell("a", "true")), context(evidence, "later"))
        adapter.cancel("all is over")
        evidence.outcome("later", adapter, evidence.folder / "later", report)


def _cancel_reaches_every_run(evidence: Evidence) -> Iterator[str]:
    for name in ("one", "two"):
        outcome = evidence.outcomes[name]
        yield from ended(outcome, "cancelled")
        error = outcome.report.get("error") or {}
        if error.get("failure_class") != "cancelled" or "the first reason" not in error.get("message", ""):
            yield f"it was cancelled for the first reason, and says {error}"
        statuses = [record["status"] for record in outcome.report["steps"]]
        if statuses != ["cancelled", "skipped"]:
            yield f"its steps are {statuses}"
    if evidence.facts["took_s"] > STOP_LIMIT_S:
        yield f"stopping took {evidence.facts['took_s']:.1f} s"
    yield from evidence.left()


def _cancel_is_no_curse(evidence: Evidence) -> Iterator[str]:
    yield from ended(evidence.outcomes["later"], "completed")


def interrupted_run(bench: Bench, evidence: Evidence) -> None:
    """Ctrl-C in a process that runs something."""
    marker = new_marker(evidence)
    controller = Controller(bench, evidence.folder / "session", manifest(shell("naps", DETACHED.format(marker))))
    controller.wait_for_ready("naps")
    started_s = time.monotonic()
    controller.interrupt()
    evidence.facts["told"] = controller.end()
    evidence.facts["took_s"] = time.monotonic() - started_s
    with bench.make() as adapter:
        outcome = evidence.outcome("it", adapter, evidence.folder / "session", None)
    outcome.report = read_json(outcome.session_dir / "status.json") or {}


def _interrupt_leaves_a_report(evidence: Evidence) -> Iterator[str]:
    if evidence.facts["told"].get("raised") != "KeyboardInterrupt":
        yield f"Ctrl-C was not raised to whoever called run: {evidence.facts['told']}"
    if "timings" not in evidence.it.report:
        yield f"Ctrl-C left no report, but {evidence.it.report}"
    yield from ended(evidence.it, "cancelled")
    if evidence.facts["took_s"] > STOP_LIMIT_S:
        yield f"stopping took {evidence.facts['took_s']:.1f} s"
    yield from evidence.left()


def late_run(bench: Bench, evidence: Evidence) -> None:
    """A run out of time, in a step whose children got away from it."""
    marker = new_marker(evidence)
    good = shell("good", "echo kept > kept.txt", artifacts=["kept.txt"])
    late = shell("late", DETACHED.format(marker), needs=("good",))
    there = context(evidence, timeout=LIMIT_S)
    with bench.make() as adapter:
        started_s = time.monotonic()
        report = adapter.run(manifest(good, late), there)
        evidence.facts["took_s"] = time.monotonic() - started_s
        evidence.outcome("it", adapter, Path(there.session_dir), report)


def _timeout_leaves_nothing(evidence: Evidence) -> Iterator[str]:
    yield from ended(evidence.it, "timeout")
    if (evidence.it.report.get("error") or {}).get("failure_class") != "timeout":
        yield f"it says {evidence.it.report.get('error')}"
    yield from evidence.left()


def _timeout_keeps_what_was_done(evidence: Evidence) -> Iterator[str]:
    statuses = {record["step_id"]: record["status"] for record in evidence.it.report["steps"]}
    if statuses != {"good": "completed", "late": "timeout"}:
        yield f"the steps are said to be {statuses}"
    if "good/kept.txt" not in evidence.it.tree:
        yield "what a step had left before the time was up did not come home"
    if evidence.facts["took_s"] > LIMIT_S + STOP_LIMIT_S:
        yield f"a run with a limit of {LIMIT_S:g} s took {evidence.facts['took_s']:.1f} s"


def _check(name: str, promise: str, run: Any, faults: Any) -> Check:
    return Check(name, promise, _TOPIC, run, faults)


STOP_CHECKS = (
    _check(
        "cancel-reaches-every-run",
        "cancel ends every run of an adapter, with all that they started, for the first reason given",
        cancelled_pair,
        _cancel_reaches_every_run,
    ),
    _check(
        "cancel-is-no-curse",
        "a cancel is for the runs of that moment, and nothing where there is none",
        cancelled_pair,
        _cancel_is_no_curse,
    ),
    _check(
        "interrupt-leaves-a-report",
        "Ctrl-C stops the steps, writes the report, and is then raised",
        interrupted_run,
        _interrupt_leaves_a_report,
    ),
    _check(
        "timeout-leaves-nothing",
        "a run out of time leaves no process, also none that left its session or lost its parent",
        late_run,
        _timeout_leaves_nothing,
    ),
    _check(
        "timeout-keeps-what-was-done",
        "what was finished when the time was up comes home",
        late_run,
        _timeout_keeps_what_was_done,
    ),
)
