"""The library as its users meet it: adapters, contexts, errors, the harness, and names with types."""

from __future__ import annotations

import pickle
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from pydantic import BaseModel, SecretStr

from osiris_core import (
    AdapterFactory,
    DriverRegistry,
    ExecutionAdapter,
    ExecutionContext,
    InputPath,
    LocalAdapter,
    PreparationError,
    Problem,
    StepError,
)
from osiris_core.config import AdapterConfig
from osiris_core.testing import run_driver


class Sleeps:
    def run(self, step_id, config, inputs, ctx):
        stop = threading.Event()
        ctx.on_cancel(stop.set)
        stop.wait(config["sleep_s"])
        ctx.raise_if_cancelled()


class Odd:
    def run(self, step_id, config, inputs, ctx):
        raise StepError("odd", step_id=step_id, failure_class="nonsense")


KNOWN = {"p.sleeps": Sleeps, "p.odd": Odd}


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
