"""The end of a run whose engine is gone, told from its journal: true for every place where it can have stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from osiris_core import AdapterFactory, ExecutionContext
from osiris_core.aftermath import Aftermath, stopped_by
from osiris_core.errors import ExecutionError, FailureClass
from osiris_core.journal import Journal, read_events
from osiris_core.redaction import Redactor
from tests.worker_process import DRIVERS, step

if TYPE_CHECKING:
    from pathlib import Path

STEPS = [step("Write", "a"), step("Write", "b", needs=["a"]), step("Write", "c", needs=["b"])]
SECRET = "correct-horse-battery"


@pytest.fixture
def whole(tmp_path: Path) -> tuple[Any, list[dict[str, Any]]]:
    """The steps of a run and its engine's events."""
    adapter = AdapterFactory.create("local", code=[str(DRIVERS)])
    context = ExecutionContext(session_id="s", session_dir=str(tmp_path / "session"))
    prepared = adapter.prepare({"pipeline": "p", "steps": STEPS}, context)
    adapter.execute(prepared, context)
    adapter.close()
    events = [event for event in read_events(tmp_path / "session/events.jsonl") if event["origin"] == "engine"]
    return prepared.steps, events


LOST = ExecutionError(f"the place is gone, with {SECRET}", failure_class=FailureClass.INFRA_LOST)


def test_wherever_it_stopped_the_end_is_true(tmp_path: Path, whole: tuple[Any, list[dict[str, Any]]]) -> None:
    """Cut after any event: what was complete stays, what ran failed, the rest is skipped; the journal gets its end."""
    steps, events = whole
    assert events[-1]["event"] == "steps.complete"
    for count in range(len(events)):
        told = Aftermath(steps, events[:count], 1)
        running = set(told.running)
        with Journal(tmp_path / f"{count}.jsonl", "s") as journal:
            summary = told.conclude(LOST, Redactor([SECRET]), journal.origin("engine", after_seq=told.last_seq))
        owed = list(read_events(journal.path))
        assert [event["seq"] for event in events[:count] + owed] == list(range(1, count + len(owed) + 1))
        if count == len(events) - 1:  # every step is complete: that the engine did not say so is no failure
            assert (summary.status, owed[-1]["event"]) == ("completed", "steps.complete")
            continue
        assert (summary.status, owed[-1]["event"]) == ("failed", "steps.error")
        assert summary.error["failure_class"] == "infra_lost"  # type: ignore[index]
        assert SECRET not in str(summary.to_json()) + journal.path.read_text()
        done = {event["step_id"] for event in events[:count] if event["event"] == "step.complete"}
        begun = {event["step_id"] for event in events[:count] if event["event"] == "step.start"} - done
        states = {record.step_id: record.status for record in summary.steps}
        assert {name for name, state in states.items() if state == "completed"} == done
        assert {name for name, state in states.items() if state == "failed"} == begun
        assert running == begun
        assert {event["step_id"] for event in owed if event["event"] == "step.error"} == begun
        assert {event["step_id"] for event in owed if event["event"] == "step.skipped"} == set(states) - done - begun
        paths = {event["path"] for event in events[:count] if event["event"] == "artifact"}
        assert {record.path for record in summary.artifacts} == paths


def test_a_journal_with_its_end_gets_no_second_one(tmp_path: Path, whole: tuple[Any, list[dict[str, Any]]]) -> None:
    """Whoever looks at it again."""
    steps, events = whole
    told = Aftermath(steps, events, 1)
    assert told.ended
    with Journal(tmp_path / "j.jsonl", "s") as journal:
        summary = told.conclude(LOST, Redactor(), journal.origin("engine", after_seq=told.last_seq))
    assert list(read_events(journal.path)) == []
    assert [record.status for record in summary.steps] == ["completed"] * 3


def test_other_attempts_and_origins_do_not_count(tmp_path: Path, whole: tuple[Any, list[dict[str, Any]]]) -> None:
    """Only artifacts of steps that this attempt took over come from earlier ones."""
    steps, events = whole
    host = {"origin": "host", "attempt": 2, "seq": 1, "ts": events[0]["ts"], "event": "run.start"}
    reused = {**events[0], "attempt": 2, "seq": 1, "event": "step.skipped", "step_id": "a", "reason": "reused"}
    told = Aftermath(steps, [*events, host, reused], 2)
    assert (told.last_seq, told.ended, told.running) == (1, False, [])
    summary = told.conclude(LOST, Redactor())
    assert [record.status for record in summary.steps] == ["reused", "skipped", "skipped"]
    assert [record.path for record in summary.artifacts] == ["a/out.bin"]


@pytest.mark.parametrize("failure_class", [FailureClass.TIMEOUT, FailureClass.CANCELLED])
def test_a_run_that_was_being_stopped(failure_class: FailureClass, whole: tuple[Any, list[dict[str, Any]]]) -> None:
    """Ends as a timeout or a cancel, and so does the step that ran."""
    steps, events = whole
    error = ExecutionError("it took too long", failure_class=failure_class)
    summary = Aftermath(steps, events[:1], 1).conclude(error, Redactor(), stop=stopped_by(failure_class, "why"))
    assert summary.status == failure_class.value
    assert summary.steps[0].status == failure_class.value
    assert stopped_by(FailureClass.INFRA_LOST, "x") is None


def test_no_event_at_all(whole: tuple[Any, list[dict[str, Any]]]) -> None:
    """A place that was lost before the first step."""
    summary = Aftermath(whole[0], [], 1).conclude(LOST, Redactor())
    assert [record.status for record in summary.steps] == ["skipped"] * 3
    assert (summary.wall_ms, summary.failed_step_id) == (0.0, None)
