"""Pilots and interactive runs on a real cluster."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from osiris_core import AdapterFactory, ExecutionContext, PreparationError
from tests.slurm_runs import (
    SlurmRun,
    cluster_is_clean,
    contexts,
    counted,
    create,
    is_gone,
    living,
    manifest,
    shell,
    slurm,
    state_of,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adapters.slurm import SlurmAdapter

SECRET = "tr0ub4dor&3/Žluťák+x"
ROOT = Path(__file__).resolve().parent.parent


# Pilots.


@pytest.fixture
def pilots(slurm_shared: str) -> Iterator[SlurmAdapter]:
    adapter = create(slurm_shared, mode="pilot", nodes=2)
    yield adapter
    adapter.close()
    cluster_is_clean(slurm_shared)


def test_fifty_runs_in_two_pilots(pilots: SlurmAdapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two jobs for all; both nodes have runs; each run is a whole one; no job is left when the adapter is closed."""
    log = counted(tmp_path, monkeypatch, "sbatch")
    runs = [manifest(shell("one", f"echo {number}")) for number in range(50)]
    reports = pilots.run_many(runs, contexts(tmp_path, 50, environment={"PW": SECRET}))
    assert {report.status for report in reports} == {"completed"}
    assert len(log.read_text().splitlines()) == 2
    assert {report["node"] for report in reports} == {"n1", "n2"}
    for number in (0, 23, 49):
        assert (tmp_path / f"s{number}/artifacts/one/stdout.log").read_text() == f"{number}\n"
    for path in [*tmp_path.rglob("*"), *Path(str(pilots.config.shared_dir)).rglob("*")]:
        assert not path.is_file() or SECRET.encode() not in path.read_bytes()


def test_what_ends_a_run_leaves_its_pilot(pilots: SlurmAdapter, tmp_path: Path) -> None:
    """A crash, a timeout and a run that does not end: the next run is taken by the same job, and nothing lives on."""
    mark = str(46_000_000 + os.getpid())
    ends = [
        shell("one", f"setsid sleep {mark} & kill -9 $PPID"),
        shell("one", f"sleep {mark}"),
        shell("one", "echo fine"),
    ]
    statuses = []
    jobs = set()
    for number, step in enumerate(ends):
        context = ExecutionContext(session_dir=str(tmp_path / f"s{number}"), timeout=1.0 if number == 1 else None)
        report = pilots.run(manifest(step), context)
        statuses.append(report.status)
        assert living(mark) == []
        jobs.update(job_id for job_id in slurm("squeue", "-h", "-t", "R", "-n", "osiris-pilot", "-o", "%i").split())
    assert statuses == ["failed", "timeout", "completed"]
    assert len(jobs) == 1


def test_a_pilot_that_is_lost(slurm_shared: str, tmp_path: Path) -> None:
    """Another one goes on with its run, from what was complete."""
    counter = tmp_path / "counter"
    line = (
        f"n=$(cat {counter} 2>/dev/null || echo 0); echo $((n + 1)) > {counter}; [ $n -gt 0 ] || sleep 60; echo from $n"
    )
    steps = [shell("first", "echo $RANDOM"), shell("second", line, needs=["first"])]
    run = SlurmRun(tmp_path, slurm_shared, steps, mode="pilot", context={"checkpoint": "always"})
    run.wait_for("step.start", "second")
    wait_until(counter.exists)
    os.kill(min(living("remote.pilot")), signal.SIGKILL)
    report = run.report()
    assert report.status == "completed", report.error
    assert (report["restarts"], report["attempt"]) == (1, 2)
    assert {step["step_id"]: step["status"] for step in report.steps} == {"first": "reused", "second": "completed"}
    assert (run.session_dir / "artifacts/second/stdout.log").read_text() == "from 1\n"
    wait_until(lambda: not living("remote.pilot"))
    cluster_is_clean(slurm_shared)


def test_a_pilot_drains(slurm_shared: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose time is nearly up takes no run any more, and another one is made."""
    log = counted(tmp_path, monkeypatch, "sbatch")
    monkeypatch.setattr("adapters.slurm_cluster.config.PILOT_START_S", 1.0)
    monkeypatch.setattr("adapters.slurm_cluster.pool.CLOCK_S", 0.0)
    with create(slurm_shared, mode="pilot", time_limit="0:01:00", drain_s=57.0) as adapter:
        first = adapter.run(manifest(shell("one", "true")), contexts(tmp_path, 1)[0])
        time.sleep(4)
        second = adapter.run(manifest(shell("one", "true")), contexts(tmp_path, 2)[1])
    assert (first.status, second.status) == ("completed", "completed")
    assert len(log.read_text().splitlines()) == 2
    cluster_is_clean(slurm_shared)


def test_a_run_that_comes_while_another_one_runs(pilots: SlurmAdapter, tmp_path: Path) -> None:
    """It does not wait for the first: there may be two pilots."""
    sessions = contexts(tmp_path, 2)
    first: list[Any] = []
    thread = threading.Thread(
        target=lambda: first.append(pilots.run(manifest(shell("one", "sleep 8")), sessions[0])),
    )
    thread.start()
    events = tmp_path / "s0/events.jsonl"
    wait_until(lambda: events.exists() and "step.start" in events.read_text())
    second = pilots.run(manifest(shell("one", "true")), sessions[1])
    assert second.status == "completed"
    assert thread.is_alive()
    thread.join()
    assert first[0].status == "completed"
    assert {first[0]["node"], second["node"]} == {"n1", "n2"}


def test_a_pilot_without_the_time_for_a_run(slurm_shared: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one is made at once, though the first lives on and could take a shorter run."""
    monkeypatch.setattr("adapters.slurm_cluster.config.PILOT_START_S", 8.0)
    monkeypatch.setattr("adapters.slurm_cluster.pool.CLOCK_S", 0.5)
    log = counted(tmp_path, monkeypatch, "sbatch")
    with create(slurm_shared, mode="pilot", time_limit="0:02:00", drain_s=1.0) as adapter:
        first = adapter.run(manifest(shell("one", "true")), contexts(tmp_path, 1)[0])
        time.sleep(11)
        second = adapter.run(manifest(shell("one", "true")), contexts(tmp_path, 2, timeout=110)[1])
        third = adapter.run(manifest(shell("one", "true")), contexts(tmp_path, 3)[2])
    assert [report.status for report in (first, second, third)] == ["completed"] * 3
    assert second.timings["wall_ms"] < 60_000  # and not when the first one's time is over
    assert len(log.read_text().splitlines()) == 2
    cluster_is_clean(slurm_shared)


def test_pilots_that_slurm_refuses(slurm_shared: str, tmp_path: Path) -> None:
    """The run fails at once, in Slurm's words; nothing of it is left."""
    started_s = time.monotonic()
    with create(slurm_shared, mode="pilot", mem="900G") as adapter:
        report = adapter.run(manifest(shell("one", "true")), contexts(tmp_path, 1)[0])
    assert report.status == "failed"
    assert report.error is not None
    assert report.error["failure_class"] == "resource_denied"
    assert "no node is that large" in report.error["message"]
    assert "pilot None" not in (tmp_path / "s0/events.jsonl").read_text()
    assert time.monotonic() - started_s < 5
    cluster_is_clean(slurm_shared)


def test_a_pilot_that_nobody_needs_ends_by_itself(slurm_shared: str, tmp_path: Path) -> None:
    """Also when the adapter is never closed."""
    adapter = create(slurm_shared, mode="pilot", pilot_idle_s=0.5)
    try:
        assert adapter.run(manifest(shell("one", "true")), contexts(tmp_path, 1)[0]).status == "completed"
        (job_id,) = slurm("squeue", "-h", "-t", "all", "-n", "osiris-pilot", "-S", "-i", "-o", "%i").split()[:1]
        wait_until(lambda: state_of(job_id) == "COMPLETED", 15)
    finally:
        adapter.close()


def test_a_run_that_no_pilot_has_time_for(slurm_shared: str, tmp_path: Path) -> None:
    """It is refused before anything starts."""
    with create(slurm_shared, mode="pilot", time_limit="0:05:00") as adapter, pytest.raises(PreparationError) as caught:
        adapter.prepare(manifest(shell("one", "true")), ExecutionContext(session_dir=str(tmp_path / "s"), timeout=290))
    assert "time_limit" in str(caught.value)


# Interactive.


def test_interactive_needs_nothing_shared(tmp_path: Path, slurm_cluster: str) -> None:
    """Files, secrets and results go through srun; the node's folder is gone, and so is the job."""
    data = tmp_path / "in.csv"
    data.write_text("a\n" + "1\n" * 200_000)
    steps = [
        {"id": "read", "driver": "filesystem.csv_extractor", "config": {"path": str(data)}},
        {"id": "write", "driver": "filesystem.csv_writer", "inputs": {"df": "read"}, "config": {"path": "out.csv"}},
        shell("where", 'echo "$PW"; pwd', needs=["write"]),
    ]
    with AdapterFactory.create("slurm", mode="interactive") as adapter:
        context = ExecutionContext(session_dir=str(tmp_path / "s"), environment={"PW": SECRET})
        report = adapter.run(manifest(*steps), context)
    assert report.status == "completed", report.error
    assert (tmp_path / "s/artifacts/write/out.csv").read_bytes() == data.read_bytes()
    said = (tmp_path / "s/artifacts/where/stdout.log").read_text().splitlines()
    assert said[0] == "***"
    assert not Path(said[1]).exists()
    assert is_gone(report["sandbox_id"])
    assert report["node"] in ("n1", "n2")
    assert report.timings["queue_ms"] > 0


@pytest.mark.parametrize("how", ["cancel", "timeout", "worker killed"])
def test_the_end_of_an_interactive_run(tmp_path: Path, slurm_cluster: str, how: str) -> None:
    """Job and processes are gone; what was done before came home."""
    mark = str(47_000_000 + os.getpid())
    steps = [shell("one", "echo kept"), shell("two", f"setsid sleep {mark} & sleep {mark}", needs=["one"])]
    context = {"timeout": 1.5} if how == "timeout" else {}
    run = SlurmRun(tmp_path, str(tmp_path), steps, mode="interactive", context=context)
    run.wait_for("step.start", "two")
    job_id = run.wait_for_job()
    wait_until(lambda: living(mark))
    if how == "cancel":
        run.adapter.cancel("enough")
    elif how != "timeout":
        mine = f"SLURM_JOB_ID={job_id}".encode()
        workers = [pid for pid in living("osiris_core.rooms") if mine in environment(pid)]
        os.kill(min(workers), signal.SIGKILL)
    report = run.report()
    assert report.status == {"cancel": "cancelled", "timeout": "timeout"}.get(how, "failed"), report.error
    assert (run.session_dir / "artifacts/one/stdout.log").read_text() == "kept\n"
    assert is_gone(job_id)
    # An engine without its supervisor ends what is below it.
    wait_until(lambda: not living(mark), 12 if how == "worker killed" else 0.1)


def environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


CLIENT = """
import sys
from osiris_core import AdapterFactory, ExecutionContext
steps = [{"id": "one", "driver": "command", "config": {"shell": "sleep " + sys.argv[2]}}]
adapter = AdapterFactory.create("slurm", mode="interactive")
adapter.run({"pipeline": "p", "steps": steps}, ExecutionContext(session_dir=sys.argv[1]))
"""


def test_an_interactive_setup_that_fails(tmp_path: Path, slurm_cluster: str) -> None:
    """The first line that fails ends the run, and is named; what others print is no message of the worker's."""
    fine = SlurmRun(tmp_path / "fine", str(tmp_path), [shell("one", "true")], mode="interactive", setup=["echo hello"])
    assert fine.report().status == "completed"
    mark = tmp_path / "went on"
    setup = ["export FINE=1", "source /no/such/file.sh", f"touch '{mark}'"]
    run = SlurmRun(tmp_path / "bad", str(tmp_path), [shell("one", "true")], mode="interactive", setup=setup)
    report = run.report()
    assert report.status == "failed"
    assert report.error is not None
    assert report.error["failure_class"] == "user_error"
    assert "modules or setup failed: source /no/such/file.sh" in report.error["message"]
    assert not mark.exists()


def test_an_interactive_run_ends_with_its_client(tmp_path: Path, slurm_cluster: str) -> None:
    """A client that is killed without a word leaves no job, no process and no folder behind."""
    mark = str(48_000_000 + os.getpid())
    argv = [sys.executable, "-c", CLIENT, str(tmp_path / "s"), mark]
    client = subprocess.Popen(argv, cwd=ROOT)
    wait_until(lambda: [pid for pid in living(f"sleep {mark}".replace(" ", "\0")) if pid != client.pid])
    job_id = json.loads((tmp_path / "s/run.json").read_text())["native_id"]
    client.kill()
    client.wait()
    wait_until(lambda: is_gone(job_id), 45)
    assert living(f"sleep {mark}".replace(" ", "\0")) == []
    with AdapterFactory.create("slurm", mode="interactive") as adapter:
        report = adapter.attach(tmp_path / "s")
    assert report.status == "failed"


def test_what_cannot_run_interactively(tmp_path: Path, slurm_cluster: str) -> None:
    """It is said at once, as for a job."""
    run = SlurmRun(
        tmp_path, str(tmp_path), [shell("one", "true")], mode="interactive", partition="short", time_limit="5:00:00"
    )
    report = run.report(20)
    assert report.status == "failed"
    assert report.error is not None
    assert report.error["failure_class"] == "resource_denied", report.error
