"""Promises of the public interface that a user of the library found broken once."""

from __future__ import annotations

import pickle
import subprocess
import sys
import tarfile
import textwrap
import threading
import time
from pathlib import Path

import pytest
from pydantic import BaseModel, Field, SecretStr

from osiris_core import (
    AdapterFactory,
    DriverRegistry,
    ExecutionAdapter,
    ExecutionContext,
    FailureClass,
    InputPath,
    LocalAdapter,
    OutputPath,
    PreparationError,
    Problem,
    StepError,
)
from osiris_core.config import AdapterConfig
from osiris_core.errors import classify
from osiris_core.testing import run_driver


class Sleeps:
    def run(self, step_id, config, inputs, ctx):
        stop = threading.Event()
        ctx.on_cancel(stop.set)
        stop.wait(config["sleep_s"])
        ctx.raise_if_cancelled()


class WritesConfig(BaseModel):
    out: OutputPath = "default.txt"


class Writes:
    """Writes where its configuration says, and nothing else about folders."""

    Config = WritesConfig

    def run(self, step_id, config, inputs, ctx):
        Path(config.out).write_text("here")


class Inner(BaseModel):
    path: InputPath


class HiddenConfig(BaseModel):
    source: InputPath = Field(alias="from")
    inner: Inner | None = None


class Hidden(Writes):
    Config = HiddenConfig


class Odd:
    def run(self, step_id, config, inputs, ctx):
        raise StepError("odd", step_id=step_id, failure_class="nonsense")


class Links:
    def run(self, step_id, config, inputs, ctx):
        (ctx.artifacts_dir / "kept.txt").write_text("kept")
        (ctx.artifacts_dir / "link").symlink_to("/etc/hostname")


KNOWN = {"p.sleeps": Sleeps, "p.writes": Writes, "p.hidden": Hidden, "p.odd": Odd, "p.links": Links}


@pytest.fixture(autouse=True)
def drivers():
    for name, driver in KNOWN.items():
        DriverRegistry.register(name, driver)
    yield
    for name in KNOWN:
        DriverRegistry.unregister(name)


def sleeping(sleep_s: float) -> dict:
    return {"steps": [{"id": "a", "driver": "p.sleeps", "config": {"sleep_s": sleep_s}}]}


def test_one_adapter_runs_side_by_side_and_is_cancelled_as_a_whole(tmp_path):
    """Each run of an adapter gets its own true report; cancel reaches every one of them."""
    adapter = LocalAdapter()
    reports = {}

    def go(name: str, sleep_s: float) -> None:
        reports[name] = adapter.run(sleeping(sleep_s), ExecutionContext(session_dir=str(tmp_path / name)))

    for names, sleep_s, expected in ((("a", "b"), 0.2, "completed"), (("c", "d"), 30, "cancelled")):
        threads = [threading.Thread(target=go, args=(name, sleep_s)) for name in names]
        for thread in threads:
            thread.start()
        if expected == "cancelled":
            while not all((tmp_path / name / "events.jsonl").is_file() for name in names):
                time.sleep(0.01)
            adapter.cancel("enough")
        for thread in threads:
            thread.join(20)
        assert [reports[name].status for name in names] == [expected] * 2
        assert all(len(reports[name].steps) == 1 for name in names)
    adapter.close()


@pytest.mark.parametrize("config", [{}, {"out": "own.txt"}])
def test_an_output_path_is_an_artifact_also_by_default(tmp_path, monkeypatch, config):
    """A path field left at its default is a path like any other, and its folder is there when the driver runs."""
    monkeypatch.chdir(tmp_path)
    manifest = {"steps": [{"id": "a", "driver": "p.writes", "config": config}]}
    context = ExecutionContext(session_dir=str(tmp_path / "s"), publish_dir=str(tmp_path / "published"))
    report = AdapterFactory.create("local").run(manifest, context)
    name = config.get("out", "default.txt")
    assert [item["path"] for item in report.artifacts] == [f"a/{name}"]
    assert (tmp_path / "published" / name).read_text() == "here"
    assert not (tmp_path / name).exists()


def test_path_fields_that_nobody_would_find_are_refused(tmp_path):
    """A path under an alias or in a nested model would be neither sealed nor kept: prepare says so."""
    manifest = {"steps": [{"id": "a", "driver": "p.hidden", "config": {"from": "x", "inner": {"path": "y"}}}]}
    with pytest.raises(PreparationError, match=r"source \(it has an alias\), inner\.path"):
        LocalAdapter().prepare(manifest, ExecutionContext(session_dir=str(tmp_path / "s")))


def test_errors_survive_a_pickle():
    """A PreparationError from another process reads as it did there."""
    error = PreparationError([Problem("is missing", step_id="a", key="driver", file="m.yaml", line=3)])
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error) == "m.yaml:3: step 'a', driver: is missing"
    assert copy.problems == error.problems


def test_an_adapter_needs_no_configuration_of_its_own():
    """A subclass with `start` and `stop` is complete; a configuration of the wrong kind is refused at once."""

    class Mine(ExecutionAdapter):
        name = "mine"

        def start(self, run, context):
            raise NotImplementedError

        def stop(self, reason):
            pass

    assert type(Mine().config) is AdapterConfig
    with pytest.raises(TypeError, match="LocalAdapter takes a LocalConfig, got dict"):
        LocalAdapter({"compress_artifacts": True})


def test_a_failure_class_that_does_not_exist(tmp_path):
    """The run is a failed report all the same."""
    manifest = {"steps": [{"id": "a", "driver": "p.odd"}]}
    report = AdapterFactory.create("local").run(manifest, ExecutionContext(session_dir=str(tmp_path / "s")))
    assert (report.status, report.error["failure_class"]) == ("failed", "user_error")


def test_a_peer_that_does_not_answer_is_lost_infrastructure():
    """A socket's timeout is worth another try by default, like a broken connection."""
    assert classify(TimeoutError("timed out")) is FailureClass.INFRA_LOST
    assert classify(OSError(113, "No route to host")) is FailureClass.INFRA_LOST


def test_the_archive_holds_the_artifacts_and_nothing_else(tmp_path):
    """What was refused as an artifact, a link out, is not in the archive either."""
    manifest = {"steps": [{"id": "a", "driver": "p.links"}]}
    adapter = AdapterFactory.create("local", compress_artifacts=True)
    report = adapter.run(manifest, ExecutionContext(session_dir=str(tmp_path / "s")))
    with tarfile.open(Path(report.session_dir) / "artifacts.tar.gz") as archive:
        assert archive.getnames() == ["a/kept.txt"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"environment": {"A=B": "1"}}, "environment"),
        ({"environment": {"A": "x\0y"}}, "environment"),
        ({"timeout": "5"}, "timeout is a number"),
        ({"max_parallel_steps": 2.5}, "max_parallel_steps is a whole number"),
    ],
)
def test_a_context_that_cannot_work(settings, words):
    """It is refused when it is made, and no value of the environment is shown."""
    with pytest.raises((TypeError, ValueError), match=words) as caught:
        ExecutionContext(**settings)
    assert "x\0y" not in str(caught.value)


def test_the_harness_is_the_engine_s_own(tmp_path):
    """In the harness too a secret field is masked, an absolute input is taken, and a wrong result is explained."""

    class TellsConfig(BaseModel):
        password: SecretStr
        path: InputPath

    class Tells:
        Config = TellsConfig

        def run(self, step_id, config, inputs, ctx):
            ctx.log(f"with {config.password.get_secret_value()} from {Path(config.path).read_text()}")
            return [1]

    (tmp_path / "in.txt").write_text("a file")
    with pytest.raises(StepError, match="returned a list"):
        run_driver(Tells, {"password": "topsecret123", "path": str(tmp_path / "in.txt")}, tmp_path)
    written = (tmp_path / "events.jsonl").read_text()
    assert "with *** from a file" in written


def test_the_public_names_are_typed(tmp_path):
    """mypy --strict sees the lazy names as what they are, and finds a misspelt one."""
    program = """
        from osiris_core import AdapterFactory, LocalAdapter, RunReport

        class Mine(LocalAdapter):
            pass

        report: RunReport = Mine().run({"steps": []})
        number: int = AdapterFactory.create("local").run({}).status
        from osiris_core import RunReprot
        """
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(program))
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), str(path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).resolve().parent.parent,
    )
    lines = [line for line in done.stdout.splitlines() if "program.py" in line and "error" in line]
    assert len(lines) == 2, done.stdout
    assert any("RunReprot" in line for line in lines)
    assert any('"str"' in line and '"int"' in line for line in lines)


MAKE = {"id": "a", "driver": "duckdb.processor", "config": {"query": "SELECT 1 AS n"}}


@pytest.mark.parametrize("folder", ["work", "artifacts", "checkpoints"])
def test_a_directory_of_somebody_s_own_is_no_session(tmp_path, folder):
    """Files where a session would have its own are refused, and untouched."""
    (tmp_path / "mine" / folder).mkdir(parents=True)
    (tmp_path / "mine" / folder / "notes.txt").write_text("keep me")
    with pytest.raises(PreparationError, match=f"holds {folder}"):
        AdapterFactory.create("local").run({"steps": [MAKE]}, ExecutionContext(session_dir=str(tmp_path / "mine")))
    assert [path.name for path in (tmp_path / "mine").rglob("*")] == [folder, "notes.txt"]


def test_the_session_of_another_pipeline_is_refused(tmp_path):
    """One pipeline's artifacts are not replaced by another's run in the same directory; its own next run may."""
    context = ExecutionContext(session_dir=str(tmp_path / "s"))
    write = {"id": "w", "driver": "filesystem.csv_writer", "inputs": {"df": "a"}, "config": {"path": "x.csv"}}
    AdapterFactory.create("local").run({"pipeline": "one", "steps": [MAKE, write]}, context)
    with pytest.raises(PreparationError, match="pipeline 'one'"):
        AdapterFactory.create("local").run({"pipeline": "two", "steps": [MAKE]}, context)
    assert (tmp_path / "s" / "artifacts" / "w" / "x.csv").read_text() == "n\n1\n"
    assert AdapterFactory.create("local").run({"pipeline": "one", "steps": [MAKE]}, context)["attempt"] == 2


def test_what_is_known_before_a_run_is_said_before_it(tmp_path):
    """A parameter without a value, an input from a step that gives nothing, an unknown encoding."""
    write = {"id": "w", "driver": "filesystem.csv_writer", "inputs": {"df": "a"}, "config": {"path": "x.csv"}}
    again = {"id": "v", "driver": "filesystem.csv_writer", "inputs": {"df": "w"}, "config": {"path": "y.csv"}}
    read = {"id": "r", "driver": "filesystem.csv_extractor", "config": {"path": "in.csv", "encoding": "utf9"}}
    (tmp_path / "in.csv").write_text("n\n1\n")
    manifest = {"params": {"day": {"type": "string"}}, "steps": [MAKE, write, again, read]}
    with pytest.raises(PreparationError) as caught:
        LocalAdapter().prepare(manifest, ExecutionContext(session_dir=str(tmp_path / "s"), base_dir=str(tmp_path)))
    found = {(problem.step_id, problem.key): problem.message for problem in caught.value.problems}
    assert found[None, "params.day"] == "must be given"
    assert found["v", "inputs.df"] == "step 'w' gives no output"
    assert "unknown encoding" in found["r", "config.encoding"]


def test_a_small_json_file_is_replaced_in_the_space_it_has(tmp_path):
    """The last word about a run fits where the first one stood, also on a full disk."""
    from osiris_core.session import overwrite_json, read_json

    path = tmp_path / "status.json"
    path.write_text('{"status": "running", "session_id": "x", "attempt": 1, "started_at": "2026-11-20T00:00:00Z"}\n')
    overwrite_json(path, {"status": "failed"})
    assert read_json(path) == {"status": "failed"}
