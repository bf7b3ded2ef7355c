"""Attach, cancel and delete from another process: what is refused, what is said, what becomes of the rest."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from osiris_core import AdapterFactory, ExecutionContext, PreparationError, read_events
from osiris_core.errors import NotAttached, SessionBusy
from osiris_core.session import Session, SessionLayout, is_owned
from tests.test_attach_everywhere import CONTROLLER, SECRET, journal_is_whole, left_of_process
from tests.test_process_adapter import nothing_left, start_cli
from tests.worker_process import DRIVERS, NAP, alive, running, step, wait_for

if TYPE_CHECKING:
    from osiris_core import ExecutionAdapter, RunReport

OSIRIS = [sys.executable, "-m", "osiris_core.cli.main"]
LONG = [step("Write", "a"), step("Sleep", "b", config={"seconds": 30}, needs=["a"]), step("Write", "c", needs=["b"])]


def process(**settings: Any) -> ExecutionAdapter:
    return AdapterFactory.create("process", code=[str(DRIVERS)], **settings)


def osiris(folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*OSIRIS, *argv], cwd=folder, capture_output=True, text=True, check=False, timeout=50)


def orphan(folder: Path, steps: list[dict[str, Any]], until: str = '"step_id":"b"') -> dict[str, Any]:
    """The run of a controller that was killed when its journal had `until`; what was written down of it."""
    controller = start_cli(folder, steps)
    events = folder / "session/events.jsonl"
    wait_for(lambda: events.exists() and until in events.read_text())
    controller.kill()
    controller.communicate()
    recorded: dict[str, Any] = json.loads((folder / "session/run.json").read_text())
    return recorded


def state(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(osiris(folder, "runs", "show", "./session", "--json").stdout)
    return found


def test_while_its_controller_lives(tmp_path: Path) -> None:
    """It is busy, and its owner is named; asked from another terminal, that controller stops the run."""
    controller = start_cli(tmp_path, LONG)
    events = tmp_path / "session/events.jsonl"
    wait_for(lambda: events.exists() and '"step_id":"b"' in events.read_text())
    with pytest.raises(SessionBusy, match=f"process {controller.pid} is running"):
        process().attach(tmp_path / "session")
    refused = osiris(tmp_path, "runs", "delete", "./session")
    assert (refused.returncode, "osiris runs cancel" in refused.stderr) == (1, True)
    assert state(tmp_path)["status"] == "running"
    stopped = osiris(tmp_path, "runs", "cancel", "./session", "--reason", "lunch", "--json")
    assert json.loads(stopped.stdout) == {"session_id": "session", "status": "cancelled", "over": True}
    out, _ = controller.communicate(timeout=20)
    assert controller.returncode == 130
    assert "lunch" in json.loads(out)["error"]["message"]
    nothing_left(tmp_path)
    assert osiris(tmp_path, "runs", "cancel", "./session").stdout.startswith("cancelled")


def test_from_the_command_line(tmp_path: Path) -> None:
    """An orphaned run is shown as one, gone on with, and printed like any other."""
    orphan(tmp_path, [step("Write", "a"), step("Sleep", "b", config={"seconds": 2}, needs=["a"])])
    shown = state(tmp_path)
    assert (shown["status"], shown["attachable"]) == ("orphaned", True)
    assert "osiris runs attach" in osiris(tmp_path, "runs", "show", "./session").stdout
    attached = osiris(tmp_path, "runs", "attach", "./session")
    assert attached.returncode == 0, attached.stderr
    assert attached.stdout.startswith("completed")
    lines = [line.split()[1:3] for line in attached.stderr.splitlines()]
    assert lines == [["p:", "2"], ["a", "started"], ["a", "completed"], ["b", "started"], ["b", "completed"]]
    assert state(tmp_path)["status"] == "completed"
    nothing_left(tmp_path)


def test_what_is_to_be_typed_has_the_settings_of_the_run(tmp_path: Path) -> None:
    """Of an attached run too, though it was given none of them: adapter, configuration, variables; and no secret."""
    (tmp_path / "c.json").write_text(json.dumps({"type": "process", "start_timeout_s": 70}))
    fails = {"id": "b", "driver": "command", "config": {"shell": 'echo ready; sleep 2; exit "$CODE"'}}
    (tmp_path / "m.json").write_text(json.dumps({"pipeline": "p", "steps": [fails]}))
    asked = ["run", "m.json", "--config", "c.json", "--env", "CODE=3", "--env", "TOKEN", "--session-dir", "session"]
    surroundings = {**os.environ, "TOKEN": SECRET}
    controller = subprocess.Popen([*OSIRIS, *asked], cwd=tmp_path, env=surroundings, stderr=subprocess.DEVNULL)
    events = tmp_path / "session/events.jsonl"
    wait_for(lambda: events.exists() and '"ready"' in events.read_text())
    controller.kill()
    controller.wait()
    attached = osiris(tmp_path, "runs", "attach", "./session")
    (line,) = [line for line in attached.stdout.splitlines() if line.startswith("go on")]
    wanted = "osiris run m.json --adapter process --config FILE --resume --session-dir"
    assert line.split(maxsplit=2)[2] == f"{wanted} {tmp_path}/session --env CODE=3 --env TOKEN"
    nothing_left(tmp_path)


def test_an_orphan_is_cancelled(tmp_path: Path) -> None:
    """In its place, with everything below it; what had completed comes home."""
    orphan(tmp_path, [step("Write", "a"), step("Escape", "b", config={"stay": True}, needs=["a"])], "escaped")
    assert len(running("sleep", NAP)) == 2
    stopped = osiris(tmp_path, "runs", "cancel", "./session", "--json")
    assert json.loads(stopped.stdout)["status"] == "cancelled", stopped.stderr
    report = json.loads((tmp_path / "session/status.json").read_text())
    assert [item["status"] for item in report["steps"]] == ["completed", "cancelled"]
    assert (tmp_path / "session/artifacts/a/out.bin").read_bytes() == b"a"
    nothing_left(tmp_path)


def test_an_orphan_is_deleted_and_nothing_else(tmp_path: Path) -> None:
    """Its worker ends, its files go; a file of somebody else's in the directory stays."""
    token = orphan(tmp_path, LONG)["token"]
    assert left_of_process(token)
    (tmp_path / "session/notes.txt").write_text("mine")
    deleted = osiris(tmp_path, "runs", "delete", "./session")
    assert (deleted.returncode, deleted.stdout) == (0, "deleted  session\n")
    assert left_of_process(token) == []
    assert [path.name for path in (tmp_path / "session").iterdir()] == ["notes.txt"]


def test_values_that_are_here_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then nothing is said of them, and what the adapter says itself is masked as well."""
    session = tmp_path / "session"
    done = controller_killed(session, "within artifact#2")
    assert done.returncode == -9
    monkeypatch.setenv("TOKEN", SECRET)
    report = process().attach(session)
    assert report.succeeded
    assert "values_not_here" not in report


def controller_killed(session: Path, point: str, adapter: str = "process") -> subprocess.CompletedProcess[str]:
    settings = json.dumps({"code": [str(DRIVERS)]})
    argv = [sys.executable, str(CONTROLLER), adapter, settings, str(session), point]
    return subprocess.run(argv, env={**os.environ, "TOKEN": SECRET}, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("point", ["within step.complete#1", "sandbox get#1", "after run#2", "within run.complete#1"])
def test_a_second_controller_may_die_as_well(tmp_path: Path, point: str) -> None:
    """The third one goes on where it was; the journal has nothing twice."""
    session = tmp_path / "session"
    assert controller_killed(session, "within artifact#1").returncode == -9
    argv = [sys.executable, str(CONTROLLER), "process", json.dumps({"code": [str(DRIVERS)]}), str(session), point]
    second = subprocess.run(argv, env={**os.environ, "TOKEN": SECRET, "ATTACH": "1"}, capture_output=True, check=False)
    assert second.returncode == -9, second.stdout
    report = process().attach(session)
    assert (report.status, report["attempt"]) == ("completed", 1)
    assert [item["path"] for item in report.artifacts] == ["file/n.csv", "last/out.bin"]
    events = [event for event in journal_is_whole(session) if event["origin"] == "host" and event["event"] != "log"]
    assert [event["event"] for event in events] == ["run.start", "run.complete"]
    nothing_left(tmp_path)


def test_another_adapter_is_refused(tmp_path: Path) -> None:
    """With the name of the one that has the run."""
    controller_killed(tmp_path / "session", "within metric#1")
    with pytest.raises(PreparationError, match="on adapter 'process', not on 'local'"):
        AdapterFactory.create("local").attach(tmp_path / "session")
    assert process().attach(tmp_path / "session").succeeded


def test_results_are_kept_until_they_are_fetched(tmp_path: Path) -> None:
    """Of a worker that waited for nobody any more, too: its folder has everything."""
    (tmp_path / "config.yaml").write_text("")
    folder = tmp_path / "session"
    manifest = {"pipeline": "p", "steps": [step("Write", "a"), step("Sleep", "b", config={"seconds": 1}, needs=["a"])]}
    script = (
        "import sys, json; from osiris_core import AdapterFactory, ExecutionContext\n"
        f"adapter = AdapterFactory.create('process', code=[{str(DRIVERS)!r}], unattended_timeout_s=4)\n"
        f"adapter.run({manifest!r}, ExecutionContext(session_dir={str(folder)!r}))"
    )
    controller = subprocess.Popen([sys.executable, "-c", script])
    events = folder / "events.jsonl"
    wait_for(lambda: events.exists() and '"step_id":"b"' in events.read_text())
    controller.kill()
    controller.wait()
    token = json.loads((folder / "run.json").read_text())["token"]
    wait_for(lambda: not left_of_process(token))
    report = process().attach(folder)
    assert report.succeeded
    assert [item["path"] for item in report.artifacts] == ["a/out.bin", "b/started"]
    assert report.timings["unattended_ms"] > 1000
    nothing_left(tmp_path)


def test_a_worker_that_died_too(tmp_path: Path) -> None:
    """The report says what is known: what completed is home, what ran is lost, and how to go on."""
    recorded = orphan(tmp_path, LONG)
    for pid in [int(entry.split("pid=")[1].split(",")[0]) for entry in left_of_process(recorded["token"])]:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not left_of_process(recorded["token"]))
    report = process().attach(tmp_path / "session")
    assert (report.status, report["error"]["failure_class"]) == ("failed", "infra_lost")
    assert [item["status"] for item in report.steps] == ["completed", "failed", "skipped"]
    assert (tmp_path / "session/artifacts/a/out.bin").read_bytes() == b"a"
    nothing_left(tmp_path)


def test_a_place_that_is_gone(tmp_path: Path) -> None:
    """What the journal knows is reported; artifacts that are nowhere are not listed."""
    recorded = orphan(tmp_path, LONG)
    with process() as adapter:
        for item in adapter.leftovers([tmp_path / "session"]):
            if item.native_id == recorded["native_id"]:
                item.remove()
    report = process().attach(tmp_path / "session")
    assert (report.status, report.artifacts) == ("failed", [])
    assert "go on with what is here: osiris run" in report["error"]["message"]
    assert [item["status"] for item in report.steps] == ["completed", "failed", "skipped"]


def test_a_new_attempt_ends_the_old_one(tmp_path: Path) -> None:
    """On another adapter: the old worker is gone before a step starts, and nothing of it is taken in afterwards."""
    token = orphan(tmp_path, LONG)["token"]
    context = ExecutionContext(session_dir=str(tmp_path / "session"), resume=True)
    manifest = {"pipeline": "p", "steps": [step("Write", "a"), step("Write", "c", needs=["a"])]}
    with AdapterFactory.create("local", code=[str(DRIVERS)]) as adapter:
        report = adapter.run(manifest, context)
    assert (report.status, report["attempt"]) == ("completed", 2)
    assert left_of_process(token) == []
    events = list(read_events(tmp_path / "session/events.jsonl"))
    second = next(index for index, event in enumerate(events) if event["attempt"] == 2)
    assert {event["attempt"] for event in events[second:]} == {2}
    nothing_left(tmp_path)


def test_a_late_writer_publishes_nothing(tmp_path: Path) -> None:
    """Whose session was taken away (its directory made anew) leaves the new run's files alone."""
    session, out = tmp_path / "session", tmp_path / "out"
    context = ExecutionContext(session_dir=str(session), publish_dir=str(out))
    late = AdapterFactory.create("local", code=[str(DRIVERS)])
    reports = []
    manifest = {"pipeline": "p", "steps": [step("Sleep", "nap", config={"seconds": 2})]}
    thread = threading.Thread(target=lambda: reports.append(late.run(manifest, context)))
    thread.start()
    events = session / "events.jsonl"
    wait_for(lambda: events.exists() and "step.start" in events.read_text())
    session.rename(tmp_path / "moved away")
    with process() as adapter:
        newer = adapter.run({"pipeline": "p", "steps": [step("Write")]}, ExecutionContext(session_dir=str(session)))
    thread.join()
    assert newer.succeeded
    assert reports[0].status == "cancelled"
    assert "another run's" in reports[0]["error"]["message"]
    assert json.loads((session / "status.json").read_text()) == newer.to_json()
    assert {path.name for path in session.rglob("artifacts/*/*")} == {"out.bin"}
    assert "nap" not in events.read_text()
    late.close()
    shutil.rmtree(tmp_path / "moved away")


@pytest.mark.parametrize("late", ["local", "process"])
def test_a_late_writer_leaves_a_run_under_way_alone(tmp_path: Path, late: str) -> None:
    """It stops at once, and takes nothing of the newer run away: no folder, nothing that was written down."""
    session = tmp_path / "session"
    events = session / "events.jsonl"
    reports: dict[str, RunReport] = {}
    first = threading.Event()

    def run(name: str, adapter: ExecutionAdapter, *steps: dict[str, Any]) -> None:
        with adapter:
            context = ExecutionContext(session_dir=str(session))
            reports[name] = adapter.run({"pipeline": "p", "steps": steps}, context)
        first.set()

    old = [step("Sleep", "old", config={"seconds": 30}), step("Write", "older", needs=["old"])]
    late_adapter = AdapterFactory.create(late, code=[str(DRIVERS)])
    threads = [threading.Thread(target=run, args=("old", late_adapter, *old))]
    threads[0].start()
    wait_for(lambda: events.exists() and "step.start" in events.read_text())
    shutil.rmtree(session)
    line = f"echo one > one.txt; until test -e {tmp_path}/go; do sleep 0.1; done; echo two > two.txt"
    new = {"id": "new", "driver": "command", "config": {"shell": line, "artifacts": ["*.txt"]}}
    threads.append(threading.Thread(target=run, args=("new", AdapterFactory.create("local"), new)))
    threads[1].start()
    wait_for(lambda: events.exists() and "step.start" in events.read_text())
    recorded = (session / "run.json").read_text()
    assert first.wait(20)
    assert reports["old"].status in ("cancelled", "failed")
    assert (session / "run.json").read_text() == recorded
    (tmp_path / "go").touch()
    threads[1].join()
    assert reports["new"].succeeded, reports["new"]["error"]
    assert {item["path"] for item in reports["new"].artifacts} >= {"new/one.txt", "new/two.txt"}
    assert json.loads((session / "run.json").read_text()) == json.loads(recorded)
    assert {path.name for path in session.glob("artifacts/*")} == {"new"}
    threads[0].join()


def test_a_session_that_is_taken_away_ends_its_run(tmp_path: Path) -> None:
    """A worker whose journal is gone says that it is over and shows no event of it: nobody waits for that for ever."""
    session = tmp_path / "session"
    events = session / "events.jsonl"
    reports = []
    adapter = AdapterFactory.create("process")
    lines = ["sleep 2", "echo late"]
    steps = [{"id": f"s{n}", "driver": "command", "config": {"shell": line}} for n, line in enumerate(lines)]
    steps[1]["needs"] = ["s0"]
    context = ExecutionContext(session_dir=str(session))
    thread = threading.Thread(target=lambda: reports.append(adapter.run({"pipeline": "p", "steps": steps}, context)))
    thread.start()
    wait_for(lambda: events.exists() and "step.start" in events.read_text())
    shutil.rmtree(session)
    thread.join(25)
    assert reports, "the controller waits for ever"
    assert reports[0].status == "failed"
    assert reports[0]["error"]["failure_class"] == "infra_lost"
    adapter.close()
    nothing_left(tmp_path)


# Where the engine is in the controller.


@pytest.mark.parametrize("point", ["within step.start#2", "before steps.complete#1"])
def test_local_resumes(tmp_path: Path, point: str) -> None:
    """As a new attempt that takes over what was finished."""
    session = tmp_path / "session"
    point = point.replace("before", "within")
    assert controller_killed(session, point, "local").returncode == -9
    context = ExecutionContext(environment={"TOKEN": SECRET}, session_dir=str(session))
    report = AdapterFactory.create("local", code=[str(DRIVERS)]).attach(session, context)
    assert (report.status, report["attempt"], report["attached"]) == ("completed", 2, True)
    done = {"within step.start#2": 1, "within steps.complete#1": 3}[point]
    assert [item["status"] for item in report.steps] == ["reused"] * done + ["completed"] * (3 - done)
    assert (session / "artifacts/file/n.csv").read_bytes().count(b"\n") == 1001


def test_local_is_only_collected_when_its_steps_are_over(tmp_path: Path) -> None:
    """In the same attempt, without a value or a step."""
    session = tmp_path / "session"
    assert controller_killed(session, "before run.complete#1", "local").returncode == -9
    report = AdapterFactory.create("local").attach(session)
    assert (report.status, report["attempt"]) == ("completed", 1)
    assert Path(f"{session}.out/n.csv").exists()
    names = [event["event"] for event in read_events(session / "events.jsonl")]
    assert names[-2:] == ["steps.complete", "run.complete"]


def test_local_needs_its_values(tmp_path: Path) -> None:
    """Each that is missing is named, and nothing was started."""
    session = tmp_path / "session"
    controller_killed(session, "within step.start#2", "local")
    before = (session / "events.jsonl").read_bytes()
    with pytest.raises(PreparationError, match="TOKEN has no value here"):
        AdapterFactory.create("local", code=[str(DRIVERS)]).attach(session)
    assert (session / "events.jsonl").read_bytes() == before
    assert not is_owned(SessionLayout(session))


def test_local_is_given_up(tmp_path: Path) -> None:
    """A run that nobody wants to go on with: its journal and its report have their end."""
    session = tmp_path / "session"
    controller_killed(session, "within step.start#2", "local")
    report = AdapterFactory.create("local").attach(session, cancel="not today")
    assert (report.status, report["attempt"]) == ("cancelled", 1)
    assert "not today" in report["error"]["message"]
    assert [item["status"] for item in report.steps] == ["completed", "skipped", "skipped"]
    names = [event["event"] for event in read_events(session / "events.jsonl")]
    assert names[-4:] == ["step.skipped", "step.skipped", "steps.error", "run.error"]


def test_a_live_local_run_is_cancelled_from_elsewhere(tmp_path: Path) -> None:
    """By the request in its session directory, which is gone afterwards."""
    session = tmp_path / "session"
    manifest = {"steps": [{"id": "nap", "driver": "command", "config": {"argv": ["sleep", "60"]}}]}
    (tmp_path / "m.json").write_text(json.dumps(manifest))
    argv = [*OSIRIS, "run", "m.json", "--session-dir", "session"]
    with subprocess.Popen(argv, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as controller:
        events = session / "events.jsonl"
        wait_for(lambda: events.exists() and "step.start" in events.read_text())
        assert osiris(tmp_path, "runs", "cancel", "./session").stdout == "cancelled  session\n"
        assert controller.wait(20) == 130
    assert not (session / "cancel.json").exists()


# Docker.


@pytest.mark.usefixtures("worker_image")
def test_an_engine_that_cannot_be_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is concluded from that: the run stays an orphan until the engine answers."""
    settings = {"code": [str(DRIVERS)], "base_image": "osiris-base:bookworm"}
    session = tmp_path / "session"
    argv = [sys.executable, str(CONTROLLER), "docker", json.dumps(settings), str(session), "within metric#1"]
    subprocess.run(argv, env={**os.environ, "TOKEN": SECRET}, check=False)
    files = {name: (session / name).read_bytes() for name in ("events.jsonl", "status.json")}
    adapter = AdapterFactory.create("docker", **settings)
    with monkeypatch.context() as patch:
        patch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")
        with pytest.raises(NotAttached, match="may go on"):
            adapter.attach(session)
    assert {name: (session / name).read_bytes().rstrip() for name in files}["status.json"] == files[
        "status.json"
    ].rstrip()
    assert state(tmp_path)["status"] == "orphaned"
    assert adapter.attach(session).succeeded


@pytest.mark.usefixtures("docker_client")
def test_commands_of_a_dead_engine_are_ended(tmp_path: Path, docker_client: Any) -> None:
    """`engine: host`: attach removes the container that nobody waits for, and runs the step anew."""
    manifest = {
        "pipeline": "p",
        "steps": [{"id": "nap", "driver": "command", "config": {"argv": ["sh", "-c", "test -e /go || sleep 60"]}}],
    }
    (tmp_path / "m.json").write_text(json.dumps(manifest))
    (tmp_path / "c.yaml").write_text("type: docker\nengine: host\nimage: osiris-base:bookworm\n")
    argv = [*OSIRIS, "run", "m.json", "--config", "c.yaml", "--session-dir", "session", "--timeout", "3"]
    wanted = {"label": f"osiris.session_dir={tmp_path / 'session'}"}
    with subprocess.Popen(argv, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as controller:
        first = wait_for(lambda: [item["Id"] for item in docker_client.api.containers(filters=wanted)])
        controller.kill()
    assert state(tmp_path)["status"] == "interrupted"
    attached = osiris(tmp_path, "runs", "attach", "./session", "--json")
    report = json.loads(attached.stdout)
    assert (report["status"], report["attempt"]) == ("timeout", 2)
    left = [item["Id"] for item in docker_client.api.containers(all=True, filters=wanted)]
    assert (left, len(first)) == ([], 1)


def test_commands_of_a_dead_engine_are_ended_by_a_resume_too(tmp_path: Path, docker_client: Any) -> None:
    """Whatever adapter that is on: before a step starts."""
    wanted = {"label": f"osiris.session_dir={tmp_path / 'session'}"}
    nap = {"id": "nap", "driver": "command", "config": {"shell": "sleep 60"}}
    (tmp_path / "m.json").write_text(json.dumps({"pipeline": "p", "steps": [nap]}))
    (tmp_path / "c.yaml").write_text("type: docker\nengine: host\nimage: osiris-base:bookworm\n")
    argv = [*OSIRIS, "run", "m.json", "--config", "c.yaml", "--session-dir", "session"]
    with subprocess.Popen(argv, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as controller:
        wait_for(lambda: docker_client.api.containers(filters=wanted))
        controller.kill()
    looks = {"id": "nap", "driver": "command", "config": {"shell": "true"}}
    with AdapterFactory.create("local") as adapter:
        context = ExecutionContext(session_dir=str(tmp_path / "session"), resume=True)
        report = adapter.run({"pipeline": "p", "steps": [looks]}, context)
    assert (report.status, report["attempt"]) == ("completed", 2)
    assert docker_client.api.containers(all=True, filters=wanted) == []


# What is written down.


def test_no_secret_of_the_settings_is_written_down(tmp_path: Path) -> None:
    """References and public values are; a literal under a secret's name, or one that is a value of the run, is not."""
    from osiris_core.backends import DockerConfig
    from osiris_core.recorded_settings import recordable

    config = DockerConfig(
        env_vars={"API_TOKEN": "literal-secret", "OMP_NUM_THREADS": "2", "PART": f"x{SECRET}", "B": "${B}"},
        labels={"team": SECRET},
        memory="1g",
        code=("drivers.py",),
    )
    kept = recordable(config, [SECRET])
    assert kept == {
        "env_vars": {"OMP_NUM_THREADS": "2", "B": "${B}"},
        "labels": {},
        "memory": "1g",
        "code": [str(Path("drivers.py").resolve())],
    }
    assert recordable(DockerConfig(), [SECRET]) == {}


def test_a_session_that_is_owned_cannot_be_reopened(tmp_path: Path) -> None:
    """Also from within the same process; and an abandoned lock is no obstacle."""
    controller_killed(tmp_path / "session", "within step.start#2", "local")
    first = Session.reopen(str(tmp_path / "session"))
    try:
        with pytest.raises(SessionBusy, match=str(os.getpid())):
            Session.reopen(str(tmp_path / "session"))
    finally:
        first.close()
    assert not alive(first.earlier["pid"])
