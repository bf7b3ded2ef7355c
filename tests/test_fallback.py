"""A chain of targets: what makes a run move on, what never does, and what is said of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from adapters.fallback_chain.rules import ANOTHER_PLACE_MAY_HELP, unsafe_step
from osiris_core import AdapterFactory, ExecutionContext, FailureClass, PreparationError, read_events
from osiris_core.errors import ConfigError
from osiris_core.plan import StepPlan
from osiris_core.rooms import load
from remote.sandbox import SandboxError
from tests.test_attach import orphan
from tests.test_process_adapter import nothing_left
from tests.worker_process import DRIVERS, step, wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from osiris_core import ExecutionAdapter, RunReport

CODE = [str(DRIVERS)]


@pytest.fixture
def no_python(tmp_path: Path) -> dict[str, Any]:
    """A target whose workers never come to life: the infrastructure's fault, as far as anybody can tell."""
    fake = tmp_path / "no-python"
    fake.write_text("#!/bin/sh\nexit 9\n")
    fake.chmod(0o755)
    return {"type": "process", "python": str(fake)}


def chain(*targets: Any, **settings: Any) -> ExecutionAdapter:
    return AdapterFactory.create("fallback", chain=targets, code=CODE, **settings)


def run(adapter: ExecutionAdapter, folder: Path, *steps: dict[str, Any], **more: Any) -> RunReport:
    with adapter:
        context = ExecutionContext(session_dir=str(folder / "session"), checkpoint="always", **more)
        return adapter.run({"pipeline": "p", "steps": list(steps)}, context)


def test_a_place_that_cannot_be_had(tmp_path: Path, no_python: dict[str, Any]) -> None:
    """The next target runs it, as the next attempt; report and events say why."""
    report = run(chain(no_python, "local"), tmp_path, step("Write"))
    assert (report.status, report["environment"], report["attempt"]) == ("completed", "local", 2)
    assert report["fallback"]["target"] == "local"
    (tried,) = report["fallback"]["tried"]
    assert (tried["target"], tried["failure_class"], tried["attempt"]) == ("process", "infra_lost", 1)
    assert "exit code 9" in tried["reason"]
    events = list(read_events(tmp_path / "session/events.jsonl"))
    told = [(event["attempt"], event["event"]) for event in events if event["origin"] == "host"]
    assert told == [(1, "run.start"), (1, "run.error"), (2, "run.start"), (2, "log"), (2, "run.complete")]
    assert "process was passed over" in next(event["message"] for event in events if event["event"] == "log")
    nothing_left(tmp_path)


def test_an_engine_that_is_not_running_is_passed_over_in_prepare(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is started: one attempt, and no failure of it."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")
    report = run(chain({"type": "docker", "base_image": "osiris-base:bookworm"}, "process"), tmp_path, step("Write"))
    assert (report.status, report["environment"], report["attempt"]) == ("completed", "process", 1)
    assert "not running" in report["fallback"]["tried"][0]["reason"]
    nobody = chain({"type": "docker", "base_image": "osiris-base:bookworm"})
    assert "not running" in str(nobody.unusable())
    with pytest.raises(PreparationError, match="no target of the chain can be used: docker: "):
        run(nobody, tmp_path / "other", step("Write"))


@pytest.mark.parametrize(
    ("work", "more", "status"),
    [
        (step("Raise", config={"text": "mine"}), {}, "failed"),
        (step("Segfault"), {}, "failed"),
        (step("Sleep", config={"seconds": 30}), {"timeout": 1.0}, "timeout"),
    ],
)
def test_what_is_the_runs_own_stays(tmp_path: Path, work: dict[str, Any], more: dict[str, Any], status: str) -> None:
    """An error of the user's, a crash of their code, their time limit: the first target's report is the report."""
    report = run(chain("process", "local"), tmp_path, work, **more)
    assert (report.status, report["environment"], report["attempt"]) == (status, "process", 1)
    assert report["fallback"] == {"target": "process", "tried": [], "stayed": None}


def test_a_step_that_was_started_is_not_done_twice(tmp_path: Path) -> None:
    """Unless it says that it may: this one says nothing, and the report names it."""
    work = step("FallOnce", config={"flag": str(tmp_path / "flag")})
    report = run(chain({"type": "process"}, {"type": "process"}), tmp_path, work)
    assert (report.status, report["attempt"]) == ("failed", 1)
    assert report["fallback"]["stayed"].startswith("step 'work' was started")
    assert report["fallback"]["target"] == "process (1)"


def test_a_step_that_may_run_again_moves_on_with_what_is_done(tmp_path: Path) -> None:
    """Its retry policy covers a lost place; what completed before is taken over, not run again."""
    query = {"query": "SELECT i FROM range(1000) t(i)", "threads": 1}
    steps = [
        {"id": "numbers", "driver": "duckdb.processor", "config": query},
        {"id": "file", "driver": "filesystem.csv_writer", "inputs": {"df": "numbers"}, "config": {"path": "n.csv"}},
        step("FallOnce", config={"flag": str(tmp_path / "flag")}, needs=["file"], retry={"attempts": 2}),
    ]
    report = run(chain("process", "local"), tmp_path, *steps)
    assert (report.status, report["environment"], report["attempt"]) == ("completed", "local", 2)
    assert [item["status"] for item in report.steps] == ["reused", "reused", "completed"]
    assert (tmp_path / "session/artifacts/work/out.bin").read_bytes() == b"after all"
    assert (tmp_path / "session/artifacts/file/n.csv").exists()


def test_the_time_of_the_run_is_that_of_all_targets(tmp_path: Path) -> None:
    """The next target has what is left of it; what the earlier one took is in the report's times, which add up."""
    steps = [
        step("FallOnce", "falls", config={"flag": str(tmp_path / "flag")}, retry={"attempts": 2}),
        step("Sleep", "sleeps", config={"seconds": 60}, needs=["falls"]),
    ]
    began_s = time.monotonic()
    report = run(chain("process", "local"), tmp_path, *steps, timeout=12.0)
    took_s = time.monotonic() - began_s
    assert (report.status, report["environment"], report["attempt"]) == ("timeout", "local", 2)
    assert 11 < took_s < 20
    timings = dict(report.timings)
    wall_ms = timings.pop("wall_ms")
    assert timings["earlier_ms"] > 100
    assert abs(sum(timings.values()) - wall_ms) < 0.5
    assert abs(wall_ms / 1000 - took_s) < 1.5


def test_every_class_is_decided() -> None:
    """The table has all of them, and moves on for none that is the run's own."""
    assert set(ANOTHER_PLACE_MAY_HELP) == set(FailureClass)
    never = {FailureClass.USER_ERROR, FailureClass.TIMEOUT, FailureClass.CANCELLED, FailureClass.OUT_OF_MEMORY}
    assert not any(ANOTHER_PLACE_MAY_HELP[item] for item in never)


@pytest.mark.parametrize(
    ("more", "safe"),
    [
        ({"driver": "duckdb.processor", "config": {"query": "SELECT 1"}}, True),
        ({"driver": "duckdb.processor", "config": {"query": "SELECT 1", "allow_files": True}}, False),
        ({"driver": "filesystem.csv_writer", "config": {"path": "x.csv"}}, True),
        ({"driver": "command", "config": {"argv": ["true"]}}, False),
        ({"driver": "command", "config": {"argv": ["true"]}, "retry": {"attempts": 2}}, True),
        ({"driver": "command", "config": {"argv": ["true"]}, "retry": {"attempts": 1}}, False),
        ({"driver": "command", "config": {"argv": ["true"]}, "retry": {"attempts": 9, "on": ["timeout"]}}, False),
    ],
)
def test_which_steps_may_run_twice(more: dict[str, Any], safe: bool) -> None:
    """By the driver's word, or by the step's own policy; one that was not started is no matter."""
    plan = StepPlan.from_json({"id": "a", "inputs": {}, "needs": [], "timeout_s": None, "retry": None, **more})
    assert unsafe_step([plan], ["a"], FailureClass.INFRA_LOST) == (None if safe else "a")
    assert unsafe_step([plan], [], FailureClass.INFRA_LOST) is None


def test_a_breaker_opens_and_closes(tmp_path: Path, no_python: dict[str, Any]) -> None:
    """After two failures in a row nobody waits for the target any more; after its pause it is tried again."""
    adapter = chain(no_python, "local", breaker_failures=2, breaker_pause_s=3)
    attempts = []
    with adapter:
        for number in range(3):
            context = ExecutionContext(session_dir=str(tmp_path / str(number) / "session"))
            report = adapter.run({"pipeline": "p", "steps": [step("Write")]}, context)
            attempts.append((report["attempt"], report["fallback"]["tried"][0]["reason"]))
        assert [attempt for attempt, _ in attempts] == [2, 2, 1]
        assert "failed 2 times in a row; it is tried again in" in attempts[2][1]
        same = chain(no_python, "local", breaker_failures=2, breaker_pause_s=3)
        assert "failed 2 times" in run(same, tmp_path / "same", step("Write"))["fallback"]["tried"][0]["reason"]
        threading.Event().wait(3.1)
        again = adapter.run(
            {"pipeline": "p", "steps": [step("Write")]}, ExecutionContext(session_dir=str(tmp_path / "again/session"))
        )
        assert again["attempt"] == 2


def test_a_user_error_does_not_open_a_breaker(tmp_path: Path) -> None:
    """However often the runs fail, the target did its work."""
    adapter = chain({"type": "process", "start_timeout_s": 77}, "local", breaker_failures=1)
    for number in range(2):
        report = run(adapter, tmp_path / str(number), step("Raise", config={"text": "mine"}))
        assert report["environment"] == "process"


def test_cancelled_on_the_way(tmp_path: Path, no_python: dict[str, Any]) -> None:
    """A run that was cancelled goes on nowhere."""
    adapter = chain(no_python, "local")
    context = ExecutionContext(session_dir=str(tmp_path / "session"))
    prepared = adapter.prepare({"pipeline": "p", "steps": [step("Write")]}, context)
    adapter.cancel("never mind")
    with pytest.raises(Exception, match="never mind"):
        adapter.execute(prepared, context)
    report = adapter.collect(prepared, context)
    assert (report["status"], report["attempt"]) == ("cancelled", 1)
    adapter.close()


def test_the_settings_of_all_targets_are_checked_at_once() -> None:
    """Each problem with its place in the chain; and a chain cannot be in a chain."""
    with pytest.raises(ConfigError) as caught:
        AdapterFactory.create(
            "fallback", chain=[{"type": "process", "pyton": "x"}, "nowhere", {"type": "local", "a": 1}]
        )
    keys = [problem.key for problem in caught.value.problems]
    assert keys == ["fallback.chain.0.process.pyton", "fallback.chain.1", "fallback.chain.2.local.a"]
    with pytest.raises(ConfigError, match="chain in a chain"):
        AdapterFactory.create("fallback", chain=["fallback"])
    with pytest.raises(ConfigError, match="name of an adapter"):
        AdapterFactory.create("fallback", chain=[{"memory": "2g"}])


def test_a_bad_manifest_is_refused_once(tmp_path: Path) -> None:
    """The first target's prepare says what is wrong; nobody else is asked."""
    with pytest.raises(PreparationError) as caught:
        run(chain("process", "local"), tmp_path, {"id": "a", "driver": "no.such"})
    assert len(caught.value.problems) == 1
    assert not (tmp_path / "session").exists()


def test_attach_finds_the_target(tmp_path: Path) -> None:
    """By the adapter that the run was on when its controller died."""
    orphan(tmp_path, [step("Write", "a"), step("Sleep", "b", config={"seconds": 1}, needs=["a"])])
    report = chain("local", "process").attach(tmp_path / "session")
    assert (report.status, report["environment"]) == ("completed", "process")
    (tmp_path / "session/status.json").unlink()
    with pytest.raises(PreparationError, match="on adapter 'process'"):
        chain("local").attach(tmp_path / "session")


def test_attach_finds_the_target_with_the_settings_that_the_run_had(tmp_path: Path) -> None:
    """Of two of the same name it is the one that it was on: that one keeps the worker's folder, the other does not."""
    (tmp_path / "c.json").write_text(json.dumps({"type": "process", "keep": True, "code": CODE}))
    (tmp_path / "m.json").write_text(json.dumps({"pipeline": "p", "steps": [step("Sleep", config={"seconds": 2})]}))
    argv = [sys.executable, "-m", "osiris_core.cli.main", "run", "m.json", "--config", "c.json"]
    controller = subprocess.Popen([*argv, "--session-dir", "session"], cwd=tmp_path, stderr=subprocess.DEVNULL)
    events = tmp_path / "session/events.jsonl"
    wait_for(lambda: events.exists() and "step.start" in events.read_text())
    controller.kill()
    controller.wait()
    report = chain("process", {"type": "process", "keep": True}).attach(tmp_path / "session")
    assert report.succeeded
    assert len(list((tmp_path / "session").glob("process-*"))) == 1


def test_from_the_command_line(tmp_path: Path, no_python: dict[str, Any]) -> None:
    """A configuration file names the chain; what is passed over is a line on standard error."""
    (tmp_path / "m.json").write_text(json.dumps({"pipeline": "p", "steps": [step("Write")]}))
    (tmp_path / "c.json").write_text(json.dumps({"type": "fallback", "chain": [no_python, "local"], "code": CODE}))
    argv = [sys.executable, "-m", "osiris_core.cli.main", "run", "m.json", "--config", "c.json", "--json"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["fallback"]["target"] == "local"
    assert "process was passed over" in done.stderr


# The same token.


@pytest.mark.parametrize("place", ["process", "docker"])
def test_a_lost_answer_makes_no_second_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, place: str
) -> None:
    """The place is made, its answer is lost: the next try takes it away first, and has the run's one token."""
    settings: dict[str, Any] = {"code": CODE}
    if place == "docker":
        client = request.getfixturevalue("docker_client")
        settings["image"] = request.getfixturevalue("worker_image")
        sandbox = load("adapters.docker_engine.sandbox").DockerSandbox
        mine = {"label": f"osiris.session_dir={tmp_path / 'session'}"}
        places = lambda: [item["Names"] for item in client.api.containers(all=True, filters=mine)]  # noqa: E731
    else:
        sandbox = load("adapters.process").ProcessSandbox
        places = lambda: sorted(path.name for path in (tmp_path / "session").glob("process-*"))  # noqa: E731
    start, made = sandbox.start, []

    def lose_the_first_answer(self: Any) -> str:
        native_id = start(self)
        made.append((native_id, places()))
        if len(made) == 1:
            raise SandboxError("the answer was lost")
        return native_id

    monkeypatch.setattr(sandbox, "start", lose_the_first_answer)
    monkeypatch.setattr("remote.remote_run.START_PAUSE_S", 0.1)
    with AdapterFactory.create(place, **settings) as adapter:
        report = adapter.run(
            {"pipeline": "p", "steps": [step("Write")]}, ExecutionContext(session_dir=str(tmp_path / "session"))
        )
    assert report.succeeded, report["error"]
    assert len(made) == 2
    assert made[0] == made[1]
    assert len(made[0][1]) == 1
    assert places() == []
    nothing_left(tmp_path)


def test_what_is_not_the_infrastructures_fault_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One call, and its message."""
    sandbox = load("adapters.process").ProcessSandbox
    calls = []

    def refuse(self: Any) -> str:
        calls.append(os.getpid())
        raise SandboxError("no", failure_class=FailureClass.USER_ERROR)

    monkeypatch.setattr(sandbox, "start", refuse)
    with AdapterFactory.create("process", code=CODE) as adapter:
        report = adapter.run(
            {"pipeline": "p", "steps": [step("Write")]}, ExecutionContext(session_dir=str(tmp_path / "session"))
        )
    assert (report["error"]["message"], len(calls)) == ("no", 1)
