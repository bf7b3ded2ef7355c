"""Docker Engine is restarted, or does not come back, or somebody kills a container: behind a socket that can be cut."""

from __future__ import annotations

import gc
import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from adapters.docker_engine.removal import remove_container, remove_volume
from osiris_core import AdapterFactory, ExecutionContext, read_events
from osiris_core.errors import NotAttached
from osiris_core.testing.parity_compare import journal_faults
from tests.test_docker_adapter import IMAGE_TIMEOUT_S, context, left_of
from tests.worker_process import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from osiris_core import RunReport

pytestmark = pytest.mark.timeout(IMAGE_TIMEOUT_S)


class Socket:
    """
    A socket in front of the engine's own: while it is away nobody answers, and all connections are broken.

    Attributes:
        piece_bytes: How much is passed on at once.
        instead: What is passed on instead of what, of the same length.
        unanswered: Of the first request that holds these bytes the answer is lost, and the engine did what it asks for.
    """

    def __init__(self, path: Path, engine: str) -> None:
        self._path, self._engine = path, engine
        self.piece_bytes = 1 << 16
        self.unanswered = b""
        self.instead = (b"", b"")
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self.come_back()

    def come_back(self) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._path))
        self._listener.listen(50)
        self._start(self._accept, self._listener)

    def _start(self, work: Callable[..., None], *args: Any) -> None:
        self._threads.append(threading.Thread(target=work, args=args, daemon=True))
        self._threads[-1].start()

    def go_away(self) -> None:
        self._path.unlink(missing_ok=True)
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self.cut()
        for thread in self._threads:
            thread.join(5)
        self._threads.clear()

    def cut(self) -> None:
        """All connections break; who makes a new one is answered."""
        for each in list(self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                listener.close()
                return
            engine = socket.socket(socket.AF_UNIX)
            engine.connect(self._engine)
            self._open |= {client, engine}
            both = [
                threading.Thread(target=self._pass_on, args=pair, daemon=True)
                for pair in ((client, engine), (engine, client))
            ]
            for thread in both:
                thread.start()
            self._start(self._close, both, client, engine)

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(self.piece_bytes):
                if self.unanswered and self.unanswered in data:
                    self.unanswered = b""
                    source.shutdown(socket.SHUT_WR)
                target.sendall(data.replace(*self.instead) if self.instead[0] else data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def _close(self, both: list[threading.Thread], *ends: socket.socket) -> None:
        for thread in both:
            thread.join()
        for end in ends:
            self._open.discard(end)
            end.close()


@pytest.fixture
def engine(tmp_path: Path, docker_client: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Socket]:
    path = docker_client.api.base_url, os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if not path[1].startswith("unix://"):
        pytest.skip("Docker Engine is not on a socket of this machine")
    front = Socket(tmp_path / "engine.sock", path[1].removeprefix("unix://"))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/engine.sock")
    yield front
    front.go_away()


class Run:
    """A run under way, in a thread."""

    def __init__(self, settings: dict[str, Any], there: ExecutionContext, *lines: str) -> None:
        self.there = there
        self.events_file = there.session_dir + "/events.jsonl"
        steps = [
            {
                "id": f"s{number}",
                "driver": "command",
                "needs": [f"s{number - 1}"] if number else [],
                "config": {"shell": line, "artifacts": ["*.txt"] if ".txt" in line else []},
            }
            for number, line in enumerate(lines)
        ]
        self._adapter = AdapterFactory.create("docker", **settings)
        self._report: RunReport | None = None
        self._thread = threading.Thread(target=self._run, args=({"pipeline": "docker-fault", "steps": steps},))
        self._thread.start()

    def _run(self, manifest: dict[str, Any]) -> None:
        self._report = self._adapter.run(manifest, self.there)

    def wait_until_said(self, word: str) -> None:
        deadline_s = time.monotonic() + 60
        while time.monotonic() < deadline_s:
            if os.path.exists(self.events_file) and any(
                event.get("message") == word for event in read_events(self.events_file)
            ):
                return
            time.sleep(0.05)
        raise TimeoutError(f"{word!r} was not said")

    def report(self) -> RunReport:
        """What it came to; report, status file and journal say the same."""
        self._thread.join(100)
        assert self._report is not None
        with open(self.there.session_dir + "/status.json", encoding="utf-8") as file:
            assert json.load(file) == self._report.to_json()
        assert list(journal_faults(list(read_events(self.events_file)))) == []
        return self._report


@pytest.fixture(params=["docker", "host"])
def settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    if request.param == "host":
        return {"engine": "host", "image": "osiris-base:bookworm"}
    return {"image": request.getfixturevalue("worker_image")}


def test_an_engine_that_is_restarted(
    engine: Socket, settings: dict[str, Any], tmp_path: Path, docker_client: Any
) -> None:
    """
    Containers live on (`live-restore`), all connections break: a worker's run goes on, each line once.

    Of a command without a worker what it printed meanwhile is lost: its step fails as that. Nothing is left of either.
    """
    there = context(tmp_path)
    run = Run(
        settings, there, "echo first > first.txt", "echo ready; for n in 1 2 3 4 5 6; do sleep 0.5; echo n$n; done"
    )
    run.wait_until_said("ready")
    engine.go_away()
    time.sleep(1.0)
    engine.come_back()
    report = run.report()
    assert left_of(docker_client, there) == []
    assert (tmp_path / "session/artifacts/s0/first.txt").read_text() == "first\n"
    if "engine" in settings:
        assert (report.status, report["error"]["failure_class"]) == ("failed", "infra_lost")
        assert "lost with its container" in report["error"]["message"]
        return
    assert report.status == "completed", report["error"]
    said = [event["message"] for event in read_events(run.events_file) if event["event"] == "log"]
    assert [line for line in said if line in {f"n{number}" for number in range(1, 7)}] == [f"n{n}" for n in range(1, 7)]


def test_a_connection_that_is_cut(engine: Socket, settings: dict[str, Any], tmp_path: Path, docker_client: Any) -> None:
    """A worker's run goes on, each line once. Of a command without one the rest is lost: its step fails, and ends."""
    there = context(tmp_path)
    run = Run(settings, there, "echo n0; sleep 1; echo n1; sleep 3; echo n2; echo done > end.txt")
    run.wait_until_said("n1")
    engine.cut()
    cut_s = time.monotonic()
    report = run.report()
    assert left_of(docker_client, there) == []
    said = [event["message"] for event in read_events(run.events_file) if event["event"] == "log"]
    if "engine" in settings:
        assert (report.status, report["error"]["failure_class"]) == ("failed", "infra_lost")
        assert "its output was cut" in report["error"]["message"]
        assert time.monotonic() - cut_s < 3
        assert not (tmp_path / "session/artifacts/s0/end.txt").exists()
        return
    assert report.status == "completed", report["error"]
    assert [line for line in said if line in ("n0", "n1", "n2")] == ["n0", "n1", "n2"]


def test_bytes_come_one_by_one(engine: Socket, settings: dict[str, Any], tmp_path: Path, docker_client: Any) -> None:
    """The same output as ever."""
    there = context(tmp_path)
    engine.piece_bytes = 1
    run = Run(settings, there, "seq 300; echo oops >&2; echo kept > kept.txt")
    report = run.report()
    assert report.status == "completed", report["error"]
    artifacts = tmp_path / "session/artifacts/s0"
    assert (artifacts / "stdout.log").read_text() == "".join(f"{number}\n" for number in range(1, 301))
    assert (artifacts / "stderr.log").read_text() == "oops\n"
    assert (artifacts / "kept.txt").read_text() == "kept\n"
    assert left_of(docker_client, there) == []


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the connection that nobody answers on
@pytest.mark.parametrize("settings", ["host"], indirect=True)
@pytest.mark.parametrize("request_line", [b"POST /v1", b"/start HTTP"], ids=["create", "start"])
def test_a_lost_answer_leaves_no_container(
    engine: Socket, settings: dict[str, Any], tmp_path: Path, docker_client: Any, request_line: bytes
) -> None:
    """The container is made, or started, and nobody was told: its step fails, and it is gone, and was the only one."""
    there = context(tmp_path)
    run = Run(settings, there, "echo ready; sleep 1", "sleep 300")
    run.wait_until_said("ready")
    engine.unanswered = request_line
    report = run.report()
    assert (report.status, report["error"]["failure_class"]) == ("failed", "infra_lost"), report["error"]
    assert [step["status"] for step in report["steps"]] == ["completed", "failed"]
    assert left_of(docker_client, there) == []
    gc.collect()


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # sockets that the SDK forgets when nobody answers
@pytest.mark.parametrize("settings", ["host"], indirect=True)
def test_an_engine_that_does_not_come_back(
    engine: Socket, settings: dict[str, Any], tmp_path: Path, docker_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run fails as lost infrastructure; what cannot be removed is named with who does it later, and does."""
    monkeypatch.setattr("adapters.docker_engine.exec.remove_container", partial(remove_container, patience_s=0.5))
    there = context(tmp_path)
    run = Run(settings, there, "echo first > first.txt", "echo ready; sleep 300")
    run.wait_until_said("ready")
    engine.go_away()
    report = run.report()
    assert report.status == "failed"
    assert report["error"]["failure_class"] == "infra_lost"
    assert [step["status"] for step in report["steps"]] == ["completed", "failed"]
    assert (tmp_path / "session/artifacts/s0/first.txt").read_text() == "first\n"
    assert "osiris runs gc" in json.dumps(report.to_json()) + json.dumps(list(read_events(run.events_file)))
    monkeypatch.delenv("DOCKER_HOST")
    with AdapterFactory.create("docker", **settings) as adapter:
        for item in adapter.leftovers([tmp_path / "session"]):
            if item.session_dir == str(tmp_path / "session"):
                item.remove()
    assert left_of(docker_client, there) == []
    del run
    gc.collect()


@pytest.mark.parametrize("settings", ["host"], indirect=True)
def test_a_killed_container_of_a_command_is_lost(settings: dict[str, Any], tmp_path: Path, docker_client: Any) -> None:
    """Its step fails, and what came before is kept; nobody can tell it from a command that kills itself."""
    there = context(tmp_path)
    run = Run(settings, there, "echo first > first.txt", "echo ready; sleep 300")
    run.wait_until_said("ready")
    (found,) = docker_client.api.containers(filters={"label": f"osiris.session={there.session_id}"})
    docker_client.api.remove_container(found["Id"], force=True)
    report = run.report()
    assert report.status == "failed"
    assert any(words in report["error"]["message"] for words in ("SIGKILL", "lost with its container"))
    assert [step["status"] for step in report["steps"]] == ["completed", "failed"]
    assert (tmp_path / "session/artifacts/s0/first.txt").read_text() == "first\n"
    assert left_of(docker_client, there) == []


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that is away is soon given up."""
    monkeypatch.setattr("adapters.docker_engine.sandbox.RESTART_PATIENCE_S", 0.5)
    monkeypatch.setattr("adapters.docker_engine.sandbox.remove_container", partial(remove_container, patience_s=0.5))
    monkeypatch.setattr("adapters.docker_engine.sandbox.remove_volume", partial(remove_volume, patience_s=0.5))


@pytest.mark.usefixtures("impatient")
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # sockets that the SDK forgets when nobody answers
@pytest.mark.parametrize("settings", ["docker"], indirect=True)
def test_what_was_given_up_is_ended_by_the_next_attempt(
    engine: Socket, settings: dict[str, Any], tmp_path: Path, docker_client: Any
) -> None:
    """The report is there, and so is the container: it is ended before a step starts; before that, it is warned of."""
    there = context(tmp_path)
    run = Run(settings, there, "echo ready; sleep 300")
    run.wait_until_said("ready")
    engine.go_away()
    report = run.report()
    assert (report.status, report["error"]["failure_class"]) == ("failed", "infra_lost")
    assert "osiris runs gc" in json.dumps(list(read_events(run.events_file)))
    assert left_of(docker_client, there) != []
    manifest = {"pipeline": "docker-fault", "steps": [{"id": "s0", "driver": "command", "config": {"shell": "true"}}]}
    engine.come_back()
    with AdapterFactory.create("local") as adapter:
        again = adapter.run(manifest, replace(there, resume=True))
    assert (again.status, again["attempt"]) == ("completed", 2)
    assert left_of(docker_client, there) == []
    gc.collect()


@pytest.mark.usefixtures("impatient")
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # sockets that the SDK forgets when nobody answers
def test_a_chain_stays_where_its_place_may_go_on(
    engine: Socket, worker_image: str, tmp_path: Path, docker_client: Any
) -> None:
    """Nobody can tell whether the container has come to the step that may not run twice: it is named, and not run."""
    there = context(tmp_path)
    paid = tmp_path / "paid"
    steps = [
        {
            "id": "waits",
            "driver": "command",
            "config": {"shell": "echo ready; sleep 5"},
            "retry": {"attempts": 2},
        },
        {"id": "pays", "driver": "command", "needs": ["waits"], "config": {"shell": f"echo paid >> {paid}"}},
    ]
    reports = []
    with AdapterFactory.create("fallback", chain=[{"type": "docker", "image": worker_image}, "local"]) as adapter:
        manifest = {"pipeline": "docker-fault", "steps": steps}
        thread = threading.Thread(target=lambda: reports.append(adapter.run(manifest, there)))
        thread.start()
        events = tmp_path / "session/events.jsonl"
        wait_for(lambda: events.exists() and any(event.get("message") == "ready" for event in read_events(events)))
        engine.go_away()
        thread.join(60)
    (report,) = reports
    assert (report.status, report["environment"], report["attempt"]) == ("failed", "docker", 1)
    assert "step 'pays' may be running where it was" in report["fallback"]["stayed"]
    assert not paid.exists()
    with open(there.session_dir + "/status.json", encoding="utf-8") as file:
        assert json.load(file) == report.to_json()
    engine.come_back()
    with AdapterFactory.create("docker") as adapter:
        for item in adapter.leftovers([]):
            if item.session_dir == there.session_dir:
                item.remove()
    assert left_of(docker_client, there) == []
    gc.collect()


@pytest.mark.parametrize("settings", ["docker"], indirect=True)
def test_another_engine_is_not_believed(
    engine: Socket, settings: dict[str, Any], tmp_path: Path, docker_client: Any
) -> None:
    """That it knows no such container says nothing of the run: nothing is concluded, and both are named."""
    there = context(tmp_path)
    manifest = {
        "pipeline": "docker-fault",
        "steps": [{"id": "s0", "driver": "command", "config": {"shell": "echo ready; sleep 2; echo kept > kept.txt"}}],
    }
    (tmp_path / "m.json").write_text(json.dumps(manifest))
    (tmp_path / "c.json").write_text(json.dumps({"type": "docker", **settings}))
    argv = [sys.executable, "-m", "osiris_core.cli.main", "run", "m.json", "--config", "c.json"]
    controller = subprocess.Popen(
        [*argv, "--session-dir", there.session_dir],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    events = tmp_path / "session/events.jsonl"
    wait_for(lambda: events.exists() and any(event.get("message") == "ready" for event in read_events(events)))
    controller.kill()
    controller.wait()
    ours = docker_client.api.info()["ID"]
    theirs = "X" * len(ours)
    engine.instead = (ours.encode(), theirs.encode())
    recorded = (tmp_path / "session/run.json").read_text()
    adapter = AdapterFactory.create("docker", **settings)
    with pytest.raises(NotAttached, match=f"Docker Engine {ours}, and this is Docker Engine {theirs}"):
        adapter.attach(there.session_dir)
    assert json.loads((tmp_path / "session/run.json").read_text())["token"] == json.loads(recorded)["token"]
    engine.instead = (b"", b"")
    report = adapter.attach(there.session_dir)
    assert (report.status, report["attempt"]) == ("completed", 1), report["error"]
    adapter.close()
    assert docker_client.api.containers(all=True, filters={"label": f"osiris.session_dir={there.session_dir}"}) == []
