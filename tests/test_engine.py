"""The engine by what a user sees of it: order, failures, retries, time limits, cancellation, books that balance."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pyarrow as pa
import pytest

from osiris_core import AdapterFactory, DriverRegistry, ExecutionContext, FailureClass, StepError, read_events
from osiris_core.errors import StepFenced


class Noop:
    def run(self, step_id, config, inputs, ctx):
        return None


class Rows:
    """Gives `count` rows."""

    deterministic = True

    def run(self, step_id, config, inputs, ctx):
        return {"df": pa.table({"n": list(range(config["count"]))})}


class Total:
    def run(self, *, step_id, config, inputs, ctx):
        return {"total": sum(sum(table.column("n").to_pylist()) for table in inputs.values())}


class Fails:
    """Fails until its try number `succeed_on`, with the class it is told."""

    def run(self, step_id, config, inputs, ctx):
        (ctx.artifacts_dir / f"try-{ctx.attempt}.txt").write_text("x")
        if ctx.attempt >= config.get("succeed_on", 99):
            return {"tries": ctx.attempt}
        raise StepError("not yet", step_id=step_id, failure_class=FailureClass(config.get("class", "infra_lost")))


class Waits:
    """Waits until cancelled, or for ever when `deaf`."""

    release = threading.Event()

    def run(self, step_id, config, inputs, ctx):
        stop = threading.Event()
        if not config.get("deaf"):
            ctx.on_cancel(stop.set)
        (ctx.artifacts_dir / "before.txt").write_text("before")
        while not stop.wait(0.01) and not Waits.release.is_set():
            pass
        if config.get("deaf"):
            for publish in (lambda: ctx.log("late"), lambda: ctx.metric("late", 1), lambda: ctx.artifacts_dir):
                with pytest.raises(StepFenced):
                    publish()
            Waits.release.clear()
        ctx.raise_if_cancelled()


class Meets:
    """Completes only when `parties` of its kind run at a time."""

    barrier = threading.Barrier(2)

    def run(self, step_id, config, inputs, ctx):
        Meets.barrier.wait(10)


class Leaves:
    """Leaves by SystemExit, as a careless script does."""

    def run(self, step_id, config, inputs, ctx):
        raise SystemExit(3)


DRIVERS = {
    "t.noop": Noop,
    "t.rows": Rows,
    "t.total": Total,
    "t.fails": Fails,
    "t.waits": Waits,
    "t.meets": Meets,
    "t.leaves": Leaves,
}


@pytest.fixture(autouse=True)
def drivers():
    Waits.release.clear()
    for name, driver in DRIVERS.items():
        DriverRegistry.register(name, driver)
    yield
    for name in DRIVERS:
        DriverRegistry.unregister(name)


def run(tmp_path: Path, steps: list[dict], **context):
    manifest = {"pipeline": "t", "steps": steps}
    session = ExecutionContext(session_dir=str(tmp_path / "session"), **context)
    with AdapterFactory.create("local") as adapter:
        return adapter.run(manifest, session)


def events_of(report) -> list[dict]:
    return list(read_events(Path(report.session_dir) / "events.jsonl"))


def statuses(report) -> dict[str, str]:
    return {step["step_id"]: step["status"] for step in report.steps}


def assert_true_ending(report) -> None:
    """status.json is the report, the journal ends with run.*, and each origin counts without a gap."""
    assert json.loads((Path(report.session_dir) / "status.json").read_text()) == report.to_json()
    events = events_of(report)
    assert events[-1]["event"] == ("run.complete" if report.succeeded else "run.error")
    assert events[-1]["status"] == report.status
    for origin in ("host", "engine"):
        numbers = [event["seq"] for event in events if event["origin"] == origin]
        assert numbers == list(range(1, len(numbers) + 1))
    assert not (Path(report.session_dir) / "work").exists()


def test_data_flows_from_step_to_step(tmp_path):
    """Two extracts reach one step under two names, and its JSON result is counted and told."""
    steps = [
        {"id": "total", "driver": "t.total", "inputs": {"a": "left", "b": "right.df"}},
        {"id": "left", "driver": "t.rows", "config": {"count": 4}},
        {"id": "right", "driver": "t.rows", "config": {"count": 3}},
    ]
    report = run(tmp_path, steps)
    assert report["status"] == "completed"
    complete = [event for event in events_of(report) if event["event"] == "step.complete"]
    assert complete[-1]["outputs"] == {"total": {"json": 9}}
    assert complete[-1]["rows_read"] == 7
    assert report.metrics["rows_read"] == 7
    assert_true_ending(report)


def test_steps_start_only_after_all_they_need(tmp_path):
    """A step listed first but needing the last runs last."""
    steps = [
        {"id": "c", "driver": "t.noop", "needs": ["b"]},
        {"id": "b", "driver": "t.noop", "needs": ["a"]},
        {"id": "a", "driver": "t.noop"},
    ]
    started = [event["step_id"] for event in events_of(run(tmp_path, steps)) if event["event"] == "step.start"]
    assert started == ["a", "b", "c"]


def test_independent_steps_run_side_by_side(tmp_path):
    """Two steps that wait for each other's arrival both complete."""
    Meets.barrier.reset()
    steps = [{"id": "a", "driver": "t.meets"}, {"id": "b", "driver": "t.meets"}]
    assert run(tmp_path, steps, max_parallel_steps=2).succeeded


def test_a_failure_stops_the_run_and_skips_what_depends_on_it(tmp_path):
    """After a failure nothing new starts; what waited for it is upstream_failed, the rest run_stopped."""
    steps = [
        {"id": "bad", "driver": "t.fails", "config": {"class": "user_error"}},
        {"id": "after", "driver": "t.noop", "needs": ["bad"]},
        {"id": "further", "driver": "t.noop", "needs": ["after"]},
        {"id": "other", "driver": "t.noop"},
    ]
    report = run(tmp_path, steps, max_parallel_steps=1)
    assert report.status == "failed"
    assert statuses(report) == {"bad": "failed", "after": "skipped", "further": "skipped", "other": "skipped"}
    reasons = {step["step_id"]: step["reason"] for step in report.steps}
    assert (reasons["after"], reasons["further"], reasons["other"]) == (
        "upstream_failed",
        "upstream_failed",
        "run_stopped",
    )
    assert report.error["failure_class"] == "user_error"
    assert report.error["message"] == "not yet"
    assert "Fails" not in report.error["traceback"].splitlines()[0]
    assert 'raise StepError("not yet"' in report.error["traceback"]
    assert_true_ending(report)


def test_what_a_failed_step_left_is_brought_home(tmp_path):
    """The files of the failing try are artifacts of the report."""
    report = run(tmp_path, [{"id": "bad", "driver": "t.fails"}])
    assert [artifact["path"] for artifact in report.artifacts] == ["bad/try-1.txt"]


def test_on_failure_continue_runs_what_does_not_depend_on_it(tmp_path):
    """Independent steps still complete, and the run is a failure all the same."""
    steps = [
        {"id": "bad", "driver": "t.fails"},
        {"id": "after", "driver": "t.noop", "needs": ["bad"]},
        {"id": "other", "driver": "t.noop"},
    ]
    report = run(tmp_path, steps, max_parallel_steps=1, on_failure="continue")
    assert report.status == "failed"
    assert statuses(report) == {"bad": "failed", "after": "skipped", "other": "completed"}


def test_a_retry_that_succeeds(tmp_path):
    """Each try gets an empty artifacts directory and a fresh driver; only the last one's files stay."""
    retry = {"attempts": 3, "backoff_s": 0.01, "jitter_s": 0}
    report = run(tmp_path, [{"id": "a", "driver": "t.fails", "config": {"succeed_on": 3}, "retry": retry}])
    assert report.succeeded
    assert report.steps[0]["attempts"] == 3
    names = [event["event"] for event in events_of(report) if event.get("step_id") == "a"]
    wanted = ["step.start", "artifact", "step.retry"] * 2 + ["step.start", "artifact", "step.complete"]
    assert names == wanted
    assert [artifact["path"] for artifact in report.artifacts] == ["a/try-3.txt"]
    assert_true_ending(report)


def test_a_class_that_is_not_worth_it_is_not_tried_again(tmp_path):
    """A user_error fails at the first try whatever the number of attempts."""
    retry = {"attempts": 5, "backoff_s": 0}
    report = run(tmp_path, [{"id": "a", "driver": "t.fails", "config": {"class": "user_error"}, "retry": retry}])
    assert (report.status, report.steps[0]["attempts"]) == ("failed", 1)


def test_cancel_ends_the_pause_before_a_retry(tmp_path):
    """A run that waits an hour for its next try is cancelled at once."""
    retry = {"attempts": 2, "backoff_s": 3600, "max_backoff_s": 3600}
    adapter = AdapterFactory.create("local")
    threading.Timer(0.3, adapter.cancel, ["enough"]).start()
    session = ExecutionContext(session_dir=str(tmp_path / "session"))
    manifest = {"steps": [{"id": "a", "driver": "t.fails", "retry": retry}]}
    started_s = time.monotonic()
    report = adapter.run(manifest, session)
    assert report.status == "cancelled"
    assert time.monotonic() - started_s < 30
    assert_true_ending(report)


def test_a_step_that_takes_too_long_is_stopped(tmp_path):
    """Its hooks run, the report says timeout and names the limit, the file it had written is kept."""
    report = run(
        tmp_path, [{"id": "a", "driver": "t.waits", "timeout_s": 0.2}, {"id": "b", "driver": "t.noop", "needs": ["a"]}]
    )
    assert report.status == "timeout"
    assert report.error["failure_class"] == "timeout"
    assert report.error["message"] == "step 'a' took longer than its 0.2 s"
    assert statuses(report) == {"a": "timeout", "b": "skipped"}
    assert [artifact["path"] for artifact in report.artifacts] == ["a/before.txt"]
    assert_true_ending(report)


def test_a_run_that_takes_too_long_is_stopped(tmp_path):
    """Every running step is stopped, and the limit is named."""
    report = run(tmp_path, [{"id": "a", "driver": "t.waits"}, {"id": "b", "driver": "t.waits"}], timeout=0.3)
    assert report.status == "timeout"
    assert report.error["message"] == "the run took longer than 0.3 s"
    assert_true_ending(report)


def test_a_step_that_does_not_stop_is_left_behind_and_can_publish_nothing(tmp_path):
    """After the grace the run ends without it; what it does later reaches neither journal nor artifacts."""
    report = run(tmp_path, [{"id": "a", "driver": "t.waits", "config": {"deaf": True}, "timeout_s": 0.1}])
    assert report.status == "timeout"
    assert report.steps[0]["abandoned"] is True
    assert report.artifacts == []
    before = (Path(report.session_dir) / "events.jsonl").read_bytes()
    Waits.release.set()
    deadline_s = time.monotonic() + 10
    while Waits.release.is_set() and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert not Waits.release.is_set(), "the abandoned thread did not see its fence"
    assert (Path(report.session_dir) / "events.jsonl").read_bytes() == before
    assert not list((Path(report.session_dir) / "artifacts").glob("**/*.txt"))
    assert_true_ending(report)


def test_cancel_from_another_thread(tmp_path):
    """The run ends cancelled with the reason; steps that never started are skipped."""
    adapter = AdapterFactory.create("local")
    threading.Timer(0.3, adapter.cancel, ["no longer wanted"]).start()
    steps = [{"id": "a", "driver": "t.waits"}, {"id": "b", "driver": "t.noop", "needs": ["a"]}]
    report = adapter.run({"steps": steps}, ExecutionContext(session_dir=str(tmp_path / "session")))
    assert report.status == "cancelled"
    assert report.error["message"] == "the run was cancelled: no longer wanted"
    assert statuses(report) == {"a": "cancelled", "b": "skipped"}
    assert_true_ending(report)


def test_a_driver_that_exits_fails_its_step(tmp_path):
    """SystemExit in a driver ends the step, not the caller's process."""
    report = run(tmp_path, [{"id": "a", "driver": "t.leaves"}])
    assert (report.status, report.error["type"]) == ("failed", "SystemExit")


def test_an_output_that_was_not_given_is_a_clear_error(tmp_path):
    """The message says what the step gave instead."""
    steps = [
        {"id": "a", "driver": "t.total", "inputs": {}},
        {"id": "b", "driver": "t.noop", "inputs": {"x": "a.totl"}},
    ]
    report = run(tmp_path, steps)
    expected = "input 'x' of step 'b': step 'a' gave total; it has no output 'totl' (did you mean 'total'?)"
    assert report.error["message"] == expected


def test_the_books_balance(tmp_path):
    """The parts of the wall time add up to it, and to what a stopwatch outside says."""
    steps = [{"id": f"s{index}", "driver": "t.noop"} for index in range(50)]
    started_s = time.monotonic()
    report = run(tmp_path, steps)
    outside_ms = (time.monotonic() - started_s) * 1000
    timings = report.timings
    assert sum(value for name, value in timings.items() if name != "wall_ms") == pytest.approx(timings["wall_ms"])
    assert timings["wall_ms"] <= outside_ms
    assert outside_ms - timings["wall_ms"] < 50 + 0.2 * outside_ms


def test_tables_beyond_the_budget_go_through_the_disk(tmp_path):
    """The same result comes out when nothing fits, and no table is left on disk."""
    steps = [
        {"id": "rows", "driver": "t.rows", "config": {"count": 100_000}},
        {"id": "total", "driver": "t.total", "inputs": {"df": "rows"}},
    ]
    report = run(tmp_path, steps, memory_budget_bytes=1000, checkpoint="never")
    assert report.succeeded
    complete = [event for event in events_of(report) if event["event"] == "step.complete"]
    assert complete[-1]["outputs"] == {"total": {"json": sum(range(100_000))}}
    assert not list(Path(report.session_dir).rglob("*.arrow"))


def test_ctrl_c_in_the_caller_stops_the_steps_and_is_raised_again(tmp_path):
    """KeyboardInterrupt reaches the caller, after the report was written."""
    import _thread

    threading.Timer(0.5, _thread.interrupt_main).start()
    session = ExecutionContext(session_dir=str(tmp_path / "session"))
    with pytest.raises(KeyboardInterrupt):
        AdapterFactory.create("local").run({"steps": [{"id": "a", "driver": "t.waits"}]}, session)
    status = json.loads((tmp_path / "session" / "status.json").read_text())
    assert status["status"] == "cancelled"
    assert [step["status"] for step in status["steps"]] == ["cancelled"]
    assert list(read_events(tmp_path / "session" / "events.jsonl"))[-1]["event"] == "run.error"


def test_a_chatty_step_loses_nothing(tmp_path):
    """10,000 events of one step are all there, in order."""

    class Chatty:
        def run(self, step_id, config, inputs, ctx):
            for number in range(10_000):
                ctx.event("said", number=number)

    DriverRegistry.register("t.chatty", Chatty)
    try:
        report = run(tmp_path, [{"id": "a", "driver": "t.chatty"}])
    finally:
        DriverRegistry.unregister("t.chatty")
    said = [event["data"]["number"] for event in events_of(report) if event["event"] == "step.event"]
    assert said == list(range(10_000))
