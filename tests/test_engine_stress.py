"""The engine under attack: many steps, random graphs, full disks, no threads left, Ctrl-C at bad moments, leaks."""

from __future__ import annotations

import _thread
import errno
import gc
import json
import os
import random
import threading
import time
import weakref
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from osiris_core import AdapterFactory, DriverRegistry, ExecutionContext, read_events
from osiris_core.errors import StepFenced
from osiris_core.journal import Journal


class Noop:
    def run(self, step_id, config, inputs, ctx):
        return {"n": 1}


class MayFail:
    def run(self, step_id, config, inputs, ctx):
        if config.get("fail"):
            raise ValueError("no")
        return {"n": step_id}


class Blocks:
    """Works on until `release`, whatever it is asked; says when it began and ended."""

    release = threading.Event()
    ended = threading.Event()

    def run(self, step_id, config, inputs, ctx):
        (ctx.work_dir / "big.bin").write_bytes(b"x")
        Blocks.release.wait(30)
        Blocks.ended.set()
        return {"df": pa.table({"n": [1]})}


class Waits:
    def run(self, step_id, config, inputs, ctx):
        stop = threading.Event()
        ctx.on_cancel(stop.set)
        stop.wait(30)
        ctx.raise_if_cancelled()


class Slow:
    """Slower than its time limit the first time."""

    def run(self, step_id, config, inputs, ctx):
        (ctx.artifacts_dir / f"{ctx.attempt}.txt").write_text("x")
        stop = threading.Event()
        ctx.on_cancel(stop.set)
        if ctx.attempt == 1:
            stop.wait(30)
        return {"tries": ctx.attempt}


DRIVERS = {"t.noop": Noop, "t.may_fail": MayFail, "t.blocks": Blocks, "t.waits": Waits, "t.slow": Slow}


@pytest.fixture(autouse=True)
def drivers():
    Blocks.release.clear()
    Blocks.ended.clear()
    for name, driver in DRIVERS.items():
        DriverRegistry.register(name, driver)
    yield
    Blocks.release.set()
    for name in DRIVERS:
        DriverRegistry.unregister(name)


@pytest.fixture
def short_grace(monkeypatch):
    monkeypatch.setattr("osiris_core.engine.GRACE_S", 0.2)


def run(folder: Path, steps: list[dict], **context):
    session = ExecutionContext(session_dir=str(folder / "session"), **context)
    with AdapterFactory.create("local") as adapter:
        return adapter.run({"steps": steps}, session)


def events_of(report) -> list[dict]:
    return list(read_events(Path(report.session_dir) / "events.jsonl"))


def statuses(report) -> dict[str, str]:
    return {step["step_id"]: step["status"] for step in report.steps}


def assert_true_status(report) -> None:
    status = json.loads((Path(report.session_dir) / "status.json").read_text())
    assert status == report.to_json()
    timings = report.timings
    assert sum(value for name, value in timings.items() if name != "wall_ms") == pytest.approx(timings["wall_ms"])


# Many steps.


def test_a_chain_of_two_thousand_steps(tmp_path):
    """Each reads the one before; all run, in order, once."""
    steps = [{"id": "s0", "driver": "t.noop"}]
    steps += [{"id": f"s{n}", "driver": "t.noop", "inputs": {"n": f"s{n - 1}"}} for n in range(1, 2_000)]
    report = run(tmp_path, steps)
    assert report.succeeded
    started = [event["step_id"] for event in events_of(report) if event["event"] == "step.start"]
    assert started == [f"s{n}" for n in range(2_000)]


def test_a_fan_out_of_two_hundred(tmp_path):
    """Two hundred steps between one and one; each runs once, the last one last."""
    middle = [{"id": f"m{n}", "driver": "t.noop", "needs": ["first"]} for n in range(200)]
    last = {"id": "last", "driver": "t.noop", "needs": [step["id"] for step in middle]}
    report = run(tmp_path, [last, *middle, {"id": "first", "driver": "t.noop"}], max_parallel_steps=8)
    assert report.succeeded
    started = [event["step_id"] for event in events_of(report) if event["event"] == "step.start"]
    assert (started[0], started[-1], len(set(started)), len(started)) == ("first", "last", 202, 202)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 1 << 32),
    parallel=st.integers(1, 5),
    on_failure=st.sampled_from(["stop", "continue"]),
)
def test_any_graph(tmp_path_factory, seed, parallel, on_failure):
    """Every step runs at most once and after all it needs; statuses, journal and report say the same."""
    dice = random.Random(seed)
    ids = [f"s{number}" for number in range(dice.randint(1, 12))]
    steps = []
    for number, step_id in enumerate(ids):
        before = [other for other in ids[:number] if dice.random() < 0.3]
        steps.append(
            {
                "id": step_id,
                "driver": "t.may_fail",
                "config": {"fail": dice.random() < 0.1},
                "inputs": {f"i{n}": other for n, other in enumerate(before[::2])},
                "needs": before[1::2],
            }
        )
    dice.shuffle(steps)
    report = run(tmp_path_factory.mktemp("graph"), steps, max_parallel_steps=parallel, on_failure=on_failure)
    events = events_of(report)
    found = statuses(report)
    ended: set[str] = set()
    started: list[str] = []
    upstream = {step["id"]: {*step["inputs"].values(), *step["needs"]} for step in steps}
    for event in events:
        if event["event"] == "step.start":
            started.append(event["step_id"])
            assert upstream[event["step_id"]] <= ended
        elif event["event"] == "step.complete":
            ended.add(event["step_id"])
    assert len(started) == len(set(started))
    for step in steps:
        blocked = any(found[other] != "completed" for other in upstream[step["id"]])
        if found[step["id"]] == "skipped":
            assert blocked or (on_failure == "stop" and report.status == "failed")
        else:
            assert found[step["id"]] == ("failed" if step["config"]["fail"] else "completed")
    assert (report.status == "completed") == (set(found.values()) == {"completed"})
    assert {
        event["step_id"] for event in events if event["event"] in ("step.complete", "step.error", "step.skipped")
    } == {*ids}
    assert_true_status(report)


# What is left behind.


def test_two_hundred_runs_leave_no_file_open_and_no_thread(tmp_path):
    """Neither good nor failing runs leak descriptors, threads or locks."""
    steps = [{"id": "a", "driver": "t.may_fail"}, {"id": "b", "driver": "t.may_fail", "config": {"fail": True}}]
    run(tmp_path, steps)
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    threads = {*threading.enumerate()}
    for _ in range(100):
        run(tmp_path, steps)
        run(tmp_path, steps[:1], resume=True)
    assert len(os.listdir("/proc/self/fd")) <= before
    assert not [thread for thread in {*threading.enumerate()} - threads if thread.name.startswith("osiris-")]


def test_a_table_is_let_go_when_its_last_reader_is_done(tmp_path):
    """While a later step runs, nothing refers any more to what earlier ones handed over, also after a failed try."""
    made: list[weakref.ref] = []
    alive: list[bool] = []

    class Makes:
        def run(self, step_id, config, inputs, ctx):
            table = pa.table({"n": list(range(1000))})
            made.append(weakref.ref(table.column("n").chunk(0)))
            return {"df": table}

    class Reads:
        def run(self, step_id, config, inputs, ctx):
            made.append(weakref.ref(inputs["df"]))
            if ctx.attempt == 1:
                raise ConnectionError("again")
            return {"n": 1}

    class Looks:
        def run(self, step_id, config, inputs, ctx):
            alive.extend(ref() is not None for ref in made)

    DriverRegistry.register("t.makes", Makes)
    DriverRegistry.register("t.reads", Reads)
    DriverRegistry.register("t.looks", Looks)
    steps = [
        {"id": "a", "driver": "t.makes"},
        {
            "id": "b",
            "driver": "t.reads",
            "inputs": {"df": "a"},
            "retry": {"attempts": 2, "backoff_s": 0, "jitter_s": 0},
        },
        {"id": "between", "driver": "t.noop", "needs": ["b"]},
        {"id": "c", "driver": "t.looks", "needs": ["between"]},
    ]
    try:
        assert run(tmp_path, steps, max_parallel_steps=1, checkpoint="never").succeeded
    finally:
        for name in ("t.makes", "t.reads", "t.looks"):
            DriverRegistry.unregister(name)
    gc.collect()
    assert alive[1:] == [False, False]


def test_a_work_directory_goes_with_its_step(tmp_path):
    """Disk use of one step does not add up with that of the next."""
    seen: list[list[str]] = []

    class Works:
        def run(self, step_id, config, inputs, ctx):
            (ctx.work_dir / "scratch").write_text("x")
            seen.append(sorted(path.name for path in ctx.work_dir.parent.iterdir()))

    DriverRegistry.register("t.works", Works)
    try:
        steps = [{"id": "a", "driver": "t.works"}, {"id": "b", "driver": "t.works", "needs": ["a"]}]
        assert run(tmp_path, steps).succeeded
    finally:
        DriverRegistry.unregister("t.works")
    assert seen == [["a.1"], ["b.1"]]


def test_a_thread_that_a_driver_left_running_publishes_nothing_afterwards(tmp_path):
    """When the step is over, its context is closed for good."""
    raised: list[str] = []
    go = threading.Event()

    class Leaves:
        def run(self, step_id, config, inputs, ctx):
            def late():
                go.wait(10)
                for publish in (lambda: ctx.log("late"), lambda: ctx.artifacts_dir, lambda: ctx.work_dir):
                    try:
                        publish()
                    except StepFenced as exc:
                        raised.append(type(exc).__name__)

            self.thread = threading.Thread(target=late)
            self.thread.start()
            threads.append(self.thread)

    threads: list[threading.Thread] = []
    DriverRegistry.register("t.leaves", Leaves)
    try:
        report = run(tmp_path, [{"id": "a", "driver": "t.leaves"}])
    finally:
        DriverRegistry.unregister("t.leaves")
    go.set()
    threads[0].join(10)
    assert raised == ["StepFenced"] * 3
    assert not (Path(report.session_dir) / "work").exists()
    assert not (Path(report.session_dir) / "artifacts" / "a").exists()


# Abandoned steps.


def test_with_one_slot_an_abandoned_step_does_not_block_the_others(tmp_path, short_grace):
    """`on_failure=continue` goes on beside the thread that was left behind; its end later changes nothing."""
    steps = [
        {"id": "stuck", "driver": "t.blocks", "timeout_s": 0.1},
        {"id": "reads", "driver": "t.noop", "inputs": {"df": "stuck"}},
        {"id": "other", "driver": "t.noop"},
    ]
    report = run(tmp_path, steps, max_parallel_steps=1, on_failure="continue")
    assert statuses(report) == {"stuck": "timeout", "reads": "skipped", "other": "completed"}
    before = (Path(report.session_dir) / "events.jsonl").read_bytes()
    Blocks.release.set()
    assert Blocks.ended.wait(10)
    time.sleep(0.1)
    assert (Path(report.session_dir) / "events.jsonl").read_bytes() == before
    assert_true_status(report)


def test_the_pause_before_a_retry_counts_against_no_time_limit(tmp_path, short_grace):
    """A step that ran out of time waits longer than limit and grace for its next try, which then completes."""
    retry = {"attempts": 2, "backoff_s": 1.0, "jitter_s": 0}
    report = run(tmp_path, [{"id": "a", "driver": "t.slow", "timeout_s": 0.3, "retry": retry}])
    assert report.succeeded, report.error
    assert report.steps[0]["attempts"] == 2
    assert [item["path"] for item in report.artifacts] == ["a/2.txt"]


def test_cancel_in_the_pause_keeps_what_the_last_try_left(tmp_path):
    """The artifacts in the report are there, and the run is cancelled, not timed out."""
    retry = {"attempts": 2, "backoff_s": 600, "jitter_s": 0, "max_backoff_s": 600}
    adapter = AdapterFactory.create("local")
    session = ExecutionContext(session_dir=str(tmp_path / "session"))
    threading.Timer(0.8, adapter.cancel, ["enough"]).start()
    report = adapter.run({"steps": [{"id": "a", "driver": "t.slow", "timeout_s": 0.2, "retry": retry}]}, session)
    assert (report.status, statuses(report)) == ("cancelled", {"a": "cancelled"})
    assert report.error["message"] == "the run was cancelled: enough"
    assert [item["path"] for item in report.artifacts] == ["a/1.txt"]
    assert (tmp_path / "session" / "artifacts" / "a" / "1.txt").exists()


# What the system refuses.


@pytest.mark.parametrize("after", [0, 1, 2, 3, 5, 8])
def test_a_journal_that_cannot_be_written(tmp_path, monkeypatch, after):
    """Wherever the disk fills up, the run ends, its steps are stopped, and status.json says why."""
    append, written = Journal.append, []

    def full(self, line):
        if len(written) >= after:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(line)
        append(self, line)

    monkeypatch.setattr(Journal, "append", full)
    steps = [{"id": "waits", "driver": "t.waits"}] if after > 2 else []
    steps += [{"id": f"s{n}", "driver": "t.noop"} for n in range(6)]
    report = run(tmp_path, steps, max_parallel_steps=2)
    assert report.status == "failed"
    assert report.error["failure_class"] == "resource_denied"
    assert "No space left" in report.error["message"]
    assert_true_status(report)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("osiris-step")]


@pytest.mark.parametrize("allowed", [0, 1, 2])
def test_no_more_threads(tmp_path, monkeypatch, allowed):
    """With too few threads the run goes on with those it has, or fails as a denied resource; it never hangs."""
    start, started = threading.Thread.start, []

    def refused(self):
        if self.name.startswith("osiris-"):
            if len(started) >= allowed:
                raise RuntimeError("can't start new thread")
            started.append(self.name)
        start(self)

    monkeypatch.setattr(threading.Thread, "start", refused)
    report = run(tmp_path, [{"id": f"s{n}", "driver": "t.noop"} for n in range(20)], max_parallel_steps=4)
    assert report.status == ("completed" if allowed == 2 else "failed")
    if allowed < 2:
        assert report.error["failure_class"] == "resource_denied"
    assert_true_status(report)


@pytest.mark.parametrize("where", ["_take_over_finished", "_watch", "_staff", "_end"])
def test_a_mistake_of_our_own_ends_the_run(tmp_path, monkeypatch, where):
    """An exception in the engine itself is a failed run of class adapter_bug, with a report."""
    from osiris_core.engine import Engine

    def broken(self, *_):
        raise LookupError("a bug")

    monkeypatch.setattr(Engine, where, broken)
    report = run(tmp_path, [{"id": "a", "driver": "t.noop"}])
    assert report.status == "failed"
    assert report.error["failure_class"] == "adapter_bug"
    assert "a bug" in report.error["message"]
    assert_true_status(report)
    assert run(tmp_path / "next", [{"id": "a", "driver": "t.noop"}]).status == "failed"


@pytest.mark.parametrize(
    "where",
    [
        "osiris_core.engine_run.DigestQueue",
        "osiris_core.engine_run.ResumeKeys",
        "osiris_core.engine_run.plan_resume",
        "osiris_core.engine_run.make_place",
        "osiris_core.adapter.Redactor",
        "osiris_core.collection.check_artifacts",
    ],
)
def test_an_exception_in_any_phase(tmp_path, monkeypatch, where):
    """The run is a failed one, status.json says so, and the session is free again."""

    def broken(*_):
        raise LookupError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(where, broken)
        report = run(tmp_path, [{"id": "a", "driver": "t.noop"}], resume=True)
    assert (report.status, report.error["failure_class"]) == ("failed", "adapter_bug")
    assert_true_status(report)
    assert run(tmp_path, [{"id": "a", "driver": "t.noop"}]).succeeded


# Ctrl-C.


def run_until_pressed(session: ExecutionContext, timer: threading.Timer) -> None:
    try:
        AdapterFactory.create("local").run({"steps": [{"id": "a", "driver": "t.waits"}]}, session)
    finally:
        timer.join()


@pytest.mark.parametrize("times", [1, 3])
def test_ctrl_c_any_number_of_times(tmp_path, times):
    """KeyboardInterrupt comes out once all is stopped and written, however often it was pressed."""

    def press():
        for _ in range(times):
            _thread.interrupt_main()
            time.sleep(0.05)

    session = ExecutionContext(session_dir=str(tmp_path / "session"))
    timer = threading.Timer(0.3, press)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        run_until_pressed(session, timer)
    assert json.loads((tmp_path / "session" / "status.json").read_text())["status"] == "cancelled"
    assert list(read_events(tmp_path / "session" / "events.jsonl"))[-1]["event"] == "run.error"


def test_cancel_from_a_signal_handler_at_any_moment(tmp_path):
    """A handler that cancels in the middle of whatever the main thread does dead-locks nothing."""
    import signal

    for delay_s in (0.001, 0.003, 0.01, 0.05):
        adapter = AdapterFactory.create("local")
        before = signal.signal(signal.SIGALRM, lambda *_, adapter=adapter: adapter.cancel("alarm"))
        try:
            signal.setitimer(signal.ITIMER_REAL, delay_s, 0.01)
            session = ExecutionContext(session_dir=str(tmp_path / f"s{delay_s}"), timeout=20)
            report = adapter.run({"steps": [{"id": "a", "driver": "t.waits"}]}, session)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert report.status == "cancelled"
        assert_true_status(report)


def test_cancel_before_the_run_and_after_it(tmp_path):
    """Between prepare and execute it stops the run before its first step; after the end it stops nothing."""
    adapter = AdapterFactory.create("local")
    session = ExecutionContext(session_dir=str(tmp_path / "session"))
    prepared = adapter.prepare({"steps": [{"id": "a", "driver": "t.noop"}]}, session)
    adapter.cancel("too early")
    with pytest.raises(Exception, match="too early"):
        adapter.execute(prepared, session)
    assert adapter.collect(prepared, session).status == "cancelled"
    adapter.cancel("too late")
    prepared = adapter.prepare({"steps": [{"id": "a", "driver": "t.noop"}]}, session)
    adapter.execute(prepared, session)
    assert adapter.collect(prepared, session).succeeded
