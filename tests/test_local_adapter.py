"""The contract of an adapter, on the local one: phases, seals, sessions, and the seed's own test as it was written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from osiris_core import (
    AdapterFactory,
    DriverRegistry,
    ExecutionContext,
    ExecutionError,
    LocalAdapter,
    PreparationError,
    PreparedRun,
    load_manifest,
    read_events,
)
from osiris_core.errors import PhaseError, SealBroken, SessionBusy


class Copies:
    """Writes what it is told into its artifacts."""

    def run(self, step_id, config, inputs, ctx):
        (ctx.artifacts_dir / "deep" / "er").mkdir(parents=True)
        (ctx.artifacts_dir / "deep" / "er" / "text.txt").write_text(config.get("text", ""))
        (ctx.artifacts_dir / "binary.bin").write_bytes(bytes(range(256)))
        (ctx.artifacts_dir / "empty").touch()


class Fails:
    def run(self, step_id, config, inputs, ctx):
        raise ValueError("no")


@pytest.fixture(autouse=True)
def drivers():
    DriverRegistry.register("t.copies", Copies)
    DriverRegistry.register("t.fails", Fails)
    yield
    DriverRegistry.unregister("t.copies")
    DriverRegistry.unregister("t.fails")


def context(tmp_path: Path, name: str = "session", **settings) -> ExecutionContext:
    return ExecutionContext(session_dir=str(tmp_path / name), **settings)


def test_the_seed_test_as_written(tmp_path, monkeypatch):
    """The test of the document this project was asked for with runs to the letter."""
    monkeypatch.chdir(tmp_path)
    Path("test.yaml").write_text(
        textwrap.dedent(
            """
            pipeline: seed
            steps:
              - id: make
                driver: duckdb.processor
                config: {query: "SELECT 1 AS a, '${MYSQL_PASSWORD}' AS b"}
              - id: write
                driver: filesystem.parquet_writer
                inputs: {df: "${make.df}"}
                config: {path: out.parquet}
            """
        )
    )

    adapter = LocalAdapter()
    manifest = load_manifest("test.yaml")
    context = ExecutionContext(
        session_id="test_123",
        session_dir=str(tmp_path / "test"),
        verbose=True,
        timeout=300,
        environment={"MYSQL_PASSWORD": "test"},
    )

    # Test prepare phase
    prepared = adapter.prepare(manifest, context)
    assert prepared.configs

    # Test execute phase
    adapter.execute(prepared, context)

    # Test collect phase
    results = adapter.collect(prepared, context)
    assert results["status"] == "completed"

    assert results["environment"] == "local"
    assert results["metrics"]["rows_written"] == 1
    assert [item["path"] for item in results["artifacts"]] == ["write/out.parquet"]
    assert results["session_id"] == "test_123", "a short secret value must not turn a report into asterisks"
    assert "***" not in json.dumps(results.to_json())


def test_artifacts_are_every_file_with_its_bytes(tmp_path):
    """Any depth, binary and empty ones, with size and sha256, also as one archive if asked for."""
    import hashlib
    import tarfile

    manifest = {"steps": [{"id": "a", "driver": "t.copies", "config": {"text": "žluťoučký"}}]}
    report = AdapterFactory.create("local", compress_artifacts=True).run(manifest, context(tmp_path))
    folder = Path(report.session_dir) / "artifacts"
    assert {item["path"] for item in report.artifacts} == {"a/deep/er/text.txt", "a/binary.bin", "a/empty"}
    for item in report.artifacts:
        data = (folder / item["path"]).read_bytes()
        assert item["size_bytes"] == len(data)
        assert item["sha256"] == hashlib.sha256(data).hexdigest()
    with tarfile.open(Path(report.session_dir) / "artifacts.tar.gz") as archive:
        packed = archive.extractfile("a/binary.bin")
        assert packed is not None
        assert packed.read() == bytes(range(256))


def test_prepare_writes_nothing_and_a_prepared_run_serialises(tmp_path):
    """Before execute there is not even a session directory; a PreparedRun survives JSON."""
    adapter = LocalAdapter()
    prepared = adapter.prepare({"steps": [{"id": "a", "driver": "t.copies"}]}, context(tmp_path))
    assert not (tmp_path / "session").exists()
    copy = PreparedRun.from_json(json.loads(json.dumps(prepared.to_json())))
    assert copy == prepared
    assert copy.compute_fingerprint() == prepared.fingerprint


def test_every_problem_at_once(tmp_path):
    """Unknown drivers, keys, steps, variables, files, connections and a cycle come in one error, each with its line."""
    path = tmp_path / "bad.yaml"
    path.write_text(
        textwrap.dedent(
            """
            pipeline: bad
            params: {n: {required: true}}
            steps:
              - id: one
                driver: duckdb.procesor
              - id: two
                driver: duckdb.processor
                config: {qury: x, query: "SELECT ${OSIRIS_TEST_UNSET}"}
                inputs: {x: onee}
              - id: three
                driver: filesystem.parquet_extractor
                config: {path: nowhere.parquet, connection: "@filesystem.data"}
                needs: [four]
              - id: four
                driver: filesystem.parquet_writer
                config: {path: ../out.parquet}
                needs: [three]
            """
        )
    )
    with pytest.raises(PreparationError) as caught:
        LocalAdapter().prepare(path, context(tmp_path))
    found = {(problem.step_id, problem.key): problem for problem in caught.value.problems}
    assert found[None, "params.n"].message == "must be given"
    assert "did you mean 'duckdb.processor'?" in found["one", "driver"].message
    assert found["one", "driver"].line == 6
    assert found["two", "config.qury"].hint == "did you mean 'query'?"
    assert found["two", "inputs.x"].hint == "did you mean 'one'?"
    assert "OSIRIS_TEST_UNSET" in found["two", None].message
    assert "no connection" in found["three", "config.connection"].message
    assert "nowhere.parquet" in found["three", "config.path"].message
    assert found["four", "config.path"].line == 17
    assert any("wait for each other" in problem.message for problem in caught.value.problems)
    assert all(problem.file == str(path) for problem in caught.value.problems if problem.key)
    assert sorted(os.listdir(tmp_path)) == ["bad.yaml"]


def test_execute_refuses_what_changed_since_prepare(tmp_path):
    """A manifest edited after prepare, or a prepared run changed by hand, is not run; the report says why."""
    path = tmp_path / "m.yaml"
    path.write_text("steps: [{id: a, driver: t.copies}]")
    adapter = LocalAdapter()
    session = context(tmp_path)
    prepared = adapter.prepare(path, session)
    path.write_text("steps: [{id: b, driver: t.copies}]")
    with pytest.raises(SealBroken, match=r"m\.yaml"):
        adapter.execute(prepared, session)
    report = adapter.collect(prepared, session)
    assert report.status == "failed"
    assert not (tmp_path / "session" / "artifacts").exists()

    session = context(tmp_path, "other")
    prepared = adapter.prepare(path, session)
    prepared.configs["b"] = {"text": "smuggled in"}
    with pytest.raises(SealBroken, match="itself was changed"):
        adapter.execute(prepared, session)
    adapter.close()


def test_execute_refuses_an_input_file_that_changed(tmp_path):
    """The sealed input of a step is checked before anything runs."""
    import pyarrow as pa
    import pyarrow.parquet

    pa.parquet.write_table(pa.table({"a": [1]}), tmp_path / "in.parquet")
    manifest = {"steps": [{"id": "a", "driver": "filesystem.parquet_extractor", "config": {"path": "in.parquet"}}]}
    adapter, session = LocalAdapter(), context(tmp_path, base_dir=str(tmp_path))
    prepared = adapter.prepare(manifest, session)
    pa.parquet.write_table(pa.table({"a": [1, 2]}), tmp_path / "in.parquet")
    with adapter, pytest.raises(SealBroken, match=r"in\.parquet"):
        adapter.execute(prepared, session)


def test_phases_have_an_order(tmp_path):
    """A phase out of order is refused and changes nothing; collect may be repeated; a session may be run again."""
    adapter, session = LocalAdapter(), context(tmp_path)
    manifest = {"steps": [{"id": "a", "driver": "t.copies"}]}
    prepared = adapter.prepare(manifest, session)
    with pytest.raises(PhaseError):
        adapter.collect(prepared, session)
    adapter.execute(prepared, session)
    with pytest.raises(PhaseError):
        adapter.execute(prepared, session)
    first = adapter.collect(prepared, session)
    assert adapter.collect(prepared, session) == first
    again = adapter.run(manifest, session)
    assert (again["attempt"], again.status) == (2, "completed")


def test_close_collects_what_was_executed(tmp_path):
    """A failed execute that nobody collects still leaves a true report, and closing twice is harmless."""
    adapter, session = LocalAdapter(), context(tmp_path)
    prepared = adapter.prepare({"steps": [{"id": "a", "driver": "t.fails"}]}, session)
    with pytest.raises(ExecutionError, match="step 'a' failed: no"):
        adapter.execute(prepared, session)
    adapter.close()
    adapter.close()
    assert json.loads((tmp_path / "session" / "status.json").read_text())["status"] == "failed"
    assert list(read_events(tmp_path / "session" / "events.jsonl"))[-1]["event"] == "run.error"


def test_two_controllers_on_one_session(tmp_path):
    """The second is refused by the name of the first one's process, and touches nothing."""
    from osiris_core.session import Session

    owner = Session.open(str(tmp_path / "session"), "mine")
    before = sorted(path.name for path in (tmp_path / "session").iterdir())
    try:
        with pytest.raises(SessionBusy, match=str(os.getpid())):
            LocalAdapter().run({"steps": [{"id": "a", "driver": "t.copies"}]}, context(tmp_path))
        assert sorted(path.name for path in (tmp_path / "session").iterdir()) == before
    finally:
        owner.close()


def test_a_second_run_in_a_session_replaces_the_first_ones_artifacts(tmp_path):
    """Without resume nothing of the earlier attempt is left among the artifacts; the journal keeps both."""
    session = context(tmp_path)
    AdapterFactory.create("local").run({"steps": [{"id": "a", "driver": "t.copies"}]}, session)
    report = AdapterFactory.create("local").run({"steps": [{"id": "b", "driver": "t.copies"}]}, session)
    assert {path.name for path in (tmp_path / "session" / "artifacts").iterdir()} == {"b"}
    attempts = {event["attempt"] for event in read_events(tmp_path / "session" / "events.jsonl")}
    assert (report["attempt"], attempts) == (2, {1, 2})


def test_published_outputs(tmp_path):
    """Declared outputs go to the publish directory under their own paths, after success only, with the same bytes."""
    good = {
        "steps": [
            {"id": "make", "driver": "duckdb.processor", "config": {"query": "SELECT 1 AS a"}},
            {
                "id": "write",
                "driver": "filesystem.parquet_writer",
                "inputs": {"df": "make"},
                "config": {"path": "sub/out.parquet"},
            },
        ]
    }
    target = tmp_path / "published"
    report = AdapterFactory.create("local").run(good, context(tmp_path, publish_dir=str(target)))
    source = Path(report.session_dir) / "artifacts" / "write" / "sub" / "out.parquet"
    assert (target / "sub" / "out.parquet").read_bytes() == source.read_bytes()
    assert report["published"] == [str(target / "sub" / "out.parquet")]
    assert [path.name for path in (target / "sub").iterdir()] == ["out.parquet"]

    bad = {"steps": [*good["steps"], {"id": "bad", "driver": "t.fails", "needs": ["write"]}]}
    report = AdapterFactory.create("local").run(bad, context(tmp_path, "second", publish_dir=str(tmp_path / "no")))
    assert report.status == "failed"
    assert not (tmp_path / "no").exists()


def test_rows_of_a_writer_that_another_step_waits_for(tmp_path):
    """They are written rows of the run: what only waits reads nothing."""
    plan = {
        "steps": [
            {"id": "make", "driver": "duckdb.processor", "config": {"query": "SELECT i FROM range(7) t(i)"}},
            {"id": "write", "driver": "filesystem.csv_writer", "inputs": {"df": "make"}, "config": {"path": "n.csv"}},
            {"id": "notify", "driver": "command", "needs": ["write"], "config": {"argv": ["true"]}},
        ]
    }
    assert AdapterFactory.create("local").run(plan, context(tmp_path)).metrics["rows_written"] == 7


def test_the_caller_is_left_as_it_was(tmp_path):
    """A run changes neither the working directory nor the environment nor the signal handlers of its process."""
    import signal

    before = (os.getcwd(), dict(os.environ), signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
    AdapterFactory.create("local").run({"steps": [{"id": "a", "driver": "t.copies"}]}, context(tmp_path))
    assert (os.getcwd(), dict(os.environ), signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_controller_killed_in_mid_run_leaves_a_session_that_can_be_run_again(tmp_path):
    """After SIGKILL the lock is free, the journal readable, and the next attempt completes."""
    script = textwrap.dedent(
        """
        import os, signal, sys
        from osiris_core import AdapterFactory, DriverRegistry, ExecutionContext
        class Dies:
            def run(self, step_id, config, inputs, ctx):
                os.kill(os.getpid(), signal.SIGKILL)
        DriverRegistry.register("t.dies", Dies)
        AdapterFactory.create("local").run(
            {"steps": [{"id": "a", "driver": "t.dies"}]}, ExecutionContext(session_dir=sys.argv[1]))
        """
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "session")], check=False)
    assert done.returncode == -9
    assert json.loads((tmp_path / "session" / "status.json").read_text())["status"] == "running"
    with (tmp_path / "session" / "events.jsonl").open("ab") as journal:
        journal.write(b'{"v":1,"torn')
    report = AdapterFactory.create("local").run({"steps": [{"id": "a", "driver": "t.copies"}]}, context(tmp_path))
    assert (report.status, report["attempt"]) == ("completed", 2)
    assert [
        event["seq"] for event in read_events(tmp_path / "session" / "events.jsonl") if event["origin"] == "host"
    ] == [1, 1, 2]
