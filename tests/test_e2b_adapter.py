"""A run in a sandbox of E2B: what it costs in requests, how long its sandbox lives, and that nothing of it is left."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("e2b", reason="the extra [e2b] is not installed")

from adapters.e2b_cloud import lifetime
from adapters.e2b_cloud.loop import PrivateLoop
from osiris_core import AdapterFactory, ExecutionContext
from osiris_core.journal import read_events
from osiris_core.session import read_json
from remote.bundle import IN_BAND_BYTES
from remote.sandbox import SandboxError
from tests.e2b_sandboxes import living_sandboxes
from tests.worker_process import wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2b_server import E2BServer, FarEnd
    from tests.e2b_server.seen import Seen

UNCOUNTED = {"info", "timeout"}
"""The one look at a sandbox's limits, and the extension of its life."""


def sql(step_id: str = "a", **keys: Any) -> dict[str, Any]:
    query = "SELECT * FROM range(5) t(i)"
    return {"id": step_id, "driver": "duckdb.processor", "config": {"query": query}, **keys}


def sleep(seconds: float) -> dict[str, Any]:
    return {"id": "sleep", "driver": "command", "config": {"argv": ["sleep", str(seconds)]}}


def manifest(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"pipeline": "p", "steps": list(steps) or [sql()]}


def far(server: E2BServer, **more: Any) -> dict[str, Any]:
    options = {"api_key": server.api_key, "api_url": server.api_url, "sandbox_url": server.sandbox_url}
    return {**options, "template": "osiris-ready", **more}


def counted(record: Seen) -> list[str]:
    return [kind for kind in record.kinds() if kind not in UNCOUNTED]


def own_session(folder: Path) -> ExecutionContext:
    """One whose sandboxes are told from all others, also in an account that others use."""
    return ExecutionContext(session_dir=str(folder / "s"), session_id=f"{folder.name}-{os.getpid()}".replace("_", "-"))


def logged(session: Path) -> list[str]:
    """What was said here, in the journal."""
    found = (event for event in read_events(session / "events.jsonl") if event["event"] == "log")
    return [event["message"] for event in found if event["origin"] == "host"]


# What a run is.


def test_the_call_of_the_seed(e2b_server: E2BServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key is all it takes, and the report has the seed's keys."""
    for name, value in e2b_server.environment().items():
        monkeypatch.setenv(name, value)
    adapter = AdapterFactory.create("e2b", api_key=e2b_server.api_key, template="osiris-ready")
    context = ExecutionContext(
        session_id="test_123", session_dir=str(tmp_path / "s"), verbose=True, timeout=300, environment={"A": "b"}
    )
    prepared = adapter.prepare(manifest(), context)
    assert prepared.configs
    adapter.execute(prepared, context)
    results = adapter.collect(prepared, context)
    assert results["status"] == "completed"
    assert results["environment"] == "e2b"
    assert results["sandbox_id"] == e2b_server.sandbox.sandbox_id
    assert results["overhead_ms"] > 0
    assert results["artifacts"] == []
    facts = results["e2b"]
    assert facts["template"] == "osiris-ready"
    assert facts["envd_version"] == "0.6.13"
    assert facts["requests"] == {"create": 1, "info": 1, "start": 1, "stdin": 1, "download": 1, "kill": 1}
    assert results["transfer"]["up_bytes"] > 0
    assert results["transfer"]["down_bytes"] > 0
    timings = results["timings"]
    assert timings["wall_ms"] == pytest.approx(sum(timings.values()) - timings["wall_ms"], abs=0.1)


@pytest.mark.parametrize("steps", [1, 25])
def test_a_small_package_is_five_requests(e2b_far_end: FarEnd, tmp_path: Path, steps: int) -> None:
    """For any number of steps, events and artifacts."""
    (tmp_path / "in.csv").write_text("a,b\n1,x\n")
    chain = [{"id": "read", "driver": "filesystem.csv_extractor", "config": {"path": str(tmp_path / "in.csv")}}]
    for number in range(steps):
        chain.append(
            {
                "id": f"write{number}",
                "driver": "filesystem.csv_writer",
                "inputs": {"t": "read"},
                "config": {"path": f"out{number}.csv"},
            }
        )
    with AdapterFactory.create("e2b", **e2b_far_end.options) as adapter:
        report = adapter.run(manifest(*chain), ExecutionContext(session_dir=str(tmp_path / "s")))
    assert report.succeeded, report.error
    assert len(report.artifacts) == steps
    requests = dict(report["e2b"]["requests"])
    assert {kind: count for kind, count in requests.items() if kind not in UNCOUNTED} == {
        "create": 1,
        "start": 1,
        "stdin": 1,
        "download": 1,
        "kill": 1,
    }
    if e2b_far_end.record is not None:
        assert counted(e2b_far_end.record) == ["create", "start", "stdin", "download", "kill"]


def test_a_large_package_is_six_requests(e2b_far_end: FarEnd, tmp_path: Path) -> None:
    """It is sent as one file, and the files and their number make no difference."""
    steps = []
    for number in range(6):
        file = tmp_path / f"in{number}.csv"
        file.write_bytes(b"a\n" + b"1234567\n" * (IN_BAND_BYTES // 20))
        steps.append({"id": f"r{number}", "driver": "filesystem.csv_extractor", "config": {"path": str(file)}})
    with AdapterFactory.create("e2b", **e2b_far_end.options) as adapter:
        report = adapter.run(manifest(*steps), ExecutionContext(session_dir=str(tmp_path / "s")))
    assert report.succeeded, report.error
    wanted = ["create", "upload", "start", "stdin", "download", "kill"]
    assert [kind for kind in report["e2b"]["requests"] if kind not in UNCOUNTED] == wanted
    if e2b_far_end.record is not None:
        assert counted(e2b_far_end.record) == wanted


def test_what_marks_a_sandbox(e2b_server: E2BServer, tmp_path: Path) -> None:
    """Session, token and owner are in its metadata and in run.json, before anything is waited for; no place of here."""
    context = ExecutionContext(session_dir=str(tmp_path / "s"), session_id="my-session")
    with AdapterFactory.create("e2b", **far(e2b_server, metadata={"team": "tides"})) as adapter:
        assert adapter.run(manifest(), context).succeeded
    run = read_json(tmp_path / "s" / "run.json") or {}
    sandbox = e2b_server.sandbox
    metadata = sandbox.metadata
    assert metadata["osiris.session"] == "my-session"
    assert metadata["osiris.token"] == run["token"]
    assert metadata["team"] == "tides"
    assert str(os.getpid()) in metadata["osiris.owner"]
    assert str(tmp_path) not in json.dumps(sandbox.create_body)
    assert run["native_id"] == sandbox.sandbox_id
    assert int(run["worker_pid"]) in sandbox.processes
    assert sandbox.create_body.get("envVars") == {}
    key = next(request for request in e2b_server.seen.requests if request.kind == "create").headers["idempotency-key"]
    assert run["token"] in key


def test_the_callers_loop_makes_no_difference(e2b_server: E2BServer, tmp_path: Path) -> None:
    """Inside a running event loop, in several threads at once, with several adapters: all the same."""

    async def inside() -> Any:
        with AdapterFactory.create("e2b", **far(e2b_server)) as adapter:
            return adapter.run(manifest(), ExecutionContext(session_dir=str(tmp_path / "inside")))

    assert asyncio.run(inside()).succeeded
    reports: list[Any] = []

    def one(number: int) -> None:
        with AdapterFactory.create("e2b", **far(e2b_server)) as adapter:
            reports.append(adapter.run(manifest(), ExecutionContext(session_dir=str(tmp_path / f"s{number}"))))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)
    assert [report.status for report in reports] == ["completed"] * 4
    assert len({report["sandbox_id"] for report in reports}) == 4
    with AdapterFactory.create("e2b", **far(e2b_server)) as adapter:  # and one after another in the same adapter
        for number in range(2):
            assert adapter.run(manifest(), ExecutionContext(session_dir=str(tmp_path / f"again{number}"))).succeeded
    assert {sandbox.state for sandbox in e2b_server.sandboxes.values()} == {"gone"}


def test_a_fork_is_refused(e2b_server: E2BServer) -> None:
    """The SDK hangs in a fork of a process that used it; this says so instead."""
    assert AdapterFactory.create("e2b", **far(e2b_server)).unusable() is None
    loop = PrivateLoop.shared()
    loop.pid += 1  # as a fork would see it
    try:
        with pytest.raises(SandboxError, match="'spawn'"):
            PrivateLoop.shared()
    finally:
        loop.pid -= 1


# How it ends.


def test_a_cancel_is_heard_at_once(e2b_far_end: FarEnd, tmp_path: Path) -> None:
    """While a step sleeps; the sandbox is gone then."""
    adapter = AdapterFactory.create("e2b", **e2b_far_end.options)
    context = own_session(tmp_path)
    timer = threading.Thread(target=lambda: (wait_for(lambda: _is_under_way(tmp_path)), adapter.cancel("enough")))
    timer.start()
    report = adapter.run(manifest(sleep(60)), context)
    timer.join()
    assert report.status == "cancelled"
    assert report.timings["wall_ms"] < 15_000
    assert living_sandboxes(e2b_far_end.options, context.session_id) == []


def _is_under_way(folder: Path) -> bool:
    file = folder / "s" / "events.jsonl"
    return file.exists() and "step.start" in file.read_text()


def test_a_sandbox_that_comes_too_late_is_killed(e2b_server: E2BServer, tmp_path: Path) -> None:
    """Cancelled while it is being made, a run waits for it no longer than it takes to be rid of it."""
    delayed = e2b_server.faults.delay(r"POST /v2/sandboxes$", 1.5)
    adapter = AdapterFactory.create("e2b", **far(e2b_server))
    timer = threading.Thread(target=lambda: (wait_for(lambda: delayed.hits), adapter.cancel("enough")))
    timer.start()
    report = adapter.run(manifest(), ExecutionContext(session_dir=str(tmp_path / "s")))
    timer.join()
    assert report.status == "cancelled"
    assert report.timings["wall_ms"] < 8_000
    time.sleep(0.5)
    assert [sandbox.state for sandbox in e2b_server.sandboxes.values()] == ["gone"]


CONTROLLER = """
import json, sys
from osiris_core import AdapterFactory, ExecutionContext
settings, manifest, session, session_id = map(json.loads, sys.argv[1:])
with AdapterFactory.create("e2b", **settings) as adapter:
    adapter.run(manifest, ExecutionContext(session_dir=session, session_id=session_id))
"""


def controller(options: dict[str, Any], folder: Path, *steps: dict[str, Any]) -> subprocess.Popen[str]:
    """A process of its own that runs these steps, in the middle of the first."""
    context = own_session(folder)
    words = [json.dumps(item) for item in (options, manifest(*steps), context.session_dir, context.session_id)]
    environment = {**os.environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    process = subprocess.Popen(
        [sys.executable, "-c", CONTROLLER, *words], env=environment, stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: _is_under_way(folder) or process.poll() is not None, 30)
    assert process.poll() is None, process.communicate()[1]
    return process


def test_ctrl_c_takes_effect_at_once(e2b_far_end: FarEnd, tmp_path: Path) -> None:
    """The process ends by KeyboardInterrupt, soon, and its sandbox is gone."""
    process = controller(e2b_far_end.options, tmp_path, sleep(60))
    started_s = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert "KeyboardInterrupt" in errors
    assert time.monotonic() - started_s < 12
    assert living_sandboxes(e2b_far_end.options, own_session(tmp_path).session_id) == []
    assert (read_json(tmp_path / "s" / "status.json") or {})["status"] == "cancelled"


def test_what_a_dead_controller_left_is_swept(e2b_server: E2BServer, tmp_path: Path) -> None:
    """Its sandbox goes on, is found by its metadata alone, and is gone when it is removed; a living one's is left."""
    living = controller(far(e2b_server), tmp_path / "living", sleep(60))
    dead = controller(far(e2b_server), tmp_path / "dead", sleep(60))
    dead.kill()
    dead.communicate()
    with AdapterFactory.create("e2b", **far(e2b_server)) as adapter:
        for session_dirs in ([], [tmp_path / "dead" / "s", tmp_path / "living" / "s"]):
            found = adapter.leftovers(session_dirs)
            assert [item.session_id for item in found] == [own_session(tmp_path / "dead").session_id]
            assert found[0].is_running
        assert found[0].session_dir == str(tmp_path / "dead" / "s")
        orphan = e2b_server.sandboxes[found[0].native_id]
        assert orphan.state == "running"
        found[0].remove()
        found[0].remove()
        assert orphan.state == "gone"
        assert adapter.leftovers([]) == []
    living.send_signal(signal.SIGINT)
    living.communicate(timeout=30)


def gc(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command line's, in an environment that has no account but this one."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("E2B")}
    line = [sys.executable, "-m", "osiris_core.cli.main", "runs", "gc", "--root", str(folder), "--adapter", "e2b"]
    return subprocess.run(
        [*line, *words], env={**own, **environment}, cwd=folder, capture_output=True, text=True, check=False
    )


def test_gc_looks_where_runs_were(e2b_server: E2BServer, tmp_path: Path) -> None:
    """At the far end that a run's configuration named, with no word of it here; without its key that is said."""
    with AdapterFactory.create("e2b", **far(e2b_server, keep=True)) as adapter:
        assert adapter.run(manifest(), ExecutionContext(session_dir=str(tmp_path / "root" / "s"))).succeeded
    sandbox = e2b_server.sandbox
    done = gc(tmp_path / "root")
    assert done.returncode == 1
    assert "there is no API key" in done.stderr
    assert sandbox.state == "running"
    done = gc(tmp_path / "root", E2B_API_KEY=e2b_server.api_key)
    assert sandbox.sandbox_id in done.stdout
    assert sandbox.state == "gone"


def test_gc_takes_a_configuration(e2b_server: E2BServer, tmp_path: Path) -> None:
    """For an account whose key was not written down; a run that left nothing needs none."""
    with AdapterFactory.create("e2b", **far(e2b_server, keep=True)) as adapter:
        assert adapter.run(manifest(), ExecutionContext(session_dir=str(tmp_path / "root" / "s"))).succeeded
    config = tmp_path / "e2b.json"
    config.write_text(json.dumps(far(e2b_server, api_key="${ANOTHER_KEY}")))
    done = gc(tmp_path / "root", "--config", str(config), ANOTHER_KEY=e2b_server.api_key)
    assert done.returncode == 0, done.stderr
    assert e2b_server.sandbox.state == "gone"
    with AdapterFactory.create("e2b", **far(e2b_server)) as adapter:
        assert adapter.run(manifest(), ExecutionContext(session_dir=str(tmp_path / "clean" / "s"))).succeeded
    assert gc(tmp_path / "clean").returncode == 0


def test_a_kept_sandbox_can_be_looked_at(e2b_server: E2BServer, tmp_path: Path) -> None:
    """Its worker is ended, its files are there, and gc removes it."""
    with AdapterFactory.create("e2b", **far(e2b_server, keep=True)) as adapter:
        assert adapter.run(manifest(), ExecutionContext(session_dir=str(tmp_path / "s"))).succeeded
        sandbox = e2b_server.sandbox
        assert sandbox.state == "running"
        assert sandbox.living() == []
        assert list(sandbox.home.glob("osiris-*/session/summary.json"))
        assert any(sandbox.sandbox_id in line and "osiris runs gc" in line for line in logged(tmp_path / "s"))
        (left,) = adapter.leftovers([tmp_path / "s"])
        left.remove()
        assert sandbox.state == "gone"


def test_a_kept_sandbox_may_be_paused(e2b_server: E2BServer, tmp_path: Path) -> None:
    """With on_timeout: pause it costs nothing while nobody looks; it is asked for when the sandbox is made, too."""
    with AdapterFactory.create("e2b", **far(e2b_server, keep=True, on_timeout="pause")) as adapter:
        assert adapter.run(manifest(), ExecutionContext(session_dir=str(tmp_path / "s"))).succeeded
        assert e2b_server.sandbox.state == "paused"
        assert e2b_server.sandbox.create_body["autoPause"] is True
        (left,) = adapter.leftovers([tmp_path / "s"])
        assert not left.is_running
        left.remove()
        assert e2b_server.sandbox.state == "gone"


def test_a_dead_controllers_sandbox_is_adopted(e2b_server: E2BServer, tmp_path: Path) -> None:
    """By its id, or by the token alone; it can then be connected to, asked, and stopped."""
    process = controller(far(e2b_server), tmp_path, sleep(60))
    process.kill()
    process.communicate()
    run = read_json(tmp_path / "s" / "run.json") or {}
    for native_id in (run["native_id"], None):
        sandbox = made_sandbox(e2b_server, run["token"])
        assert sandbox.adopt(native_id)
        transport = sandbox.reconnect()
        heard = b""
        deadline_s = time.monotonic() + 10
        while b"heartbeat" not in heard and time.monotonic() < deadline_s:
            heard += transport.receive(1.0) or b""
        assert b"heartbeat" in heard
        assert sandbox.fate().running
        transport.close()
    assert sandbox.stop() == ""
    assert e2b_server.sandbox.state == "gone"
    assert not made_sandbox(e2b_server, run["token"]).adopt(run["native_id"])
    assert not made_sandbox(e2b_server, run["token"]).adopt(None)


def test_all_that_a_token_marks_is_stopped(e2b_server: E2BServer) -> None:
    """A create whose answer was lost may have been carried out twice."""
    for _ in range(2):
        made_sandbox(e2b_server, "a" * 32).start()
    sandbox = made_sandbox(e2b_server, "a" * 32)
    assert sandbox.adopt(None)
    sandbox.stop()
    assert [sandbox.state for sandbox in e2b_server.sandboxes.values()] == ["gone", "gone"]


def test_a_second_controller_goes_on(e2b_far_end: FarEnd, tmp_path: Path) -> None:
    """The first one is killed in mid-run: its run comes home complete, with every event once, and nothing is left."""
    process = controller(e2b_far_end.options, tmp_path, sleep(4), sql(needs=["sleep"]))
    process.kill()
    process.communicate()
    run = read_json(tmp_path / "s" / "run.json") or {}
    with AdapterFactory.create("e2b", **e2b_far_end.options) as adapter:
        report = adapter.attach(tmp_path / "s")
    assert report.succeeded, report.error
    assert report["sandbox_id"] == run["native_id"]
    assert report["e2b"]["template"]
    assert report["e2b"]["requests"]["create"] == 1
    events = list(read_events(tmp_path / "s" / "events.jsonl"))
    engine = [event["seq"] for event in events if event["origin"] == "engine"]
    assert engine == list(range(1, len(engine) + 1))
    assert living_sandboxes(e2b_far_end.options, own_session(tmp_path).session_id) == []


def made_sandbox(server: E2BServer, token: str) -> Any:
    """One that was not started."""
    from adapters.e2b_cloud.account import Account
    from adapters.e2b_cloud.config import E2BConfig
    from adapters.e2b_cloud.creation import Wanted
    from adapters.e2b_cloud.sandbox import E2BSandbox

    config = E2BConfig(**far(server))
    wanted = Wanted(
        token=token,
        metadata={"osiris.token": token},
        template="osiris-ready",
        is_own=False,
        lifetime=lifetime.Lifetime.of(config, None),
        on_timeout="kill",
        network={},
    )
    return E2BSandbox(
        Account(config, server.api_key),
        config,
        wanted,
        say=lambda *_: None,
        cancel_reason=lambda: None,
        facts={},
        record=lambda **_: None,
    )


# How long it lives.


@pytest.mark.parametrize(
    ("timeout_s", "max_s", "asked_s", "fits"),
    [
        (None, 86_400, 3600, True),
        (None, 1800, 1800, True),
        (60, 86_400, 360, True),
        (3500, 86_400, 3600, True),
        (3600, 86_400, 3900, True),
        (3500, 3600, 3600, True),
        (3600, 3600, 3600, False),
        (86_400, 86_400, 86_400, False),
    ],
)
def test_what_is_asked_for(timeout_s: float | None, max_s: int, asked_s: int, fits: bool) -> None:
    """The run's time and what is around it, never more than the plan; a plan of an hour takes a run of nearly that."""
    wanted = lifetime.Lifetime(timeout_s, max_s)
    assert wanted.asked_s == asked_s
    assert (wanted.shortfall is None) is fits


def test_its_life_is_extended(e2b_server: E2BServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run without a limit outlives what was asked for at first."""
    monkeypatch.setattr(lifetime, "LEASE_S", 2)
    monkeypatch.setattr(lifetime, "TOLERANCE_S", 0.5)
    with AdapterFactory.create("e2b", **far(e2b_server)) as adapter:
        report = adapter.run(manifest(sleep(5)), ExecutionContext(session_dir=str(tmp_path / "s")))
    assert report.succeeded, report.error
    assert e2b_server.seen.count("timeout") >= 3
    assert counted(e2b_server.seen) == ["create", "start", "stdin", "download", "kill"]


def test_what_is_not_granted_is_said(e2b_server: E2BServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server shortens an extension without a word: it is read back, and the sandbox's end is told as what it is."""
    monkeypatch.setattr(lifetime, "LEASE_S", 3)
    monkeypatch.setattr(lifetime, "TOLERANCE_S", 0.5)
    e2b_server.policy.max_lifetime_s = 3
    with AdapterFactory.create("e2b", **far(e2b_server)) as adapter:
        report = adapter.run(manifest(sleep(30)), ExecutionContext(session_dir=str(tmp_path / "s")))
    assert report.error is not None
    assert report.error["failure_class"] == "infra_lost"
    assert "lived to its end" in report.error["message"]
    assert any("no longer" in line for line in logged(tmp_path / "s"))


def test_a_life_that_does_for_the_run_is_not_extended(
    e2b_server: E2BServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a plan whose limit the run just fits into: nothing is asked, and nobody warned."""
    monkeypatch.setattr(lifetime, "LEASE_S", 20)
    monkeypatch.setattr(lifetime, "LEAST_AROUND_S", 1)
    monkeypatch.setattr(lifetime, "TOLERANCE_S", 0.1)
    e2b_server.policy.max_lifetime_s = 20
    with AdapterFactory.create("e2b", **far(e2b_server)) as adapter:
        context = ExecutionContext(session_dir=str(tmp_path / "s"), timeout=12)
        report = adapter.run(manifest(sleep(10.5)), context)
    assert report.succeeded, report.error
    assert e2b_server.seen.count("timeout") == 0
    assert logged(tmp_path / "s") == []


def test_a_run_that_begins_late_has_its_time(
    e2b_server: E2BServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sandbox was made long before: its life is extended, as far as is needed."""
    monkeypatch.setattr(lifetime, "AROUND_S", 1)
    monkeypatch.setattr(lifetime, "LEAST_AROUND_S", 1)
    monkeypatch.setattr(lifetime, "TOLERANCE_S", 0.1)
    e2b_server.faults.delay("Process/Start$", 4.0)
    with AdapterFactory.create("e2b", **far(e2b_server)) as adapter:
        report = adapter.run(manifest(sleep(4)), ExecutionContext(session_dir=str(tmp_path / "s"), timeout=6))
    assert report.succeeded, report.error
    assert e2b_server.seen.count("timeout") >= 1


def test_nothing_is_left_at_the_far_end(e2b_far_end: FarEnd, tmp_path: Path) -> None:
    """Whatever became of the run, no sandbox of it is alive."""
    for name, steps in {"good": [sql()], "bad": [{**sql(), "config": {"query": "SELECT nonsense"}}]}.items():
        context = ExecutionContext(session_dir=str(tmp_path / name), session_id=f"left-{os.getpid()}-{name}")
        with AdapterFactory.create("e2b", **e2b_far_end.options) as adapter:
            report = adapter.run(manifest(*steps), context)
        assert report.succeeded is (name == "good")
        assert living_sandboxes(e2b_far_end.options, context.session_id) == []


# What else a configuration says.


def test_variables_of_the_configuration_arrive(
    e2b_server: E2BServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A public one as it is, a secret one by name: its value is with the step, and in no other request."""
    monkeypatch.setenv("FROM_HERE", "correct-horse-battery")
    variables = {"OMP_NUM_THREADS": "2", "TOKEN": "${FROM_HERE}"}
    script = 'test "$OMP_NUM_THREADS" = 2 && test "${#TOKEN}" = 21 && test -z "$E2B_API_KEY$FROM_HERE"'
    step = {"id": "see", "driver": "command", "config": {"argv": ["sh", "-c", script]}}
    with AdapterFactory.create("e2b", **far(e2b_server, env_vars=variables)) as adapter:
        report = adapter.run(manifest(step), ExecutionContext(session_dir=str(tmp_path / "s")))
    assert report.succeeded, report.error
    assert e2b_server.places_of("correct-horse-battery") == []
    assert e2b_server.places_of(e2b_server.api_key) == []


def test_user_and_folder_arrive(e2b_server: E2BServer, tmp_path: Path) -> None:
    """The worker is started by whom, and where, the configuration says."""
    settings = far(e2b_server, user="user", remote_dir=str(tmp_path / "there"))
    with AdapterFactory.create("e2b", **settings) as adapter:
        report = adapter.run(manifest(), ExecutionContext(session_dir=str(tmp_path / "s")))
    start = next(request for request in e2b_server.seen.requests if request.kind == "start")
    assert start.headers["authorization"] == "Basic dXNlcjo="
    assert f"mkdir -p {tmp_path}/there/osiris-" in start.body.decode(errors="replace")
    assert report["worker"]["python"]
    assert e2b_server.sandbox.state == "gone"


def test_the_far_end_is_the_configurations(monkeypatch: pytest.MonkeyPatch) -> None:
    """A domain of one's own, whatever the environment says; debug mode of the SDK is never on."""
    from adapters.e2b_cloud.account import Account
    from adapters.e2b_cloud.config import E2BConfig

    for name in ("E2B_API_URL", "E2B_SANDBOX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("E2B_DEBUG", "true")
    account = Account(E2BConfig(domain="e2b.example.org", request_timeout_s=7), "key")
    assert account.address == "https://api.e2b.example.org"
    assert account.sandboxes._bound_api_params == {
        "api_key": "key",
        "debug": False,
        "request_timeout": 7.0,
        "domain": "e2b.example.org",
    }
