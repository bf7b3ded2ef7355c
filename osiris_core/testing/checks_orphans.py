"""Checks of runs whose controller was killed: gone on with, told of again, stopped, and found by who clears up."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from osiris_core.testing.check import Check
from osiris_core.testing.evidence import ended
from osiris_core.testing.parity_outcome import processes_with, tree_of
from osiris_core.testing.trial import DETACHED, Controller, manifest, new_marker, shell, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from osiris_core.adapter import ExecutionAdapter
    from osiris_core.testing.bench import Bench
    from osiris_core.testing.evidence import Evidence

_TOPIC = "after the controller was killed"
_FIRST = shell("first", "echo first > first.txt", artifacts=["first.txt"])


def attached_run(bench: Bench, evidence: Evidence) -> None:
    """A controller is killed in the middle of a run, and another one attaches; then a third one."""
    session_dir = evidence.folder / "session"
    naps = shell("naps", "echo ready; sleep 1.5", needs=("first",))
    last = shell("last", "echo last > last.txt", needs=("naps",), artifacts=["last.txt"])
    controller = Controller(bench, session_dir, manifest(_FIRST, naps, last))
    controller.wait_for_ready("naps")
    controller.kill()
    with bench.make() as adapter:
        evidence.facts["outlives"] = bool(getattr(adapter, "outlives_controller", False))
        evidence.outcome("it", adapter, session_dir, adapter.attach(session_dir))
    before = dict(tree_of(session_dir))
    with bench.make() as adapter:
        evidence.facts["again"] = adapter.attach(session_dir).to_json()
    evidence.facts["changed"] = dict(tree_of(session_dir)) != before


def _attach_goes_on(evidence: Evidence) -> Iterator[str]:
    outcome = evidence.it
    yield from ended(outcome, "completed")
    if outcome.report.get("attached") is not True:
        yield "the report does not say that somebody attached"
    yield from _nothing_was_done_twice(evidence)
    contents = {name: (outcome.session_dir / "artifacts" / name) for name in ("first/first.txt", "last/last.txt")}
    for name, path in contents.items():
        if not path.is_file() or path.read_text() != f"{path.stem}\n":
            yield f"{name} is not there, or has other bytes"
    timings = dict(outcome.report["timings"])
    if abs(timings.pop("wall_ms") - sum(timings.values())) > 0.5:
        yield f"the times do not add up: {outcome.report['timings']}"
    yield from evidence.left()


def _nothing_was_done_twice(evidence: Evidence) -> Iterator[str]:
    """It goes on in its attempt; only where its engine died with the controller, a second one does what is missing."""
    outcome = evidence.it
    attempt = outcome.report["attempt"]
    if attempt != 1 and evidence.facts["outlives"]:
        yield f"a run that outlives its controller was gone on with as attempt {attempt}"
    started = Counter(event["step_id"] for event in outcome.named("step.start"))
    wanted = {"first": 1, "naps": min(attempt, 2), "last": 1}
    if started != wanted:
        yield f"in {attempt} attempts its steps were started so many times: {dict(started)}, not {wanted}"
    statuses = [record["status"] for record in outcome.report["steps"]]
    if statuses != ["completed" if attempt == 1 else "reused", "completed", "completed"]:
        yield f"its steps are {statuses}"


def _attach_again(evidence: Evidence) -> Iterator[str]:
    if evidence.facts["again"] != evidence.it.report:
        yield "attaching to a run that is over gave another report than the run's"
    if evidence.facts["changed"]:
        yield "attaching to a run that is over changed its files"


def _orphan(bench: Bench, evidence: Evidence) -> Path:
    """The session of a controller that was killed while its run's processes sleep for very long."""
    session_dir = evidence.folder / "session"
    naps = shell("naps", DETACHED.format(new_marker(evidence)), needs=("first",))
    controller = Controller(bench, session_dir, manifest(_FIRST, naps))
    controller.wait_for_ready("naps")
    controller.kill()
    return session_dir


def cancelled_orphan(bench: Bench, evidence: Evidence) -> None:
    session_dir = _orphan(bench, evidence)
    with bench.make() as adapter:
        report = adapter.attach(session_dir, cancel="nobody wants it")
        evidence.outcome("it", adapter, session_dir, report)


def _orphan_is_cancelled(evidence: Evidence) -> Iterator[str]:
    yield from ended(evidence.it, "cancelled")
    error = evidence.it.report.get("error") or {}
    if "nobody wants it" not in error.get("message", ""):
        yield f"the reason is not in its report: {error}"
    if "first/first.txt" not in evidence.it.tree:
        yield "what its first step left did not come home"
    yield from evidence.left()


def removed_orphan(bench: Bench, evidence: Evidence) -> None:
    session_dir = _orphan(bench, evidence)
    marker = evidence.markers[0]
    with bench.make() as adapter:
        found = _leftovers(adapter, session_dir)
        evidence.facts["found"] = [{"kind": item.kind, "running": item.is_running} for item in found]
        for item in found:
            item.remove()
        for item in found:
            item.remove()
        evidence.facts["left"] = [f"{item.kind} {item.native_id}" for item in _leftovers(adapter, session_dir)]
    try:
        wait_until(lambda: not processes_with(marker), "processes of an orphan that was removed are alive", 2.0)
    except TimeoutError:
        evidence.alive = processes_with(marker)


def _leftovers(adapter: ExecutionAdapter, session_dir: Path) -> list[Any]:
    return [item for item in adapter.leftovers([session_dir]) if item.session_dir == str(session_dir)]


def _orphan_is_found_and_removed(evidence: Evidence) -> Iterator[str]:
    found = evidence.facts["found"]
    if not any(item["running"] for item in found):
        yield f"`leftovers` does not find what still runs for a controller that is dead: {found}"
    yield from (f"removed, and still found: {item}" for item in evidence.facts["left"])
    yield from evidence.left()


ORPHAN_CHECKS = (
    Check(
        "attach-goes-on",
        "a run whose controller was killed is gone on with to its end: its artifacts, a whole journal, a true report",
        _TOPIC,
        attached_run,
        _attach_goes_on,
    ),
    Check(
        "attach-again",
        "attaching to a run that is over gives its report, and changes nothing",
        _TOPIC,
        attached_run,
        _attach_again,
    ),
    Check(
        "orphan-is-cancelled",
        "a run whose controller was killed can be stopped, with all that it started",
        _TOPIC,
        cancelled_orphan,
        _orphan_is_cancelled,
    ),
    Check(
        "orphan-is-removed",
        "what a killed controller left is found and removed by whoever clears up, with all that it started",
        _TOPIC,
        removed_orphan,
        _orphan_is_found_and_removed,
    ),
)
