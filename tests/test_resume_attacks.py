"""Resume under attack: a crash at any line of the journal, lost checkpoints, results that change, odd outputs."""

from __future__ import annotations

import itertools
import shutil
import time
from pathlib import Path

import pyarrow as pa
import pytest

from osiris_core import AdapterFactory, DriverRegistry, ExecutionContext, read_events

RAN: list[str] = []
COUNTER = itertools.count()


class Source:
    deterministic = True

    def run(self, step_id, config, inputs, ctx):
        RAN.append(step_id)
        if config.get("flaky") and ctx.attempt == 1:
            raise ConnectionError("once")
        return {"df": pa.table({"n": [1, 2]}), "large": ["x" * 50] * 200, "small": {"a": 1}}


class Dice:
    """Gives another number each time; the journal of an earlier run cannot know which."""

    def run(self, step_id, config, inputs, ctx):
        RAN.append(step_id)
        return {"df": pa.table({"n": [next(COUNTER)]})}


class Join:
    deterministic = True

    def run(self, step_id, config, inputs, ctx):
        RAN.append(step_id)
        rows = []
        for name in sorted(inputs):
            value = inputs[name]
            rows += value.column("n").to_pylist() if hasattr(value, "column") else [str(value)[:20]]
        (ctx.artifacts_dir / "rows.txt").write_text(repr(rows))
        return {"df": pa.table({"n": [hash_of(rows)]})}


def hash_of(rows: list) -> int:
    return sum(len(str(row)) * (n + 1) + (row if isinstance(row, int) else 0) for n, row in enumerate(rows))


class Odd:
    """Outputs that a masked journal does not hold as they are."""

    deterministic = True

    def run(self, step_id, config, inputs, ctx):
        RAN.append(step_id)
        return {"token": "open sesame", "row": {"password": "p", "nan": float("nan")}, "df": pa.table({"n": [1]})}


class Shows:
    def run(self, step_id, config, inputs, ctx):
        RAN.append(step_id)
        (ctx.artifacts_dir / "shown.txt").write_text(repr(sorted(inputs.items())))
        if not Path(config["go"]).exists():
            raise RuntimeError("not yet")


DRIVERS = {"r.source": Source, "r.dice": Dice, "r.join": Join, "r.odd": Odd, "r.shows": Shows}


@pytest.fixture(autouse=True)
def drivers():
    for name, driver in DRIVERS.items():
        DriverRegistry.register(name, driver)
    yield
    for name in DRIVERS:
        DriverRegistry.unregister(name)


def run(folder: Path, steps: list[dict], **settings):
    RAN.clear()
    settings = {"checkpoint": "always", "max_parallel_steps": 1, **settings}
    with AdapterFactory.create("local") as adapter:
        return adapter.run({"steps": steps}, ExecutionContext(session_dir=str(folder), **settings))


def artifacts(folder: Path) -> dict[str, bytes]:
    root = folder / "artifacts"
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_crash_at_any_line_of_the_journal(tmp_path):
    """Cut anywhere, also within a line, the resumed run ends with the artifacts of the uninterrupted one."""
    retry = {"attempts": 2, "backoff_s": 0, "jitter_s": 0}
    steps = [
        {"id": "a", "driver": "r.source", "config": {"flaky": True}, "retry": retry},
        {"id": "b", "driver": "r.join", "inputs": {"x": "a.df", "y": "a.small"}},
        {"id": "c", "driver": "r.join", "inputs": {"x": "a.df", "large": "a.large"}},
        {
            "id": "d",
            "driver": "r.join",
            "inputs": {"x": "b", "y": "c", "z": {"from_step": "a", "key": "none", "optional": True}},
        },
    ]
    whole = tmp_path / "whole"
    assert run(whole, steps).succeeded
    expected = artifacts(whole)
    lines = (whole / "events.jsonl").read_bytes().splitlines(keepends=True)
    for count in range(len(lines)):
        for torn in (b"", lines[count][:20]):
            crashed = tmp_path / f"crashed-{count}-{len(torn)}"
            shutil.copytree(whole, crashed)
            (crashed / "events.jsonl").write_bytes(b"".join(lines[:count]) + torn)
            report = run(crashed, steps, resume=True)
            assert report.succeeded
            assert artifacts(crashed) == expected, f"after {count} lines"
            done = {line for line in lines[:count] if b'"step.complete"' in line}
            assert len(RAN) <= 5 - len(done) + 2, "what was complete ran again without need"
            shutil.rmtree(crashed)


@pytest.mark.parametrize("lost", ["first", "second", "third"])
def test_results_that_change_reach_the_end(tmp_path, lost):
    """Whatever has to run again, in the end no step keeps what it made of an older input."""
    steps = [
        {"id": "dice", "driver": "r.dice"},
        {"id": "first", "driver": "r.join", "inputs": {"x": "dice"}},
        {"id": "second", "driver": "r.join", "inputs": {"x": "first"}},
        {"id": "third", "driver": "r.join", "inputs": {"x": "second", "y": "first"}},
    ]
    folder = tmp_path / "s"
    run(folder, steps)
    shutil.rmtree(folder / "checkpoints")
    (folder / "artifacts" / lost / "rows.txt").unlink()
    assert run(folder, steps, resume=True).succeeded
    rows = {name.split("/")[0]: eval(text) for name, text in artifacts(folder).items()}
    assert rows["second"] == [hash_of(rows["first"])]
    assert rows["third"] == [hash_of(rows["second"]), hash_of(rows["first"])]


def test_a_result_that_changed_in_a_run_that_crashed_reaches_the_end_in_the_next(tmp_path):
    """A deterministic step between the dice and the end hides nothing."""
    steps = [
        {"id": "dice", "driver": "r.dice"},
        {"id": "mid", "driver": "r.join", "inputs": {"x": "dice"}},
        {"id": "end", "driver": "r.join", "inputs": {"x": "mid"}},
    ]
    folder = tmp_path / "s"
    run(folder, steps)
    run(folder, steps[:2])  # the crash: `end` did not run again
    assert not (folder / "artifacts" / "end").exists()
    # As if its artifacts had survived the crash.
    (folder / "artifacts" / "end").mkdir()
    report = run(folder, steps, resume=True)
    assert report.succeeded
    assert "end" in RAN
    rows = {name.split("/")[0]: eval(text) for name, text in artifacts(folder).items()}
    assert rows["end"] == [hash_of(rows["mid"])]


def test_what_only_reused_steps_read_does_not_run_again(tmp_path):
    """Its output is gone, but nobody needs it."""
    steps = [
        {"id": "a", "driver": "r.source"},
        {"id": "b", "driver": "r.join", "inputs": {"x": "a.df"}},
        {"id": "c", "driver": "r.join", "inputs": {"x": "b"}},
    ]
    run(tmp_path / "s", steps)
    for event in read_events(tmp_path / "s" / "events.jsonl"):
        if event["event"] == "step.complete" and event["step_id"] == "a":
            (tmp_path / "s" / "checkpoints" / f"{event['outputs']['df']['checkpoint']}.arrow").unlink()
    (tmp_path / "s" / "artifacts" / "c" / "rows.txt").unlink()
    assert run(tmp_path / "s", steps, resume=True).succeeded
    assert RAN == ["c"]


def test_outputs_that_the_journal_masks_are_made_again(tmp_path):
    """A reader never gets asterisks, nor a text in place of a number, for what the step really gave."""
    steps = [
        {"id": "odd", "driver": "r.odd"},
        {
            "id": "shows",
            "driver": "r.shows",
            "inputs": {"t": "odd.token", "row": "odd.row"},
            "config": {"go": str(tmp_path / "go")},
        },
    ]
    run(tmp_path / "s", steps)
    before = artifacts(tmp_path / "s")["shows/shown.txt"]
    (tmp_path / "go").touch()
    assert run(tmp_path / "s", steps, resume=True).succeeded
    assert RAN == ["odd", "shows"]
    assert artifacts(tmp_path / "s")["shows/shown.txt"] == before
    assert b"open sesame" in before


def test_readers_of_one_json_output_do_not_see_each_others_changes(tmp_path):
    """Each gets its own copy."""

    class Changes:
        def run(self, step_id, config, inputs, ctx):
            assert inputs["x"] == {"a": 1}
            inputs["x"]["a"] = 2

    DriverRegistry.register("r.changes", Changes)
    try:
        steps = [{"id": "a", "driver": "r.source"}]
        steps += [{"id": f"c{n}", "driver": "r.changes", "inputs": {"x": "a.small"}} for n in range(3)]
        assert run(tmp_path / "s", steps).succeeded
    finally:
        DriverRegistry.unregister("r.changes")


def test_a_renamed_step_runs_under_its_new_name(tmp_path):
    """And what the old one left is no artifact any more."""
    steps = [{"id": "a", "driver": "r.source"}, {"id": "b", "driver": "r.join", "inputs": {"x": "a.df"}}]
    run(tmp_path / "s", steps)
    report = run(tmp_path / "s", [steps[0], {**steps[1], "id": "renamed"}], resume=True)
    assert (report.status, RAN) == ("completed", ["renamed"])
    assert set(artifacts(tmp_path / "s")) == {"renamed/rows.txt"}


def test_another_declared_environment_runs_what_may_see_it(tmp_path):
    """A step of a driver that gets the environment runs again; SQL, which does not, is reused."""
    sql = {"id": "sql", "driver": "duckdb.processor", "config": {"query": "SELECT 1 AS n", "threads": 1}}
    steps = [sql, {"id": "a", "driver": "r.source"}]
    run(tmp_path / "s", steps, environment={"REGION": "eu"})
    run(tmp_path / "s", steps, environment={"REGION": "eu"}, resume=True)
    assert RAN == []
    report = run(tmp_path / "s", steps, environment={"REGION": "us"}, resume=True)
    assert [step["status"] for step in report.steps] == ["reused", "completed"]


def test_a_driver_that_changed_in_this_process_is_noticed(tmp_path):
    """A class registered anew under the same name, as in a notebook, is another driver."""
    steps = [{"id": "a", "driver": "r.typed"}]
    for body in ("1", "2"):
        space: dict = {}
        exec(f"class Typed:\n    def run(self, step_id, config, inputs, ctx):\n        return {{'n': {body}}}", space)
        DriverRegistry.register("r.typed", space["Typed"])
        report = run(tmp_path / "s", steps, resume=True)
        assert report.steps[0]["status"] == "completed"
        again = run(tmp_path / "s", steps, resume=True)
        assert again.steps[0]["status"] == "reused"
        DriverRegistry.unregister("r.typed")


def test_a_step_that_wrote_its_own_spilled_table_hands_it_over_without_a_copy(tmp_path):
    """The file is moved, an input that is passed through is not, and both are read as they were."""
    from osiris_core.tables import write_ipc

    seen: list[tuple[int, bool]] = []

    class Spills:
        def run(self, step_id, config, inputs, ctx):
            table = pa.table({"n": list(range(1000))})
            spilled = write_ipc(ctx.work_dir / "own.arrow", table.schema, table.to_batches())
            seen.append((spilled.path.stat().st_ino, True))
            return {"df": spilled, "twice": spilled}

    class Passes:
        def run(self, step_id, config, inputs, ctx):
            path = getattr(inputs["df"], "path", None)
            if path is not None:
                seen.append((path.stat().st_ino, path.exists()))
            assert inputs["df"].num_rows == len(inputs["twice"]) == 1000
            return {"df": inputs["df"], "twice": inputs["twice"]}

    DriverRegistry.register("r.spills", Spills)
    DriverRegistry.register("r.passes", Passes)
    steps = [{"id": "a", "driver": "r.spills"}]
    for number, source in enumerate(("a", "b0", "b1")):
        inputs = {"df": f"{source}.df", "twice": f"{source}.twice"}
        steps.append({"id": f"b{number}", "driver": "r.passes", "inputs": inputs})
    try:
        report = run(tmp_path / "s", steps, memory_budget_bytes=1000, checkpoint="never")
    finally:
        DriverRegistry.unregister("r.spills")
        DriverRegistry.unregister("r.passes")
    assert report.succeeded, report.error
    assert seen[0][0] == seen[1][0], "the file was moved"
    assert not list((tmp_path / "s").rglob("*.arrow"))


def test_resume_of_a_long_chain_is_quick(tmp_path):
    """Not a figure: a planner that looks at every pair of steps would take minutes."""
    steps = [{"id": "s0", "driver": "r.source"}]
    steps += [{"id": f"s{n}", "driver": "r.join", "inputs": {"x": f"s{n - 1}.df"}, "needs": []} for n in range(1, 300)]
    run(tmp_path / "s", steps)
    started_s = time.monotonic()
    run(tmp_path / "s", steps, resume=True)
    assert RAN == []
    assert time.monotonic() - started_s < 20
