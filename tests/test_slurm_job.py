"""Mode job on a real cluster: what a run is given, what is left of it, and how it ends when Slurm ends it."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from adapters.slurm_cluster.tools import run_tool
from osiris_core import AdapterFactory, ExecutionContext
from tests.slurm_runs import (
    SlurmRun,
    is_gone,
    living,
    manifest,
    nothing_is_left,
    shell,
    slurm,
    state_of,
    wait_until,
    wrapper,
)

if TYPE_CHECKING:
    from collections.abc import Callable

SECRET = "tr0ub4dor&3/Žluťák+x"
ODD = "a b; $(touch pwned) 'q' \"d\" `x`\n#SBATCH --hold\n%j \\ end"


def test_a_run_and_its_books(go: Callable[..., SlurmRun], tmp_path: Path) -> None:
    """Values and paths that no shell would like arrive as they are; the times add up; nothing is left."""
    run = go(
        shell(
            "one", 'printf %s "$ODD" > odd.txt; hostname > where.txt', config={"artifacts": ["odd.txt", "where.txt"]}
        ),
        shell("two", "echo $((6 * 7))", needs=["one"]),
        job_name="odd 'name' \"$(x)\" ; #",
        queue="team-blue",
        partition="main",
        context={"environment": {"ODD": ODD}, "public_environment": frozenset({"ODD"}), "timeout": 30},
    )
    report = run.report()
    assert report.status == "completed", report.error
    assert (run.session_dir / "artifacts/one/odd.txt").read_text() == ODD
    assert (run.session_dir / "artifacts/two/stdout.log").read_text() == "42\n"
    timings = report.timings
    assert timings["queue_ms"] > 0
    assert sum(value for name, value in timings.items() if name != "wall_ms") == pytest.approx(
        timings["wall_ms"], abs=1
    )
    assert report["queue"] == "team-blue"
    shown = slurm("scontrol", "show", "job", report["sandbox_id"])
    assert "JobName=odd 'name' \"$(x)\" ; #" in shown
    assert "Partition=main" in shown
    nothing_is_left(run, report["sandbox_id"])
    assert not list(tmp_path.rglob("pwned"))
    assert not Path("pwned").exists()


def test_a_secret_is_nowhere(go: Callable[..., SlurmRun]) -> None:
    """Not in a file while the job runs, not in what Slurm shows, in no argument; its order is nobody else's to read."""
    run = go(
        shell("uses", 'echo "with $PW"; echo ready; sleep 2'),
        context={"environment": {"PW": SECRET}},
    )
    run.wait_for("step.start", "uses")
    job_id = run.wait_for_job()
    (order,) = run.shared_dir.glob("runs/*/order")
    assert order.stat().st_mode & 0o777 == 0o600
    assert order.parent.stat().st_mode & 0o777 == 0o700
    worker = next(pid for pid in living(str(order.parent)) if b"-I" in Path(f"/proc/{pid}/cmdline").read_bytes())
    variables = Path(f"/proc/{worker}/environ").read_bytes().split(b"\0")
    (key,) = [item.partition(b"=")[2] for item in variables if item.startswith(b"OSIRIS_ORDER_KEY=")]
    seen = {path: path.read_bytes() for path in run.files()}
    shown = slurm("scontrol", "show", "job", job_id) + slurm("scontrol", "write", "batch_script", job_id, "-")
    for word in (SECRET.encode(), key):
        assert [str(path) for path, content in seen.items() if word in content] == []
        assert word not in shown.encode()
        assert living(word.decode()) == []
    assert run.report().status == "completed"
    assert (run.session_dir / "artifacts/uses/stdout.log").read_text() == "with ***\nready\n"


def test_the_job_sees_nothing_undeclared(go: Callable[..., SlurmRun], monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a step nor the job itself has the caller's environment."""
    monkeypatch.setenv("UNDECLARED_HERE", "mine")
    run = go(shell("look", "env; cat /proc/$PPID/environ; sleep 1"), setup=["env"])
    run.wait_for("step.start", "look")
    (output,) = run.shared_dir.glob("runs/*/job.out")
    text = output.read_text()
    report = run.report()
    assert report.status == "completed", report.error
    assert "SLURM_JOB_ID" in text
    assert "UNDECLARED_HERE" not in text + (run.session_dir / "artifacts/look/stdout.log").read_text()


def test_a_step_on_several_nodes(go: Callable[..., SlurmRun]) -> None:
    """A job with more tasks shows its steps the allocation; what they start runs on all nodes, and comes together."""
    each = "srun --ntasks=2 --overlap bash -c 'echo $SLURMD_NODENAME > \"$OSIRIS_ARTIFACTS_DIR/$SLURM_PROCID.txt\"'"
    report = go(shell("each", each), shell("all", "echo done", needs=["each"]), nodes=2, ntasks=2).report()
    assert report.status == "completed", report.error
    found = [(Path(report.session_dir) / f"artifacts/each/{number}.txt").read_text().strip() for number in range(2)]
    assert sorted(found) == ["n1", "n2"]


def test_too_much_memory(go: Callable[..., SlurmRun]) -> None:
    """The kernel's verdict becomes the run's."""
    hog = "python3 -c 'x = bytearray(700_000_000); print(len(x))'"
    report = go(shell("hog", hog), mem="300M").report()
    assert report.status == "failed"
    assert report.error is not None
    assert report.error["failure_class"] == "out_of_memory", report.error


def test_the_time_limit(go: Callable[..., SlurmRun]) -> None:
    """What Slurm ends for its time is a timeout, in Slurm's own words."""
    run = go(shell("long", "echo begun; sleep 300"), time_limit="0:10:00")
    run.wait_for("step.start", "long")
    job_id = run.wait_for_job()
    # Limits are whole minutes; an end can be set to the second.
    slurm("scontrol", "update", f"JobId={job_id}", "EndTime=now+1")
    report = run.report(55)
    assert report.status == "timeout", report.error
    assert report.error is not None
    assert report.error["failure_class"] == "timeout"
    assert f"job {job_id} ended TIMEOUT" in report.error["message"]
    assert (run.session_dir / "artifacts/long/stdout.log").read_text() == "begun\n"
    nothing_is_left(run, job_id)


def test_scancel_from_outside(go: Callable[..., SlurmRun]) -> None:
    """The run was cancelled, and so says its report; a daemon that left the session does not survive it."""
    mark = str(45_000_000 + os.getpid())
    daemon = f"setsid sh -c 'setsid sleep {mark} & exec sleep {mark}' & sleep {mark}"
    run = go(shell("long", daemon))
    run.wait_for("step.start", "long")
    job_id = run.wait_for_job()
    wait_until(lambda: len(living(mark)) >= 3)
    slurm("scancel", job_id)
    report = run.report()
    assert report.status == "cancelled", report.error
    assert report.error is not None
    assert f"job {job_id} ended CANCELLED" in report.error["message"]
    assert living(mark) == []
    nothing_is_left(run, job_id)


@pytest.mark.parametrize("how", ["cancel", "timeout"])
def test_our_own_end(go: Callable[..., SlurmRun], how: str) -> None:
    """Cancelled or out of time: the step is told, the job is gone when the report is there."""
    run = go(shell("long", "sleep 300"), context={"timeout": 1.5} if how == "timeout" else {})
    run.wait_for("step.start", "long")
    job_id = run.wait_for_job()
    if how == "cancel":
        run.adapter.cancel("enough")
    report = run.report()
    assert report.status == {"cancel": "cancelled"}.get(how, how), report.error
    nothing_is_left(run, job_id)


def test_what_cannot_run_is_said_at_once(go: Callable[..., SlurmRun]) -> None:
    """A job that would wait for ever is given up, with Slurm's own reason; the job is gone."""
    run = go(shell("one", "true"), partition="short", time_limit="5:00:00")
    started_s = time.monotonic()
    report = run.report()
    assert time.monotonic() - started_s < 15
    assert report.status == "failed"
    assert report.error is not None
    assert report.error["failure_class"] == "resource_denied"
    assert "can never run: Partition" in report.error["message"]
    nothing_is_left(run, report["sandbox_id"])


def test_time_in_the_queue(go: Callable[..., SlurmRun], full_cluster: list[str]) -> None:
    """It has its own limit, and does not eat the run's."""
    impatient = go(shell("one", "true"), queue_timeout_s=1.0)
    patient = go(shell("one", "sleep 0.1"), context={"timeout": 6})
    report = impatient.report()
    assert report.status == "timeout", report.error
    assert report.error is not None
    assert "queue_timeout_s" in report.error["message"]
    nothing_is_left_of = report["sandbox_id"]
    assert is_gone(nothing_is_left_of)
    time.sleep(6.5)
    slurm("scancel", *full_cluster)
    report = patient.report()
    assert report.status == "completed", report.error
    assert report.timings["queue_ms"] > 6500
    assert report.timings["start_ms"] < 6000


def test_cancelled_in_the_queue(go: Callable[..., SlurmRun], full_cluster: list[str]) -> None:
    """The job that waits is gone."""
    run = go(shell("one", "true"))
    job_id = run.wait_for_job()
    run.adapter.cancel("enough")
    report = run.report()
    assert report.status == "cancelled"
    nothing_is_left(run, job_id)


# Faults of the cluster's.


def test_a_lost_answer_makes_no_second_job(
    go: Callable[..., SlurmRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """sbatch was obeyed, and its answer lost: the job is found by its token."""
    said = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"
    lost = f'"$real" "$@" >>"$log"\necho "{said}" >&2\nexit 1\n'
    log = wrapper(tmp_path, monkeypatch, "sbatch", lost)
    report = go(shell("one", "echo once >> $OSIRIS_ARTIFACTS_DIR/ran")).report()
    assert report.status == "completed", report.error
    assert log.read_text().split() == [report["sandbox_id"]]


def test_a_submission_that_was_refused_is_not_a_lost_one(
    go: Callable[..., SlurmRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the controller did not take it, it is handed in again."""
    said = "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)"
    once = f'echo x >>"$log"\n[ "$(wc -l <"$log")" != 1 ] || {{ echo "{said}" >&2; exit 1; }}\nexec "$real" "$@"\n'
    log = wrapper(tmp_path, monkeypatch, "sbatch", once)
    report = go(shell("one", "true")).report()
    assert report.status == "completed", report.error
    assert log.read_text() == "x\nx\n"


@pytest.mark.parametrize("says", ["", "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"])
def test_an_empty_or_failing_answer_means_nothing(
    go: Callable[..., SlurmRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str
) -> None:
    """A run goes on while nobody can be asked."""
    block = tmp_path / "blocked"
    block.touch()
    text = f'[ ! -e {shlex.quote(str(block))} ] && exec "$real" "$@"\necho x >>"$log"\necho {shlex.quote(says)} >&2\n'
    log = wrapper(tmp_path, monkeypatch, "squeue", text + f"exit {1 if says else 0}\n")
    run = go(shell("one", "sleep 2; echo done"))
    run.wait_for("step.complete", "one")
    block.unlink()
    assert run.report().status == "completed"
    assert log.exists()


def test_slurms_controller_restarts(go: Callable[..., SlurmRun]) -> None:
    """Neither the job nor the run minds."""
    run = go(shell("one", "sleep 6; echo done"))
    run.wait_for("step.start", "one")
    pid = int(Path("/run/slurmctld.pid").read_text())
    os.kill(pid, 15)
    wait_until(lambda: not Path(f"/proc/{pid}").exists())
    time.sleep(1)
    subprocess.run(["slurmctld"], check=True, timeout=30)
    report = run.report()
    assert report.status == "completed", report.error


def test_a_job_is_suspended(go: Callable[..., SlurmRun], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its worker is silent for longer than silence is borne, and Slurm knows better: the run goes on."""
    monkeypatch.setattr("remote.turn.SILENCE_LIMIT_S", 0.5)
    monkeypatch.setattr("remote.turn.HEARTBEAT_S", 0.2)
    run = go(shell("one", "for i in $(seq 20); do echo $i; sleep 0.1; done"))
    run.wait_for("step.start", "one")
    job_id = run.wait_for_job()
    slurm("scontrol", "suspend", job_id)
    time.sleep(3)
    assert state_of(job_id) == "SUSPENDED"
    slurm("scontrol", "resume", job_id)
    report = run.report()
    assert report.status == "completed", report.error
    assert report["attempt"] == 1


def test_a_node_is_lost_for_good(go: Callable[..., SlurmRun]) -> None:
    """Without `requeue` the run has failed, nobody's fault, with what came before it."""
    run = go(shell("one", "echo kept"), shell("two", "sleep 60", needs=["one"]), requeue=False)
    run.wait_for("step.start", "two")
    job_id = run.wait_for_job()
    node = slurm("squeue", "-h", "-j", job_id, "-o", "%N").strip()
    slurm("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    try:
        report = run.report()
    finally:
        # Refused where the node has come back by itself.
        subprocess.run(["scontrol", "update", f"nodename={node}", "state=resume"], check=False, capture_output=True)
        wait_until(lambda: slurm("sinfo", "-hN", "-p", "main", "-n", node, "-o", "%T").strip() == "idle")
    assert report.status == "failed"
    assert report.error is not None
    assert report.error["failure_class"] == "infra_lost"
    assert f"job {job_id} ended NODE_FAIL on {node}" in report.error["message"]
    assert (run.session_dir / "artifacts/one/stdout.log").read_text() == "kept\n"


def test_a_folder_that_is_kept(go: Callable[..., SlurmRun]) -> None:
    """It is there to be looked at, without what the worker was told; `osiris runs gc` takes it away."""
    run = go(shell("one", "echo $PW > x"), keep=True, context={"environment": {"PW": SECRET}})
    assert run.report().status == "completed"
    (place,) = run.shared_dir.glob("runs/*")
    assert (place / "session/summary.json").exists()
    assert not (place / "order").exists()
    assert any(str(place) in event["message"] for event in run.events("log"))
    with AdapterFactory.create("slurm") as adapter:
        (left,) = [item for item in adapter.leftovers([run.session_dir]) if item.session_dir == str(run.session_dir)]
        assert (left.kind, left.is_running) == ("run folder", False)
        left.remove()
    assert not place.exists()
    assert list(run.session_dir.glob("slurm-*")) == []


def test_a_node_is_drained(go: Callable[..., SlurmRun]) -> None:
    """The job that is on it ends in peace."""
    run = go(shell("one", "sleep 2; echo done"))
    run.wait_for("step.start", "one")
    node = slurm("squeue", "-h", "-j", run.wait_for_job(), "-o", "%N").strip()
    slurm("scontrol", "update", f"nodename={node}", "state=drain", "reason=test")
    try:
        assert run.report().status == "completed"
    finally:
        slurm("scontrol", "update", f"nodename={node}", "state=resume")


# Errors that say what to do.


def error_of(run: SlurmRun) -> dict[str, Any]:
    report = run.report()
    assert report.status == "failed", report
    assert report.error is not None
    return report.error


def test_an_interpreter_that_the_node_does_not_have(go: Callable[..., SlurmRun]) -> None:
    """The message names node and interpreter."""
    error = error_of(go(shell("one", "true"), python="/opt/no where/python"))
    assert error["failure_class"] == "user_error"
    assert "node n" in error["message"]
    assert "there is no interpreter /opt/no where/python" in error["message"]


def test_a_setup_line_that_fails(go: Callable[..., SlurmRun]) -> None:
    """The message has the line."""
    error = error_of(go(shell("one", "true"), setup=["export FINE=1", "source /no/such/file.sh"]))
    assert "modules or setup failed: source /no/such/file.sh" in error["message"]


def test_a_folder_that_the_node_does_not_see(tmp_path: Path, slurm_cluster: str) -> None:
    """Each node has its own mount there, as if it were another machine."""
    run = SlurmRun(tmp_path, "/run/osiris-node/shared", [shell("one", "true")])
    error = error_of(run)
    assert error["failure_class"] == "user_error", error
    assert "shared_dir" in error["message"]
    assert " on n" in error["message"]


def test_no_controller(tmp_path: Path, slurm_cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says so, and how to look; the folder stays for `osiris runs gc`: whether there is a job is not known."""
    monkeypatch.setattr("adapters.slurm_cluster.submit.LOOK_LIMIT_S", 0.1)
    conf = (
        Path("/etc/slurm/slurm.conf")
        .read_text()
        .replace("ClusterName=", "SlurmctldPort=1\nMessageTimeout=1\nClusterName=")
    )
    (tmp_path / "slurm.conf").write_text(conf)
    (tmp_path / "cgroup.conf").write_text("")
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "slurm.conf"))
    monkeypatch.setattr("adapters.slurm_cluster.submit.TRIES", 1)
    monkeypatch.setattr("adapters.slurm_cluster.sandbox.ADOPT_LIMIT_S", 0.1)
    monkeypatch.setitem(run_tool.__kwdefaults__, "timeout_s", 2.0)
    error = error_of(SlurmRun(tmp_path, str(tmp_path / "shared"), [shell("one", "true")]))
    assert error["failure_class"] == "infra_lost"
    assert "scontrol ping" in error["message"]
    assert len(list((tmp_path / "shared/runs").iterdir())) == 1


def test_no_slurm_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands that are missing are named before anything is made; every other problem is beside it."""
    from osiris_core.errors import PreparationError

    monkeypatch.setenv("PATH", str(tmp_path))
    adapter = AdapterFactory.create("slurm", mode="array", command="run me")
    context = ExecutionContext(session_dir=str(tmp_path / "s"))
    with pytest.raises(PreparationError) as caught:
        adapter.prepare(manifest(shell("one", "true")), context)
    text = "\n".join(map(str, caught.value.problems))
    for words in ("sbatch, squeue, scontrol, scancel: not in PATH", "slurm.shared_dir", "slurm.command", "interactive"):
        assert words in text
    assert adapter.unusable() is not None
    assert not (tmp_path / "s").exists()


def test_a_partition_that_does_not_exist(tmp_path: Path, slurm_shared: str) -> None:
    """It is found in `prepare`, with the nearest that does."""
    from osiris_core.errors import PreparationError

    adapter = AdapterFactory.create("slurm", shared_dir=slurm_shared, queue="maim")
    with pytest.raises(PreparationError, match=r"slurm.queue: there is no partition 'maim' \(did you mean 'main'"):
        adapter.prepare(manifest(shell("one", "true")), ExecutionContext(session_dir=str(tmp_path / "s")))
