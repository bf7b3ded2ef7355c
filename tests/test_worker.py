"""A worker as a bare process: hello before all else, each method in each state, a wire that user code never sees."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from remote.protocol import PROTOCOL_VERSION, WORKER_PACKAGES, ErrorCode
from tests.conftest import NAMED_GAP
from tests.worker_process import DRIVERS, NAP, WorkerProcess, alive, files_with, running, step, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECRET = "correct-horse-battery"


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., WorkerProcess]]:
    """Starts workers, each in a folder of its own; none is left afterwards."""
    made: list[WorkerProcess] = []

    def make(*steps: dict[str, Any], **more: Any) -> WorkerProcess:
        made.append(WorkerProcess(tmp_path / f"w{len(made)}", list(steps) or [step("Write")], **more))
        return made[-1]

    yield make
    for worker in made:
        worker.close()


# Hello.


def test_hello_is_the_first_word(launch: Callable[..., WorkerProcess]) -> None:
    """Protocol, version, Python, packages and pid, soon; the time is printed."""
    times = []
    for _ in range(3):
        worker = launch(start=False)
        started_s = time.monotonic()
        worker.launch()
        hello = worker.hello()
        times.append(time.monotonic() - started_s)
    print(f"hello: {min(times) * 1000:.0f} ms")
    assert min(times) < 1
    assert hello["protocol"] == PROTOCOL_VERSION
    assert hello["python"] == ".".join(map(str, sys.version_info[:3]))
    assert hello["packages"].keys() == WORKER_PACKAGES.keys()
    assert hello["pid"] == worker.pid
    assert worker.strays == []


LISTED = (
    "m=load('remote.supervisor');f=m.Wire.send;"
    "m.Wire.send=lambda *a:(os.write(2,' '.join(sys.modules).encode()+b'\\n'),f(*a))[1];m.main(w,i,o)"
)


def test_nothing_heavy_is_imported_before_hello(launch: Callable[..., WorkerProcess]) -> None:
    """When the supervisor writes its first frame it has the standard library and our own few modules, no package."""
    worker = launch(start=False)
    code = worker.argv.index("-c") + 1
    worker.argv[code] = re.sub(r"load\w*\('remote.supervisor'\).main\(w,i,o\)", lambda _: LISTED, worker.argv[code])
    worker.launch()
    worker.hello()
    loaded = {name.partition(".")[0] for name in worker.stderr.splitlines()[0].split()}
    assert "osiris_core" in loaded
    assert not loaded & {
        *WORKER_PACKAGES,
        "jsonschema",
        "oslash",
        "asyncio",
        "logging",
        "subprocess",
        "typing_extensions",
    }


def python_that_prints(folder: Path, code: str) -> str:
    """A virtual environment with our packages whose start runs a line of code, as a `.pth` file of a package may."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    site = next(folder.glob("lib/python*/site-packages"))
    ours = next(path for path in map(Path, sys.path) if (path / "pydantic").is_dir())
    (site / "ours.pth").write_text(f"{ours}\n")
    (site / "a.pth").write_text(f"import os, sys; {code}\n")
    return str(folder / "bin" / "python")


def test_what_is_printed_before_hello_is_a_stray(launch: Callable[..., WorkerProcess], tmp_path: Path) -> None:
    """A package that prints when Python starts breaks no frame, and the run completes."""
    code = "print('welcome'); os.write(1, b'\\\\x00\\\\xffraw {no end'); sys.stdout.flush()".replace("\\\\", "\\")
    worker = launch(python=python_that_prints(tmp_path / "venv", code))
    assert worker.start()["pid"]
    assert worker.summary()["summary"]["status"] == "completed"
    assert b"welcome" in b"".join(worker.strays)
    assert b"raw {no end" in b"".join(worker.strays)


def test_a_python_without_our_packages_says_so(launch: Callable[..., WorkerProcess], tmp_path: Path) -> None:
    """`hello` comes with what is there, so that the host can name what is not."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    hello = launch(python=str(tmp_path / "bare/bin/python")).hello()
    assert hello["packages"] == {}


def other_pythons() -> list[str]:
    """Interpreters of other versions on this machine, from the oldest."""
    found = []
    for minor in range(8, 16):
        places = [*(Path.home() / ".pyenv/versions").glob(f"3.{minor}.*/bin/python3"), shutil.which(f"python3.{minor}")]
        if minor == sys.version_info.minor:
            continue
        for place in filter(None, places):
            run = subprocess.run(
                [str(place), "-c", "import sys;print(sys.version_info[1])"], capture_output=True, check=False
            )
            if run.stdout.strip() == str(minor).encode():
                found.append(str(place))
                break
    return found


@pytest.mark.parametrize("python", other_pythons() or [None])
def test_another_python_says_hello(launch: Callable[..., WorkerProcess], python: str | None) -> None:
    """The byte code that travels is for one version; others compile the sources, and say which they are."""
    if python is None:
        pytest.skip(f"{NAMED_GAP}no other Python is on this machine")
    hello = launch(python=python, start=True).hello()
    assert (
        hello["python"].split(".")[1] == re.search(r"3\.(\d+)", subprocess.check_output([python, "-V"], text=True))[1]
    )  # type: ignore[index]


# The methods in each state.


def test_before_start(launch: Callable[..., WorkerProcess]) -> None:
    """There is no summary and nothing to cancel or replay; a sign of life is given."""
    worker = launch()
    worker.hello()
    assert worker.ask("get_summary")["error"]["code"] == ErrorCode.NOT_STARTED
    assert worker.ask("cancel")["result"] == {"accepted": False}
    assert worker.ask("replay", {"after_seq": 0})["result"] == {"last_seq": 0}
    assert worker.ask("heartbeat")["result"]["state"] == "waiting"


def test_a_whole_run(launch: Callable[..., WorkerProcess]) -> None:
    """Events in order without a gap, then the summary with metrics, overhead and the last number; then replays."""
    worker = launch(step("Write", config={"text": "hello"}))
    pid = worker.start()["pid"]
    assert pid != worker.pid
    result = worker.summary()
    assert [event["seq"] for event in worker.events] == list(range(1, result["last_seq"] + 1))
    assert worker.names()[0] == "step.start"
    assert worker.names()[-1] == "steps.complete"
    assert worker.events == worker.journal()
    assert result["summary"]["status"] == "completed"
    assert result["metrics"].keys() == {"rows_read", "rows_written", "execution_time_ms", "memory_usage_mb"}
    assert result["overhead_ms"] >= 0
    assert (worker.folder / "session/artifacts/work/out.bin").read_bytes() == b"hello"
    for after in (0, 2, result["last_seq"] - 1, result["last_seq"], 10**6):
        worker.events.clear()
        assert worker.ask("replay", {"after_seq": after})["result"] == {"last_seq": result["last_seq"]}
        worker.ask("heartbeat")
        wait_for(lambda: worker.take(0.3) or True)
        assert [event["seq"] for event in worker.events] == list(range(after + 1, result["last_seq"] + 1))
    assert worker.ask("cancel")["result"] == {"accepted": False}
    assert worker.ask("heartbeat")["result"]["state"] == "over"
    assert worker.ask("get_summary")["result"] == result
    assert not alive(pid)


def test_start_comes_once(launch: Callable[..., WorkerProcess]) -> None:
    """A second one is refused, before and after the end, and changes nothing."""
    worker = launch(step("Sleep", config={"seconds": 0.5}))
    worker.start()
    assert worker.ask("start", worker.start_params())["error"]["code"] == ErrorCode.ALREADY_STARTED
    assert worker.summary()["summary"]["status"] == "completed"
    assert worker.ask("start", worker.start_params())["error"]["code"] == ErrorCode.ALREADY_STARTED


def test_while_it_runs(launch: Callable[..., WorkerProcess]) -> None:
    """There is no summary yet; a cancel is taken once and ends the run with its reason."""
    worker = launch(step("Sleep", config={"seconds": 60}))
    worker.start()
    worker.until("step.start")
    assert worker.ask("get_summary")["error"]["code"] == ErrorCode.NOT_OVER
    assert worker.ask("heartbeat")["result"]["state"] == "running"
    assert worker.ask("cancel", {"reason": "enough"})["result"] == {"accepted": True}
    assert worker.ask("cancel", {"reason": "again"})["result"] == {"accepted": False}
    summary = worker.summary()["summary"]
    assert summary["status"] == "cancelled"
    assert "enough" in summary["error"]["message"]
    assert worker.names()[-1] == "steps.error"


def test_a_cancel_right_behind_start_is_not_lost(launch: Callable[..., WorkerProcess]) -> None:
    """Also when the engine has not begun."""
    worker = launch(step("Sleep", config={"seconds": 60}))
    worker.start()
    worker.ask("cancel", {"reason": "at once"})
    assert worker.summary()["summary"]["status"] == "cancelled"


def test_a_replay_while_it_runs_loses_nothing(launch: Callable[..., WorkerProcess]) -> None:
    """Replayed from anywhere again and again, every number comes, and each copy is the same."""
    worker = launch(step("Emit", config={"count": 3000}))
    worker.start()
    for part in (1, 2, 3, 1):
        worker.take(0.05)
        seen = max((event["seq"] for event in worker.events), default=0)
        worker.ask("replay", {"after_seq": seen // part})
    last = worker.summary()["last_seq"]
    wait_for(lambda: not worker.take(0.5))
    assert {event["seq"] for event in worker.events} == set(range(1, last + 1))
    assert {json.dumps(event) for event in worker.events} == {json.dumps(event) for event in worker.journal()}


def test_shutdown_kills_a_run(launch: Callable[..., WorkerProcess]) -> None:
    """It is answered, and then nothing of the worker lives."""
    worker = launch(step("Escape", config={"stay": True}))
    pid = worker.start()["pid"]
    worker.until("metric")
    assert len(running("sleep", NAP)) == 2
    assert worker.ask("shutdown")["result"] == {}
    assert worker.ended() == 0
    assert not alive(pid)
    assert running("sleep", NAP) == []


def test_requests_that_are_wrong_are_answered_on_the_wire(launch: Callable[..., WorkerProcess]) -> None:
    """With the codes of JSON-RPC; garbage is passed over, and the worker lives on."""
    worker = launch()
    worker.hello()
    worker.send_bytes(b"\x00\xff garbage\n\x1e{cut\x1e\n\n")
    assert worker.message()["error"]["code"] == ErrorCode.PARSE_ERROR
    worker.send({"jsonrpc": "2.0", "id": 1, "method": "nothing"})
    assert worker.message()["error"]["code"] == ErrorCode.METHOD_NOT_FOUND
    worker.send({"jsonrpc": "2.0", "id": 2, "method": "start", "params": {"secrets": {"A": [SECRET]}}})
    answer = worker.message()
    assert answer["error"]["code"] == ErrorCode.INVALID_PARAMS
    assert SECRET not in json.dumps(answer)
    worker.send([{"jsonrpc": "2.0", "id": 3, "method": "heartbeat"}, {"jsonrpc": "2.0", "method": "heartbeat"}])
    assert [item["id"] for item in worker.message()] == [3]  # type: ignore[index]
    for byte in b'\x1e{"jsonrpc":"2.0","id":4,"method":"heartbeat"}\n':
        worker.send_bytes(bytes([byte]))
    assert worker.message()["id"] == 4
    assert worker.stderr == ""


def test_a_long_request_is_taken(launch: Callable[..., WorkerProcess]) -> None:
    """Secrets may be long."""
    worker = launch(environment={"TOKEN": SECRET * 5_000})
    worker.start()
    assert worker.summary()["summary"]["status"] == "completed"


# User code and the wire.


def test_prints_become_events_and_the_wire_stays_clean(launch: Callable[..., WorkerProcess]) -> None:
    """From Python, from C, from a child, to any descriptor: log events with stream, masked, before the end."""
    worker = launch(step("Print"), environment={"TOKEN": SECRET})
    worker.start()
    worker.summary()
    assert worker.strays == []
    logs = [(event["stream"], event["message"]) for event in worker.events if event["event"] == "log"]
    for line in ("from python", "from C", "from a child", "secret ***", "no end of line"):
        assert ("stdout", line) in logs
    assert ("stderr", "from python, to stderr") in logs
    assert worker.names()[-1] == "steps.complete"
    assert SECRET not in json.dumps(worker.events)


def test_an_engine_has_no_part_in_the_wire(launch: Callable[..., WorkerProcess]) -> None:
    """None of its open files is one of the worker's pipes; it sees what was declared and nothing else."""
    worker = launch(step("Surroundings"), environment={"TOKEN": SECRET}, env={"UNDECLARED": "x", "OSIRIS_TOKEN": "y"})
    worker.start()
    worker.summary()
    data = next(event["data"] for event in worker.events if event["event"] == "step.event")
    wire = {os.readlink(f"/proc/{worker.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{worker.pid}/fd")}
    ours = {os.fstat(pipe.fileno()).st_ino for pipe in (worker.process.stdin, worker.process.stdout) if pipe}
    assert {f"pipe:[{inode}]" for inode in ours} <= wire
    assert not {f"pipe:[{inode}]" for inode in ours} & set(data["fds"].values())
    assert data["environ"].keys() <= {"PATH", "HOME", "LANG", "LC_ALL", "TZ", "TOKEN", "TMPDIR", "LC_CTYPE"}
    assert data["environ"]["TZ"] == "UTC"
    assert Path(data["cwd"]).is_relative_to(worker.folder / "session")


def test_a_secret_is_in_no_file_and_no_argv(launch: Callable[..., WorkerProcess]) -> None:
    """While the run lasts and after it: not in the package, the journal, the summary, an argv or an environment."""
    worker = launch(step("Sleep", config={"seconds": 1}), step("Raise", "fail"), environment={"TOKEN": SECRET})
    pid = worker.start()["pid"]
    worker.until("step.start")
    shown = b"".join(
        Path(f"/proc/{each}/{name}").read_bytes() for each in (pid, worker.pid) for name in ("cmdline", "environ")
    )
    assert SECRET.encode() not in shown
    summary = worker.summary()
    assert "***" in summary["summary"]["error"]["message"]
    assert SECRET not in json.dumps([summary, worker.events])
    assert files_with(worker.folder.parent, SECRET) == []


@contextmanager
def sitting(worker: WorkerProcess) -> Iterator[None]:
    os.kill(worker.pid, signal.SIGSTOP)
    yield
    os.kill(worker.pid, signal.SIGCONT)


def test_what_was_sent_while_it_was_stopped_is_answered_later(launch: Callable[..., WorkerProcess]) -> None:
    """Every request, in order."""
    worker = launch()
    worker.hello()
    with sitting(worker):
        for number in range(20):
            worker.send({"jsonrpc": "2.0", "id": number, "method": "heartbeat"})
    assert [worker.message()["id"] for _ in range(20)] == list(range(20))


# The package, as the worker sees it.


def break_package(folder: Path) -> None:
    (folder / "package.json").write_text((folder / "package.json").read_text().replace('"size_bytes"', '"size"', 1))


@pytest.mark.parametrize(
    "tamper",
    [
        lambda folder: (folder / "inputs/0/in.csv").write_text("a\n2\n"),
        lambda folder: (folder / "inputs/0/in.csv").unlink(),
        lambda folder: (folder / "code/worker_drivers.py").write_text("raise SystemExit"),
        break_package,
        lambda folder: zipfile.ZipFile(folder / "code.zip", "a").writestr("more.py", ""),
        lambda folder: (folder / "package.json").unlink(),
        lambda folder: (folder / "package.json").write_text("{"),
        lambda folder: (folder / "package.json").write_text('{"files": {}, "drivers": {}}'),
        lambda folder: (folder / "prepared.json").unlink(),
        lambda folder: (folder / "prepared.json").write_text("{"),
        lambda folder: (folder / "prepared.json").write_text("{}"),
        lambda folder: (folder / "prepared.json").write_bytes(
            (folder / "prepared.json").read_bytes().replace(b"csv", b"CSV")
        ),
    ],
    ids=[
        "input",
        "no input",
        "driver",
        "list",
        "our code",
        "no list",
        "list cut",
        "list empty",
        "no run",
        "run cut",
        "run empty",
        "run",
    ],
)
def test_a_package_that_is_not_what_was_sent_runs_nothing(
    launch: Callable[..., WorkerProcess], tmp_path: Path, tamper: Callable[[Path], object]
) -> None:
    """A protocol error, in the answer to `start` or as the run's, and no step was started."""
    (tmp_path / "in.csv").write_text("a\n1\n")
    extract = {"id": "read", "driver": "filesystem.csv_extractor", "config": {"path": str(tmp_path / "in.csv")}}
    worker = launch(extract, step("Write"), tamper=tamper)
    worker.hello()
    answer = worker.ask("start", worker.start_params())
    if "error" in answer:
        assert answer["error"]["code"] == ErrorCode.PACKAGE_BROKEN
    else:
        error = worker.summary()["summary"]["error"]
        assert error["failure_class"] == "protocol", error
    assert "step.start" not in worker.names()
    assert not (worker.folder / "session/artifacts").exists()


def test_a_list_that_another_host_made_is_refused(launch: Callable[..., WorkerProcess]) -> None:
    """The digest in `start` is that of the list; any other is a protocol error."""
    worker = launch()
    worker.hello()
    answer = worker.ask("start", worker.start_params(package_sha256="0" * 64))
    assert answer["error"]["code"] == ErrorCode.PACKAGE_BROKEN
    assert worker.ask("start", worker.start_params())["result"]


def test_user_packages_of_our_rooms_names_are_the_users(launch: Callable[..., WorkerProcess], tmp_path: Path) -> None:
    """A user's own `remote` and `adapters` packages are imported in a worker as they are on the host."""
    for room in ("remote", "adapters"):
        (tmp_path / "lib" / room).mkdir(parents=True)
        (tmp_path / "lib" / room / "__init__.py").write_text("")
        (tmp_path / "lib" / room / "mine.py").write_text(f"NAME = {room!r}\n")
    shutil.copy(DRIVERS, tmp_path / "lib" / "room_drivers.py")
    with (tmp_path / "lib" / "room_drivers.py").open("a") as file:
        file.write(
            "\n\nclass Rooms:\n    def run(self, step_id, config, inputs, ctx):\n"
            "        import adapters.mine, remote.mine\n"
            "        ctx.event('rooms', names=[adapters.mine.NAME, remote.mine.NAME])\n"
        )
    worker = launch({"id": "rooms", "driver": "room_drivers:Rooms"}, code=(str(tmp_path / "lib"),))
    worker.start()
    assert worker.summary()["summary"]["status"] == "completed", worker.events
