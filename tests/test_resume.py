"""Resume: what still holds is taken over, what does not runs again, and the reason is the true one."""

from __future__ import annotations

import time
from pathlib import Path

import pyarrow as pa
import pytest

from osiris_core import AdapterFactory, DriverRegistry, ExecutionContext, read_events

RAN: list[str] = []


class Slow:
    """Takes long enough that keeping its output pays."""

    deterministic = True

    def run(self, step_id, config, inputs, ctx):
        RAN.append(step_id)
        time.sleep(0.05)
        return {"df": pa.table({"n": [config.get("n", 1), 2]})}


class Dice(Slow):
    """The same, but nobody promises the same result."""

    deterministic = False


class Doubles:
    deterministic = True

    def run(self, step_id, config, inputs, ctx):
        RAN.append(step_id)
        time.sleep(0.05)
        return {"df": pa.table({"n": [2 * n for n in inputs["df"].column("n").to_pylist()]})}


class Writes:
    """Fails until the file `config.wait_for` is there."""

    def run(self, step_id, config, inputs, ctx):
        RAN.append(step_id)
        (ctx.artifacts_dir / "out.txt").write_text(str(inputs["df"].column("n").to_pylist()))
        if config.get("wait_for") and not Path(config["wait_for"]).exists():
            raise RuntimeError("not yet")


@pytest.fixture(autouse=True)
def drivers():
    RAN.clear()
    known = {"t.slow": Slow, "t.dice": Dice, "t.doubles": Doubles, "t.writes": Writes}
    for name, driver in known.items():
        DriverRegistry.register(name, driver)
    yield
    for name in known:
        DriverRegistry.unregister(name)


def manifest(tmp_path: Path, *, first: str = "t.slow", n: int = 1, password: bool = False) -> dict:
    config = {"n": n, **({"password": "${PW}"} if password else {})}
    return {
        "steps": [
            {"id": "first", "driver": first, "config": config},
            {"id": "second", "driver": "t.doubles", "inputs": {"df": "first"}},
            {
                "id": "third",
                "driver": "t.writes",
                "inputs": {"df": "second"},
                "config": {"wait_for": str(tmp_path / "go")},
            },
        ]
    }


def run(tmp_path: Path, plan: dict, **settings):
    RAN.clear()
    context = ExecutionContext(session_dir=str(tmp_path / "session"), **settings)
    return AdapterFactory.create("local").run(plan, context)


def statuses(report) -> list[str]:
    return [step["status"] for step in report.steps]


def test_a_failed_run_continues_where_it_failed(tmp_path):
    """Only the step that failed runs again, and the result is the uninterrupted run's."""
    plan = manifest(tmp_path)
    assert statuses(run(tmp_path, plan)) == ["completed", "completed", "failed"]
    (tmp_path / "go").touch()
    report = run(tmp_path, plan, resume=True)
    assert statuses(report) == ["reused", "reused", "completed"]
    assert RAN == ["third"]
    assert (tmp_path / "session" / "artifacts" / "third" / "out.txt").read_text() == "[2, 4]"
    reused = [
        event["step_id"]
        for event in read_events(tmp_path / "session" / "events.jsonl")
        if event.get("reason") == "reused"
    ]
    assert reused == ["first", "second"]


def test_a_complete_run_is_taken_over_whole(tmp_path):
    """Nothing runs, and its artifacts are those of the first attempt."""
    (tmp_path / "go").touch()
    first = run(tmp_path, manifest(tmp_path))
    again = run(tmp_path, manifest(tmp_path), resume=True)
    assert (RAN, statuses(again)) == ([], ["reused"] * 3)
    assert again.artifacts == first.artifacts
    assert again.metrics["rows_written"] == first.metrics["rows_written"]


def test_without_resume_everything_runs(tmp_path):
    """An earlier attempt is never taken over unless that was asked for."""
    (tmp_path / "go").touch()
    run(tmp_path, manifest(tmp_path))
    assert statuses(run(tmp_path, manifest(tmp_path))) == ["completed"] * 3


def test_a_changed_configuration_runs_the_step_and_what_reads_it(tmp_path):
    """The change reaches the end of the pipeline."""
    (tmp_path / "go").touch()
    run(tmp_path, manifest(tmp_path))
    run(tmp_path, manifest(tmp_path, n=10), resume=True)
    assert RAN == ["first", "second", "third"]
    assert (tmp_path / "session" / "artifacts" / "third" / "out.txt").read_text() == "[20, 4]"


def test_a_changed_secret_runs_the_step_again(tmp_path):
    """The value counts although it is written nowhere."""
    (tmp_path / "go").touch()
    plan = manifest(tmp_path, password=True)
    run(tmp_path, plan, environment={"PW": "one"})
    run(tmp_path, plan, environment={"PW": "one"}, resume=True)
    assert RAN == []
    run(tmp_path, plan, environment={"PW": "two"}, resume=True)
    assert RAN == ["first", "second", "third"]


def test_a_changed_input_file_runs_the_step_again(tmp_path):
    """By content: touching the file changes nothing, another byte does."""
    import os

    source = tmp_path / "in.csv"
    source.write_text("a\n1\n")
    plan = {"steps": [{"id": "read", "driver": "filesystem.csv_extractor", "config": {"path": "in.csv"}}]}
    run(tmp_path, plan, base_dir=str(tmp_path))
    os.utime(source, (1, 1))
    assert statuses(run(tmp_path, plan, base_dir=str(tmp_path), resume=True)) == ["reused"]
    source.write_text("a\n2\n")
    assert statuses(run(tmp_path, plan, base_dir=str(tmp_path), resume=True)) == ["completed"]


def test_a_tampered_checkpoint_is_not_believed(tmp_path):
    """A kept output whose bytes changed is made again."""
    plan = manifest(tmp_path)
    run(tmp_path, plan)
    for path in (tmp_path / "session" / "checkpoints").iterdir():
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    (tmp_path / "go").touch()
    report = run(tmp_path, plan, resume=True)
    assert RAN == ["first", "second", "third"]
    assert report.succeeded


def test_a_tampered_artifact_is_not_believed(tmp_path):
    """A step whose file changed or vanished runs again."""
    (tmp_path / "go").touch()
    run(tmp_path, manifest(tmp_path))
    artifact = tmp_path / "session" / "artifacts" / "third" / "out.txt"
    artifact.write_text("[2, 5]")
    run(tmp_path, manifest(tmp_path), resume=True)
    assert RAN == ["third"]
    assert artifact.read_text() == "[2, 4]"


def test_what_reads_a_step_that_may_give_another_result_runs_again(tmp_path):
    """When a step that promises nothing runs again, so does all that reads it."""
    plan = manifest(tmp_path, first="t.dice")
    run(tmp_path, plan)
    for path in (tmp_path / "session" / "checkpoints").iterdir():
        path.unlink()
    run(tmp_path, plan, resume=True)
    assert RAN == ["first", "second", "third"]


def across_needs(tmp_path: Path, version: int, *, between: bool) -> dict:
    """`load` changes a file that `look` reads though it gets no data from it; `between` stands between the two."""
    table = tmp_path / "table.csv"
    look = {"query": f"SELECT * FROM '{table}'", "allow_files": True}
    return {
        "steps": [
            {"id": "load", "driver": "command", "config": {"shell": f"printf 'v\\n{version}\\n' > {table}"}},
            {"id": "wait", "driver": "t.slow", "needs": ["load"]},
            {"id": "look", "driver": "duckdb.processor", "needs": ["wait" if between else "load"], "config": look},
            {"id": "write", "driver": "filesystem.csv_writer", "inputs": {"df": "look"}, "config": {"path": "out.csv"}},
        ]
    }


@pytest.mark.parametrize("between", [False, True])
def test_what_looks_at_the_world_runs_again_after_what_it_needs(tmp_path, between):
    """A step that is not deterministic sees what a step did that it needs, near or far; one that is, is taken over."""
    first = run(tmp_path, across_needs(tmp_path, 1, between=between), checkpoint="always")
    assert first.succeeded
    report = run(tmp_path, across_needs(tmp_path, 2, between=between), resume=True, checkpoint="always")
    assert statuses(report) == ["completed", "reused", "completed", "completed"]
    assert (tmp_path / "session/artifacts/write/out.csv").read_text() == "v\n2\n"
    again = run(tmp_path, across_needs(tmp_path, 2, between=between), resume=True, checkpoint="always")
    assert statuses(again) == ["reused"] * 4


def test_what_ran_before_a_step_that_it_needs_runs_again(tmp_path):
    """Also when that step ran in an attempt that came to an end before it."""

    def plan(version: int, shell: str) -> dict:
        load, _, look, write = across_needs(tmp_path, version, between=False)["steps"]
        other = {"id": "other", "driver": "command", "config": {"shell": shell}}
        return {"steps": [load, other, look, write]}

    one = {"checkpoint": "always", "max_parallel_steps": 1}
    assert run(tmp_path, plan(1, "true"), **one).succeeded
    assert statuses(run(tmp_path, plan(2, "exit 1"), resume=True, **one)) == [
        "completed",
        "failed",
        "skipped",
        "skipped",
    ]
    report = run(tmp_path, plan(2, "true"), resume=True, **one)
    assert statuses(report) == ["reused", "completed", "completed", "completed"]
    assert (tmp_path / "session/artifacts/write/out.csv").read_text() == "v\n2\n"


@pytest.mark.parametrize("adapter", ["local", "process"])
@pytest.mark.parametrize("resume", [False, True])
def test_a_session_used_again_keeps_no_checkpoint_that_nobody_names(tmp_path, adapter, resume):
    """However often a step gave something else there, only what its last completion gave is kept."""

    def plan(n: int) -> dict:
        make = {"id": "make", "driver": "duckdb.processor", "config": {"query": f"SELECT {n} AS n"}}
        write = {"driver": "filesystem.csv_writer", "inputs": {"df": "make"}, "config": {"path": "n.csv"}}
        return {"steps": [make, {"id": "write", **write}]}

    for n in range(3):
        context = ExecutionContext(session_dir=str(tmp_path / "session"), checkpoint="always", resume=resume)
        assert AdapterFactory.create(adapter).run(plan(n), context).succeeded
        assert len(list((tmp_path / "session/checkpoints").iterdir())) == 1
    assert statuses(run(tmp_path, plan(2), resume=True)) == ["reused", "reused"]


def test_a_resume_that_fails_keeps_what_it_did_not_come_to(tmp_path):
    """A step that was not started again can still be taken over by the next resume."""
    (tmp_path / "go").touch()
    plan = manifest(tmp_path)
    run(tmp_path, plan, checkpoint="always")
    broken = {"steps": [{"id": "zero", "driver": "command", "config": {"shell": "exit 1"}}, *plan["steps"]]}
    broken["steps"][1] = {**broken["steps"][1], "needs": ["zero"], "config": {"n": 5}}
    assert statuses(run(tmp_path, broken, resume=True, checkpoint="always"))[:2] == ["failed", "skipped"]
    assert statuses(run(tmp_path, plan, resume=True, checkpoint="always"))[:2] == ["reused", "reused"]


def test_checkpoint_never_keeps_nothing(tmp_path):
    """Then a resume has to run all that is read again."""
    plan = manifest(tmp_path)
    run(tmp_path, plan, checkpoint="never")
    assert not (tmp_path / "session" / "checkpoints").exists()
    run(tmp_path, plan, resume=True)
    assert RAN == ["first", "second", "third"]


def test_auto_keeps_only_what_is_cheap_to_keep(tmp_path):
    """A step that took no time keeps no checkpoint, one that took 50 ms for two rows does."""

    class Quick:
        def run(self, step_id, config, inputs, ctx):
            return {"df": pa.table({"n": pa.nulls(4_000_000, pa.int64())})}  # 32 MB in no time

    DriverRegistry.register("t.quick", Quick)
    try:
        plan = {
            "steps": [
                {"id": "quick", "driver": "t.quick"},
                {"id": "reads", "driver": "t.doubles", "inputs": {"df": "quick"}},
                {"id": "ends", "driver": "t.writes", "inputs": {"df": "reads"}},
            ]
        }
        run(tmp_path, plan)
    finally:
        DriverRegistry.unregister("t.quick")
    kept = {
        event["step_id"]: "checkpoint" in event.get("outputs", {}).get("df", {})
        for event in read_events(tmp_path / "session" / "events.jsonl")
        if event["event"] == "step.complete"
    }
    assert kept["quick"] is False
