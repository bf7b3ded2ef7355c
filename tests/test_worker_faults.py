"""What goes wrong with a worker: each end of engine, host and worker is told truly and leaves nothing behind."""

from __future__ import annotations

import json
import os
import select
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from remote.client import WorkerClient
from remote.file_transport import FileTransport
from remote.pipe_transport import FolderFiles
from tests.worker_process import NAP, WorkerProcess, alive, running, step, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from osiris_core.journal import Copies


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., WorkerProcess]]:
    """Starts workers, each in a folder of its own; none is left afterwards."""
    made: list[WorkerProcess] = []

    def make(*steps: dict[str, Any], **more: Any) -> WorkerProcess:
        made.append(WorkerProcess(tmp_path / f"w{len(made)}", list(steps), **more))
        return made[-1]

    yield make
    for worker in made:
        worker.close()


@pytest.fixture
def copies(tmp_path: Path) -> Iterator[Copies]:
    """Where a host writes what it hears."""
    from osiris_core.journal import Journal

    with Journal(tmp_path / "copies.jsonl", "session") as journal:
        yield journal.copies("engine")


def ended_truly(worker: WorkerProcess, summary: dict[str, Any]) -> dict[str, Any]:
    """The run's error, once journal, events and summary agree on it and have their end."""
    assert worker.events == worker.journal()
    assert [event["seq"] for event in worker.events] == list(range(1, len(worker.events) + 1))
    assert worker.names()[-1] == "steps.error"
    assert worker.names().count("steps.error") == 1
    assert "step.error" in worker.names()
    assert summary["status"] != "completed"
    assert json.loads((worker.folder / "session/summary.json").read_text()) == summary
    error: dict[str, Any] = summary["error"]
    return error


# The engine.


def test_a_heartbeat_is_answered_while_c_code_holds_the_gil(launch: Callable[..., WorkerProcess]) -> None:
    """Every time, soon; the longest time is printed."""
    worker = launch(step("HoldGil", config={"seconds": 5}))
    worker.start()
    worker.until("step.start")
    times = []
    while "steps.complete" not in worker.names():
        started_s = time.monotonic()
        worker.ask("heartbeat")
        times.append(time.monotonic() - started_s)
        worker.take(0.1)
    held_s = next(event["value"] for event in worker.events if event["event"] == "metric" and event["name"] == "held_s")
    print(f"heartbeat during {held_s:.1f} s of C code: at most {max(times) * 1000:.0f} ms, {len(times)} times")
    assert held_s >= 5
    assert len(times) > 20
    assert max(times) < 1


def test_a_segfault_is_told(launch: Callable[..., WorkerProcess]) -> None:
    """A user error naming signal and step, with the last output; what ran before it is complete."""
    worker = launch(
        step("Write", "first"), step("Segfault", "fall", needs=["first"]), step("Write", "last", needs=["fall"])
    )
    worker.start()
    summary = worker.summary()["summary"]
    error = ended_truly(worker, summary)
    assert error["failure_class"] == "user_error"
    assert "SIGSEGV" in error["message"]
    assert "step 'fall'" in error["message"]
    assert error["details"]["signal"] == "SIGSEGV"
    assert "Fatal Python error" in error["details"]["last_output"]
    assert [item["status"] for item in summary["steps"]] == ["completed", "failed", "skipped"]
    assert summary["failed_step_id"] == "fall"
    assert [item["path"] for item in summary["artifacts"]] == ["first/out.bin"]
    assert "about to fall" in [event.get("message") for event in worker.events]


def test_a_killed_engine_is_told(launch: Callable[..., WorkerProcess]) -> None:
    """SIGKILL from outside is a lost place, not a mistake of the step's, and not lack of memory."""
    worker = launch(step("Sleep", config={"seconds": 60}))
    pid = worker.start()["pid"]
    worker.until("step.start")
    os.kill(pid, signal.SIGKILL)
    error = ended_truly(worker, worker.summary()["summary"])
    assert error["failure_class"] == "infra_lost"
    assert "SIGKILL" in error["message"]


def test_an_engine_that_leaves_is_told(launch: Callable[..., WorkerProcess]) -> None:
    """With its exit code and its last words."""
    worker = launch(step("Leave"))
    worker.start()
    error = ended_truly(worker, worker.summary()["summary"])
    assert error["failure_class"] == "user_error"
    assert "exit code 3" in error["message"]
    assert "I leave" in error["message"]


@pytest.mark.timeout(90)
@pytest.mark.parametrize("limit", ["step", "run"])
def test_a_stopped_engine_ends_at_its_limit(launch: Callable[..., WorkerProcess], limit: str) -> None:
    """An engine that cannot keep its limits itself is killed by the supervisor: a timeout, not a lost worker."""
    if limit == "step":
        worker = launch(step("Signal", config={"name": "SIGSTOP"}, timeout_s=0.5))
    else:
        worker = launch(step("Signal", config={"name": "SIGSTOP"}), timeout=0.5)
    pid = worker.start()["pid"]
    summary = worker.summary()["summary"]
    error = ended_truly(worker, summary)
    assert (summary["status"], error["failure_class"]) == ("timeout", "timeout")
    assert "0.5 s" in error["message"]
    assert not alive(pid)


@pytest.mark.timeout(90)
def test_a_stopped_engine_can_be_cancelled(launch: Callable[..., WorkerProcess]) -> None:
    """A cancel that the engine does not hear is done by the supervisor."""
    worker = launch(step("Signal", config={"name": "SIGSTOP"}))
    worker.start()
    worker.until("step.start")
    worker.ask("cancel", {"reason": "no more"})
    summary = worker.summary()["summary"]
    assert (summary["status"], ended_truly(worker, summary)["failure_class"]) == ("cancelled", "cancelled")


@pytest.mark.timeout(90)
def test_a_hang_is_ended_though_the_host_does_not_read(launch: Callable[..., WorkerProcess]) -> None:
    """The limits of steps do not depend on anybody taking the events."""
    hang = step("Signal", "hang", config={"name": "SIGSTOP"}, timeout_s=0.5, needs=["much"])
    worker = launch(step("Emit", "much", config={"count": 30_000}), hang)
    worker.start()
    wait_for(lambda: worker.journal() and worker.journal()[-1]["event"] == "steps.error", 60)
    assert worker.journal()[-1]["status"] == "timeout"


@pytest.fixture
def small_memory(tmp_path: Path) -> Iterator[Callable[[], None]]:
    """Puts the calling process into a memory cgroup of 300 MB."""
    group = Path(f"/sys/fs/cgroup/memory/osiris-test-{os.getpid()}")
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(300 << 20))
    except OSError:
        pytest.skip("no memory cgroup of version 1 can be made here (needs root)")
    yield lambda: (group / "cgroup.procs").write_text(str(os.getpid())) and None  # type: ignore[func-returns-value]
    wait_for(lambda: not (group / "cgroup.procs").read_text())
    group.rmdir()


def test_out_of_memory_is_told(small_memory: Callable[[], None], launch: Callable[..., WorkerProcess]) -> None:
    """A kill by the kernel for lack of memory has its own class; the supervisor lives on to tell."""
    worker = launch(step("Eat"), preexec=small_memory)
    worker.start()
    error = ended_truly(worker, worker.summary()["summary"])
    assert error["failure_class"] == "out_of_memory"
    assert "out of memory" in error["message"]
    assert worker.ask("shutdown")["result"] == {}
    assert worker.ended() == 0


# The host.


@pytest.mark.timeout(120)
def test_a_host_that_stops_reading_stalls_nobody(launch: Callable[..., WorkerProcess], copies: Copies) -> None:
    """The engine comes to its end, the next controller gets every event once and the summary, over the files."""
    worker = launch(step("Emit", config={"count": 200_000}))
    worker.start()
    assert wait_for((worker.folder / "session/artifacts/work/emitted").exists, 60)
    seen: list[int] = []
    transport = FileTransport(FolderFiles(worker.folder), lambda: worker.process.poll() is None)
    client = WorkerClient(transport, copies, on_event=lambda event: seen.append(event["seq"]))
    assert client.hello(10)["pid"] == worker.pid
    over = lambda: client.call("heartbeat")["state"] == "over"  # noqa: E731
    wait_for(over, 60)
    answer = client.call("get_summary")
    assert answer["last_seq"] > 200_000
    assert client.wait(lambda: copies.last_seq >= answer["last_seq"], 60)
    assert seen == list(range(1, answer["last_seq"] + 1))
    assert answer["summary"]["status"] == "completed"
    # And the first host, when it wakes up, has lost nothing either.
    while len(worker.events) < answer["last_seq"]:
        assert worker.take(10)
    assert [event["seq"] for event in worker.events] == seen
    client.call("shutdown")
    assert worker.ended() == 0


def test_a_run_goes_on_without_its_host(launch: Callable[..., WorkerProcess]) -> None:
    """To its end; then the worker waits for somebody to come, and ends by itself when nobody does."""
    worker = launch(step("Sleep", "a", config={"seconds": 1}), step("Write", "b", needs=["a"]), timeout=60)
    pid = worker.start(unattended_timeout_s=0.5)["pid"]
    worker.until("step.start")
    worker.hang_up()
    assert worker.ended() == 0
    assert worker.journal()[-1]["event"] == "steps.complete"
    assert json.loads((worker.folder / "session/summary.json").read_text())["status"] == "completed"
    assert not alive(pid)


def test_what_a_run_came_to_is_kept_for_a_while(launch: Callable[..., WorkerProcess], copies: Copies) -> None:
    """A host that comes back late, after a run longer than the worker waits for one, still gets the summary."""
    worker = launch(step("Sleep", config={"seconds": 4}), timeout=60)
    worker.start(unattended_timeout_s=3)
    worker.until("step.start")
    worker.hang_up()
    wait_for((worker.folder / "session/summary.json").exists)
    time.sleep(0.5)
    client = WorkerClient(FileTransport(FolderFiles(worker.folder), lambda: worker.process.poll() is None), copies)
    assert client.call("get_summary")["summary"]["status"] == "completed"


def test_a_run_without_a_limit_and_a_host_is_cancelled(launch: Callable[..., WorkerProcess]) -> None:
    """After `unattended_timeout_s`, saying so; the worker ends."""
    worker = launch(step("Sleep", config={"seconds": 600}))
    worker.start(unattended_timeout_s=1)
    worker.until("step.start")
    worker.hang_up()
    assert worker.ended() == 0
    last = worker.journal()[-1]
    assert (last["event"], last["status"]) == ("steps.error", "cancelled")
    assert "nobody was connected" in json.dumps(worker.journal())


def test_a_host_that_says_nothing_is_no_host(launch: Callable[..., WorkerProcess]) -> None:
    """Open pipes prove nothing: a container's stay open when its host is gone."""
    worker = launch(step("Sleep", config={"seconds": 600}))
    worker.start(unattended_timeout_s=1)
    worker.take_all()
    assert worker.ended() == 0
    assert worker.journal()[-1]["status"] == "cancelled"


def test_a_worker_nobody_started_ends_with_its_host(launch: Callable[..., WorkerProcess]) -> None:
    """It has nothing to go on with."""
    worker = launch(step("Write"))
    worker.hello()
    worker.hang_up()
    assert worker.ended() == 0


# The worker itself.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_all_below(launch: Callable[..., WorkerProcess], number: signal.Signals) -> None:
    """The run is cancelled, its end is told, and nothing that it started is alive."""
    worker = launch(step("Escape", config={"stay": True}), timeout=60)
    pid = worker.start()["pid"]
    worker.until("metric")
    started_s = time.monotonic()
    os.kill(worker.pid, number)
    worker.take_all()
    assert worker.ended() == 0
    assert time.monotonic() - started_s < 15
    assert worker.names()[-1] == "steps.error"
    assert number.name in json.dumps(worker.events)
    assert running("sleep", NAP) == []
    assert not alive(pid)


def test_a_signal_to_the_whole_group_is_a_cancel(launch: Callable[..., WorkerProcess]) -> None:
    """Ctrl-C in a terminal reaches the engine as well, which leaves it to the supervisor."""
    worker = launch(step("Sleep", config={"seconds": 60}))
    worker.start()
    worker.until("step.start")
    os.killpg(worker.pid, signal.SIGINT)
    worker.take_all()
    assert worker.ended() == 0
    assert worker.events[-1]["status"] == "cancelled"


def test_what_got_away_from_a_step_dies_with_the_worker(launch: Callable[..., WorkerProcess]) -> None:
    """Own sessions, double forks and empty environments do not help; they are dead when the run is over."""
    worker = launch(step("Escape"))
    worker.start()
    assert worker.summary()["summary"]["status"] == "completed"
    assert running("sleep", NAP) == []


def test_an_engine_does_not_outlive_its_supervisor(launch: Callable[..., WorkerProcess]) -> None:
    """Killed without a word, the supervisor takes the engine and its children along within seconds."""
    worker = launch(step("Stubborn"))
    pid = worker.start()["pid"]
    worker.until("step.start")
    wait_for(lambda: running("sleep", NAP))
    os.kill(worker.pid, signal.SIGKILL)
    assert worker.ended() == -signal.SIGKILL
    wait_for(lambda: not alive(pid), 20)
    assert running("sleep", NAP) == []


def test_a_worker_whose_disk_is_full_still_answers(launch: Callable[..., WorkerProcess]) -> None:
    """Answers over the wire need no file."""
    worker = launch(step("Sleep", config={"seconds": 60}))
    worker.start()
    worker.until("step.start")
    (worker.folder / "worker/replies.jsonl").unlink()
    (worker.folder / "worker/replies.jsonl").mkdir()
    (worker.folder / "worker/control.jsonl").write_text(
        '{"n": 1, "message": {"jsonrpc": "2.0", "id": 1, "method": "heartbeat"}}\n'
    )
    time.sleep(0.6)
    assert worker.ask("heartbeat")["result"]["state"] == "running"
    worker.ask("shutdown")
    assert select.select([worker.process.stdout], [], [], 5)[0]
    assert worker.ended() == 0
