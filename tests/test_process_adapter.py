"""The process adapter, as users meet it: the same results, clear errors, and nothing left whatever happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from osiris_core import AdapterFactory, ExecutionContext
from osiris_core.errors import PreparationError
from osiris_core.journal import Journal, read_events
from osiris_core.rooms import load
from remote.client import WorkerClient
from remote.file_transport import FileTransport
from remote.pipe_transport import FolderFiles
from tests.worker_process import DRIVERS, NAP, alive, files_with, running, step, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

SECRET = "correct-horse-battery"
OSIRIS = [sys.executable, "-m", "osiris_core.cli.main"]


def context(folder: Path, **more: Any) -> ExecutionContext:
    return ExecutionContext(session_dir=str(folder / "session"), **more)


def run(folder: Path, *steps: dict[str, Any], settings: dict[str, Any] | None = None, **more: Any) -> Any:
    adapter = AdapterFactory.create("process", code=[str(DRIVERS)], **(settings or {}))
    with adapter:
        return adapter.run({"pipeline": "p", "steps": list(steps)}, context(folder, **more))


def nothing_left(folder: Path) -> None:
    """No worker, no process of a step, and no folder of either."""
    session = folder / "session"
    assert list(session.glob("process-*")) == []
    assert not (session / "work").exists()
    assert running("sleep", NAP) == []
    marks = [
        path.parent.name
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if str(session).encode() in _read(path) and b"remote.supervisor" in _read(path) and alive(int(path.parent.name))
    ]
    assert marks == []


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_a_run_comes_home_whole(tmp_path: Path) -> None:
    """Artifacts with their bytes, the engine's events in the journal, what the worker was, and books that balance."""
    report = run(tmp_path, step("Write", config={"text": "hello"}), environment={"TOKEN": SECRET})
    assert report.status == "completed"
    assert (tmp_path / "session/artifacts/work/out.bin").read_bytes() == b"hello"
    assert report["sandbox_id"].startswith("process-")
    assert report["worker"]["packages"]["pyarrow"]
    assert report["transfer"]["up_bytes"] > 100_000
    events = list(read_events(tmp_path / "session/events.jsonl"))
    assert [event["event"] for event in events if event["origin"] == "host"] == ["run.start", "run.complete"]
    timings = dict(report["timings"])
    assert timings.pop("wall_ms") == pytest.approx(sum(timings.values()), abs=0.01)
    assert files_with(tmp_path, SECRET) == []
    nothing_left(tmp_path)


@pytest.mark.parametrize(
    ("driver", "failure_class", "says"),
    [
        (step("Raise", config={"text": "no"}), "user_error", "no"),
        (step("Segfault"), "user_error", "SIGSEGV"),
        (step("Leave"), "user_error", "exit code 3"),
        (step("Signal", config={"name": "SIGKILL"}), "infra_lost", "SIGKILL"),
        (step("Escape", timeout_s=1.5, config={"stay": True}), "timeout", "1.5 s"),
    ],
)
def test_nothing_is_left_of_a_run_that_failed(
    tmp_path: Path, driver: dict[str, Any], failure_class: str, says: str
) -> None:
    """And what ran before is home."""
    report = run(tmp_path, step("Write", "first"), {**driver, "needs": ["first"]}, environment={"TOKEN": SECRET})
    assert report["error"]["failure_class"] == failure_class
    assert says in report["error"]["message"]
    assert report["steps"][0]["status"] == "completed"
    assert (tmp_path / "session/artifacts/first/out.bin").read_text() == "first"
    assert list(read_events(tmp_path / "session/events.jsonl"))[-1]["event"] == "run.error"
    assert files_with(tmp_path, SECRET) == []
    nothing_left(tmp_path)


def test_a_run_that_takes_too_long(tmp_path: Path) -> None:
    """The run's own limit ends it, and all that it started."""
    report = run(tmp_path, step("Escape", config={"stay": True}), timeout=1.5)
    assert report.status == "timeout"
    nothing_left(tmp_path)


def test_a_run_that_is_cancelled(tmp_path: Path) -> None:
    """From another thread, with its reason."""
    import threading

    adapter = AdapterFactory.create("process", code=[str(DRIVERS)])
    where = context(tmp_path)
    timer = threading.Thread(target=lambda: (wait_for(lambda: running("sleep", NAP)), adapter.cancel("enough")))
    timer.start()
    report = adapter.run({"pipeline": "p", "steps": [step("Escape", config={"stay": True})]}, where)
    timer.join()
    assert report.status == "cancelled"
    assert "enough" in report["error"]["message"]
    nothing_left(tmp_path)


@pytest.mark.parametrize("trace", [True, False])
def test_a_run_that_is_cancelled_before_it_has_a_place(tmp_path: Path, trace: bool) -> None:
    """Nothing is made for it, and no file stays open."""
    adapter = AdapterFactory.create("process", code=[str(DRIVERS)])
    where = context(tmp_path, trace_rpc=str(tmp_path / "trace") if trace else None)
    prepared = adapter.prepare({"pipeline": "p", "steps": [step("Write")]}, where)
    adapter.cancel("never mind")
    with pytest.raises(Exception, match="never mind"):
        adapter.execute(prepared, where)
    assert adapter.collect(prepared, where)["status"] == "cancelled"
    nothing_left(tmp_path)


# Where the worker cannot run.


@pytest.mark.parametrize("python", ["/nowhere/python", "/etc/passwd", "/"])
def test_a_python_that_cannot_be_started(tmp_path: Path, python: str) -> None:
    """Says which and why."""
    report = run(tmp_path, step("Write"), settings={"python": python})
    assert report.status == "failed"
    assert python in report["error"]["message"]
    assert report["error"]["failure_class"] in ("user_error", "infra_lost")
    nothing_left(tmp_path)


def test_a_python_that_is_none(tmp_path: Path) -> None:
    """A program that says other things and leaves: its exit code and its last words."""
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\necho on the wire\necho no such interpreter >&2\nexit 9\n")
    fake.chmod(0o755)
    report = run(tmp_path, step("Write"), settings={"python": str(fake)})
    assert "exit code 9" in report["error"]["message"]
    assert "no such interpreter" in report["error"]["message"]
    assert report["error"]["details"]["exit_code"] == 9
    logs = [event["message"] for event in read_events(tmp_path / "session/events.jsonl") if event["event"] == "log"]
    assert logs == ["on the wire"]
    nothing_left(tmp_path)


def test_a_python_without_packages(tmp_path: Path) -> None:
    """Names each that is missing, and what to do."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    report = run(tmp_path, step("Write"), settings={"python": str(tmp_path / "bare/bin/python")})
    message = report["error"]["message"]
    for name in ("pydantic", "pyarrow", "duckdb"):
        assert name in message
    assert "install" in message
    assert report["error"]["failure_class"] == "user_error"
    nothing_left(tmp_path)


def test_a_silent_python_is_given_up(tmp_path: Path) -> None:
    """After `start_timeout_s`."""
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\nexec sleep " + NAP + "\n")
    fake.chmod(0o755)
    report = run(tmp_path, step("Write"), settings={"python": str(fake), "start_timeout_s": 0.5})
    assert "0.5 s" in report["error"]["message"]
    nothing_left(tmp_path)


def test_a_dead_supervisor_is_told_with_its_signal(tmp_path: Path) -> None:
    """The engine goes with it, and the report says what is known."""
    import threading

    def kill() -> None:
        pid = wait_for(lambda: running("sleep", NAP)) and _supervisor(tmp_path / "session")
        os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    report = run(tmp_path, step("Write", "first"), step("Escape", config={"stay": True}, needs=["first"]))
    thread.join()
    assert report["error"]["failure_class"] == "infra_lost"
    assert "signal 9" in report["error"]["message"]
    assert [item["status"] for item in report["steps"]] == ["completed", "failed"]
    for pid in running("sleep", NAP):
        os.kill(pid, signal.SIGKILL)  # a named gap: who left session and parents is known to the supervisor alone
    nothing_left(tmp_path)


def _supervisor(session: Path) -> int:
    """The pid of the worker, by its folder on its command line and by not being the engine."""
    found = [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if f"{session}/process-".encode() in _read(path) and b"remote.supervisor" in _read(path)
    ]
    parents = {pid: int(_read(Path(f"/proc/{pid}/stat")).rpartition(b")")[2].split()[1]) for pid in found}
    return next(pid for pid in found if parents[pid] not in found)


def test_a_package_that_was_tampered_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its way up and the start: class `protocol`, no step ran, nothing is left."""
    sandbox = load("adapters.process").ProcessSandbox
    put = sandbox.put

    def spoil(self: Any, archive: Path) -> None:
        put(self, archive)
        path = Path(self.work_dir, "code/worker_drivers.py")
        path.write_text(path.read_text() + "\n# more\n")

    monkeypatch.setattr(sandbox, "put", spoil)
    report = run(tmp_path, step("Write"))
    assert report["error"]["failure_class"] == "protocol"
    assert "code/worker_drivers.py" in report["error"]["message"]
    assert "step.start" not in (tmp_path / "session/events.jsonl").read_text()
    nothing_left(tmp_path)


# The command line.


def start_cli(folder: Path, steps: list[dict[str, Any]]) -> subprocess.Popen[str]:
    (folder / "manifest.json").write_text(json.dumps({"pipeline": "p", "steps": steps}))
    (folder / "config.yaml").write_text(f"type: process\ncode: [{DRIVERS}]\n")
    argv = [*OSIRIS, "run", "manifest.json", "--adapter", "process", "--config", "config.yaml"]
    return subprocess.Popen(
        [*argv, "--session-dir", "session", "--json"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_command_line_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM: exit code 130, a report, and nothing of the run alive."""
    process = start_cli(tmp_path, [step("Escape", config={"stay": True})])
    wait_for(lambda: len(running("sleep", NAP)) == 2)
    process.send_signal(number)
    out, err = process.communicate(timeout=40)
    assert process.returncode == 130, err
    assert json.loads(out)["status"] == "cancelled"
    nothing_left(tmp_path)


def follow(folder: Path, worker: Path, alive_now: Callable[[], bool]) -> tuple[WorkerClient, Any, Journal]:
    journal = Journal(folder / "second.jsonl", "session")
    copies = journal.copies("engine")
    return WorkerClient(FileTransport(FolderFiles(worker), alive_now), copies), copies, journal


@pytest.mark.parametrize("ending", ["completed", "cancelled"])
def test_a_run_outlives_its_controller(tmp_path: Path, ending: str) -> None:
    """Killed without a word: the session directory says where the worker is, and another host can follow and cancel."""
    process = start_cli(tmp_path, [step("Sleep", "a", config={"seconds": 3}), step("Write", "b", needs=["a"])])
    events = tmp_path / "session/events.jsonl"
    wait_for(lambda: events.exists() and "step.start" in events.read_text())
    process.kill()
    process.communicate()
    record = json.loads((tmp_path / "session/run.json").read_text())
    assert len(record["token"]) == 32
    worker = tmp_path / "session" / record["native_id"]
    pid = _supervisor(tmp_path / "session")
    client, copies, journal = follow(tmp_path, worker, lambda: alive(pid))
    with journal:
        assert client.hello(5)["pid"] == pid
        assert client.call("heartbeat")["state"] == "running"
        if ending == "cancelled":
            assert client.call("cancel", {"reason": "by the second host"}) == {"accepted": True}
        assert wait_for(lambda: client.call("heartbeat")["state"] == "over")
        answer = client.call("get_summary")
        assert answer["summary"]["status"] == ending
        assert client.wait(lambda: copies.last_seq == answer["last_seq"], 10)
        client.call("shutdown")
    wait_for(lambda: not alive(pid))
    assert (tmp_path / "second.jsonl").read_bytes() == (worker / "session/events.jsonl").read_bytes()
    assert (worker / "session/artifacts/b/out.bin").exists() is (ending == "completed")


def test_a_driver_of_a_function_is_refused_in_prepare(tmp_path: Path) -> None:
    """It cannot be found in another process; the remedy is named, and nothing was made."""
    from osiris_core.driver import DriverRegistry

    class Inner:
        def run(self, step_id: str, config: Any, inputs: Any, ctx: Any) -> None: ...

    DriverRegistry.register("inner", Inner)
    try:
        with pytest.raises(PreparationError, match="module of its own"):
            run(tmp_path, {"id": "a", "driver": "inner"})
    finally:
        DriverRegistry.unregister("inner")
    assert not (tmp_path / "session").exists()


def test_runs_side_by_side(tmp_path: Path) -> None:
    """One adapter, several runs at a time: each has its own worker, events and files."""
    from concurrent.futures import ThreadPoolExecutor

    adapter = AdapterFactory.create("process", code=[str(DRIVERS)])

    def one(number: int) -> Any:
        manifest = {"pipeline": "p", "steps": [step("Write", config={"text": str(number)})]}
        return adapter.run(manifest, context(tmp_path / str(number)))

    with ThreadPoolExecutor(3) as pool:
        reports = list(pool.map(one, range(3)))
    for number, report in enumerate(reports):
        assert report.status == "completed"
        assert (tmp_path / f"{number}/session/artifacts/work/out.bin").read_text() == str(number)
        nothing_left(tmp_path / str(number))


@pytest.mark.timeout(120)
def test_many_events_come_over_the_pipe(tmp_path: Path) -> None:
    """None lost and none twice, journalled on both ends; the rate is printed."""
    count = 100_000
    started_s = time.monotonic()
    report = run(tmp_path, step("Emit", config={"count": count}))
    took_s = time.monotonic() - started_s
    numbers = [event["seq"] for event in read_events(tmp_path / "session/events.jsonl") if event["origin"] == "engine"]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > count
    rate = count / (report["timings"]["steps_ms"] / 1000)
    print(f"{rate:,.0f} events/s while the step ran, {count / took_s:,.0f} with start and collect")
