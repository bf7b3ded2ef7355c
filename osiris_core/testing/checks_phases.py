"""Checks of the phases as such: after a failure, out of order, again, closed, and two at one session."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osiris_core.errors import ExecutionError, OsirisError
from osiris_core.testing.check import Check
from osiris_core.testing.evidence import ended
from osiris_core.testing.parity_outcome import tree_of
from osiris_core.testing.trial import Background, context, manifest, new_marker, shell, wait_for_ready

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from osiris_core.testing.bench import Bench
    from osiris_core.testing.evidence import Evidence

_TOPIC = "phases"
STOP_LIMIT_S = 15.0
"""How long a run may take to end once it is asked to."""


def failed_run(bench: Bench, evidence: Evidence) -> None:
    """A run that fails in its middle, with each phase also called when it must not be; then the session once more."""
    session_dir = evidence.folder / "session"
    there = context(evidence, checkpoint="always")
    good = shell("good", "printf 'n\\n1\\n' > t.csv", outputs={"t": {"path": "t.csv"}}, artifacts=["t.csv"])
    bad = shell("bad", "echo kept > kept.txt; echo some reason >&2; exit 3", needs=("good",), artifacts=["kept.txt"])
    never = shell("never", "echo never > never.txt", needs=("bad",), artifacts=["never.txt"])
    with bench.make() as adapter:
        prepared = adapter.prepare(manifest(good, bad, never), there)
        calls = evidence.facts["out of order"] = {
            "collect before execute": _refusal(lambda: adapter.collect(prepared, there), evidence.folder)
        }
        raised: dict[str, Any] = {}
        try:
            adapter.execute(prepared, there)
        except ExecutionError as exc:
            raised = {"step_id": exc.step_id, "message": str(exc), "failure_class": str(exc.failure_class)}
        calls["execute again before collect"] = _refusal(lambda: adapter.execute(prepared, there), session_dir)
        calls["prepare before collect"] = _refusal(lambda: adapter.prepare(manifest(good), there), session_dir)
        outcome = evidence.outcome("it", adapter, session_dir, adapter.collect(prepared, there))
        outcome.raised = raised
        mended = shell("bad", "echo mended > kept.txt", needs=("good",), artifacts=["kept.txt"])
        again = adapter.run(manifest(good, mended, never), context(evidence, checkpoint="always", resume=True))
        evidence.outcome("again", adapter, session_dir, again)


def _refusal(call: Callable[[], object], folder: Path) -> tuple[str, bool]:
    """What a call raised, and whether anything below a folder is another one since."""
    before = dict(tree_of(folder))
    try:
        call()
    except OsirisError as exc:
        return type(exc).__name__, dict(tree_of(folder)) != before
    return "nothing", dict(tree_of(folder)) != before


def _collects_after_a_failure(evidence: Evidence) -> Iterator[str]:
    outcome = evidence.it
    yield from ended(outcome, "failed")
    statuses = {record["step_id"]: record["status"] for record in outcome.report["steps"]}
    if statuses != {"good": "completed", "bad": "failed", "never": "skipped"}:
        yield f"the steps are said to be {statuses}"
    files = {name for name, item in outcome.tree.items() if item[0] == "file"}
    listed = {item["path"] for item in outcome.report["artifacts"]}
    for wanted in ("good/t.csv", "bad/kept.txt"):
        if wanted not in files or wanted not in listed:
            yield f"{wanted} did not come home from a run that failed: {sorted(files)}, listed {sorted(listed)}"
    yield from evidence.left()


def _execute_raises_what_is_reported(evidence: Evidence) -> Iterator[str]:
    raised, error = evidence.it.raised or {}, evidence.it.report.get("error") or {}
    if raised.get("step_id") != "bad":
        yield f"execute names step {raised.get('step_id')!r}, and 'bad' failed"
    if raised.get("failure_class") != error.get("failure_class") or not error:
        yield f"execute raised an error of class {raised.get('failure_class')}, the report has {error}"
    if error.get("message", "") not in raised.get("message", ""):
        yield f"execute raised {raised.get('message')!r}, the report has {error.get('message')!r}"
    if "some reason" not in raised.get("message", ""):
        yield f"what the command said last is not in {raised.get('message')!r}"


def _phases_in_order(evidence: Evidence) -> Iterator[str]:
    for what, (raised, changed) in evidence.facts["out of order"].items():
        if raised != "PhaseError":
            yield f"{what} raised {raised}, not PhaseError"
        if changed:
            yield f"{what} changed files"


def _session_runs_again(evidence: Evidence) -> Iterator[str]:
    outcome = evidence.outcomes["again"]
    yield from ended(outcome, "completed")
    statuses = {record["step_id"]: record["status"] for record in outcome.report["steps"]}
    if outcome.report["attempt"] != 2 or statuses != {"good": "reused", "bad": "completed", "never": "completed"}:
        yield f"attempt {outcome.report['attempt']}, resumed, says of its steps {statuses}"
    if {event["attempt"] for event in outcome.events} != {1, 2}:
        yield "the journal does not have both attempts"
    contents = {
        name: (outcome.session_dir / "artifacts" / name).read_bytes()
        for name, item in outcome.tree.items()
        if item[0] == "file" and not name.endswith(".log")
    }
    if contents != {"good/t.csv": b"n\n1\n", "bad/kept.txt": b"mended\n", "never/never.txt": b"never\n"}:
        yield f"the artifacts are {contents}"


def closed_run(bench: Bench, evidence: Evidence) -> None:
    """An adapter that is closed while another thread's run goes on; closed again; and one that only prepared."""
    marker = new_marker(evidence)
    there = context(evidence)
    adapter = bench.make()
    running = Background(adapter, manifest(shell("naps", f"echo ready; sleep {marker}")), there)
    wait_for_ready(Path(there.session_dir), "naps")
    started_s = time.monotonic()
    adapter.close()
    report = running.join().report
    evidence.facts["took_s"] = time.monotonic() - started_s
    evidence.outcome("it", adapter, Path(there.session_dir), report)
    adapter.close()
    with bench.make() as other:
        other.prepare(manifest(shell("naps", "true")), context(evidence, "only-prepared"))
    other.close()
    evidence.facts["left by prepare alone"] = (evidence.folder / "only-prepared").exists()


def _close_ends_what_runs(evidence: Evidence) -> Iterator[str]:
    yield from ended(evidence.it, "cancelled")
    yield from evidence.left()
    if evidence.facts["took_s"] > STOP_LIMIT_S:
        yield f"closing took {evidence.facts['took_s']:.1f} s"
    if evidence.facts["left by prepare alone"]:
        yield "an adapter that only prepared left a session directory"


def busy_session(bench: Bench, evidence: Evidence) -> None:
    """A second controller comes to a session while its run goes on: to run there, and to take it over."""
    session_dir = evidence.folder / "session"
    what = manifest(shell("naps", "echo ready; sleep 2.5; echo done > done.txt", artifacts=["done.txt"]))
    with bench.make() as first, bench.make() as second:
        running = Background(first, what, context(evidence))
        wait_for_ready(session_dir, "naps")
        calls: dict[str, Callable[[], object]] = {
            "run": lambda: second.run(what, context(evidence)),
            "attach": lambda: second.attach(session_dir),
        }
        for name, call in calls.items():
            try:
                call()
            except OsirisError as exc:
                evidence.facts[name] = type(exc).__name__
            else:
                evidence.facts[name] = "nothing"
        evidence.outcome("it", first, session_dir, running.join().report)


def _one_controller(evidence: Evidence) -> Iterator[str]:
    if evidence.facts["run"] != "SessionBusy":
        yield f"a second run in a session that is in use raised {evidence.facts['run']}, not SessionBusy"
    yield from _undisturbed(evidence)


def _attach_is_refused(evidence: Evidence) -> Iterator[str]:
    if evidence.facts["attach"] != "SessionBusy":
        yield f"attaching to a run whose controller lives raised {evidence.facts['attach']}, not SessionBusy"
    yield from _undisturbed(evidence)


def _undisturbed(evidence: Evidence) -> Iterator[str]:
    yield from ended(evidence.it, "completed")
    if "naps/done.txt" not in evidence.it.tree:
        yield "the run that was there first was disturbed: its artifact is missing"
    if {event["attempt"] for event in evidence.it.events} != {1}:
        yield "somebody else's attempt is in the journal"
    yield from evidence.left()


def _check(name: str, promise: str, run: Any, faults: Any) -> Check:
    return Check(name, promise, _TOPIC, run, faults)


PHASE_CHECKS = (
    _check(
        "collects-after-a-failure",
        "of a run that failed everything that its steps left comes home",
        failed_run,
        _collects_after_a_failure,
    ),
    _check(
        "execute-raises-what-is-reported",
        "what execute raises is what the report says: step, class and words",
        failed_run,
        _execute_raises_what_is_reported,
    ),
    _check(
        "phases-in-order",
        "a phase out of order raises PhaseError, and changes nothing",
        failed_run,
        _phases_in_order,
    ),
    _check(
        "session-runs-again",
        "a session is run again as its next attempt, and takes over what was finished",
        failed_run,
        _session_runs_again,
    ),
    _check(
        "close-ends-what-runs",
        "close ends the runs of other threads, and may be called twice",
        closed_run,
        _close_ends_what_runs,
    ),
    _check(
        "one-controller",
        "a session has one controller: a second one is refused, and the first is not disturbed",
        busy_session,
        _one_controller,
    ),
    _check(
        "attach-is-refused",
        "nobody takes over a run whose controller lives",
        busy_session,
        _attach_is_refused,
    ),
)
