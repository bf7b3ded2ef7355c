"""What differs from site to site: file systems that show things late, modules, answers that come late, comments."""

from __future__ import annotations

import shlex
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from adapters.slurm_cluster.place import Place
from osiris_core import AdapterFactory, ExecutionContext, PreparationError
from remote.file_transport import FileTransport
from remote.folders import CONTROL_FILE
from remote.pipe_transport import FolderFiles
from tests.slurm_runs import SlurmRun, manifest, nothing_is_left, shell, slurm, state_of, wait_until, wrapper

if TYPE_CHECKING:
    from collections.abc import Callable

SILENT = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"


# The file system.


def test_what_is_followed_is_there_before_it_is_looked_for(tmp_path: Path) -> None:
    """No file that a host follows has to come to be: NFS remembers for a minute what was not there."""
    place = Place(tmp_path, "t0", str(tmp_path))
    place.make("s")
    place.restart_begins(1)
    for restarts in (0, 1):
        folder = place.current(restarts)
        looked_for: list[str] = []

        class Files(FolderFiles):
            def read(self, name: str, offset: int) -> bytes:
                looked_for.append(name)  # noqa: B023
                return super().read(name, offset)

        transport = FileTransport(Files(folder), lambda: True)
        assert transport.receive(0) is None
        ours = {CONTROL_FILE}
        assert len(set(looked_for)) >= 3
        assert [name for name in looked_for if name not in ours and not (folder / name).exists()] == []
        assert place.began(restarts) is None
        assert not place.has_results(restarts)


@pytest.mark.parametrize("late_s", [1.5, 6.0], ids=["a little", "longer than is waited for"])
def test_a_journal_that_is_seen_late(
    go: Callable[..., SlurmRun], monkeypatch: pytest.MonkeyPatch, late_s: float
) -> None:
    """Its worker ended well and said so; the host sees no event of it yet. The run is completed all the same."""
    monkeypatch.setattr("remote.followed_run.EVENTS_LIMIT_S", 3.0, raising=False)
    read = FolderFiles.read
    left: dict[Path, float] = {}

    def read_late(self: FolderFiles, name: str, offset: int) -> bytes:
        code = self._folder / "worker/exit"
        if name.endswith("events.jsonl"):
            if code.exists() and code.read_text():
                left.setdefault(self._folder, time.monotonic())
            if time.monotonic() < left.get(self._folder, float("inf")) + late_s:
                return b""
        return read(self, name, offset)

    monkeypatch.setattr(FolderFiles, "read", read_late)
    run = go(shell("one", "echo made > made.txt", config={"artifacts": ["made.txt"]}))
    report = run.report()
    assert report.status == "completed", report.error
    assert (run.session_dir / "artifacts/one/made.txt").read_text() == "made\n"
    events = [event["event"] for event in run.events() if event["origin"] == "engine"]
    assert events.count("steps.complete") == events.count("step.complete") == 1
    assert events[-1] == "steps.complete"
    assert report["worker_overhead_ms"] is not None


# The environment.


def steps_environment(run: SlurmRun) -> dict[str, str]:
    report = run.report()
    assert report.status == "completed", report.error
    lines = (run.session_dir / "artifacts/look/stdout.log").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


@pytest.fixture
def module(tmp_path: Path) -> str:
    """A modulefile, as a site has them."""
    path = tmp_path / "modulefiles" / "mpi"
    path.parent.mkdir()
    path.write_text("#%Module\nsetenv MPI_HOME /opt/mpi\nprepend-path LD_LIBRARY_PATH /opt/mpi/lib\n")
    return str(path)


@pytest.mark.skipif(not Path("/etc/profile.d/modules.sh").exists(), reason="environment-modules; see .ci/slurm")
@pytest.mark.parametrize("mode", ["job", "interactive"])
def test_steps_see_what_was_set_up_for_them(
    go: Callable[..., SlurmRun], module: str, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """What modules and setup changed, and what Slurm says of the job; nothing of the submitter's."""
    monkeypatch.setenv("UNDECLARED_HERE", "mine")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/of/the/submitter")
    odd = "a b; $(touch pwned) 'q' \"d\" \\ end"
    setup = [f"export SITE={shlex.quote(odd)}", "local_only=1", "export CUDA_VISIBLE_DEVICES=3", "unset MAIL"]
    seen = steps_environment(go(shell("look", "env"), modules=[module], setup=setup, cpus_per_task=1, mode=mode))
    assert seen["MPI_HOME"] == "/opt/mpi"
    assert seen["LD_LIBRARY_PATH"].split(":")[0] == "/opt/mpi/lib"
    assert "/of/the/submitter" not in seen["LD_LIBRARY_PATH"]
    assert seen["SITE"] == odd
    assert seen["CUDA_VISIBLE_DEVICES"] == "3"
    assert mode == "interactive" or seen["SLURM_CPUS_PER_TASK"] == "1"
    assert seen["SLURM_JOB_ID"].isdecimal()
    assert not {"UNDECLARED_HERE", "local_only", "OSIRIS_ORDER_KEY", "OSIRIS_PASS_ON"} & set(seen)


@pytest.mark.skipif(not Path("/etc/profile.d/modules.sh").exists(), reason="environment-modules; see .ci/slurm")
def test_a_module_that_there_is_not(go: Callable[..., SlurmRun]) -> None:
    """The message names it."""
    report = go(shell("one", "true"), modules=["no-such-module/1"]).report()
    assert report.error is not None
    assert report.error["failure_class"] == "user_error"
    assert "modules or setup failed: module load no-such-module/1" in report.error["message"]


def test_srun_in_a_step_uses_the_jobs_own_allocation(go: Callable[..., SlurmRun]) -> None:
    """Also in a job of one task: nothing waits for another allocation."""
    run = go(shell("one", "echo outer $SLURM_JOB_ID; srun --overlap bash -c 'echo inner $SLURM_JOB_ID'"))
    report = run.report()
    assert report.status == "completed", report.error
    said = (run.session_dir / "artifacts/one/stdout.log").read_text().split()
    assert said == ["outer", report["sandbox_id"], "inner", report["sandbox_id"]]


def test_two_nodes_are_two_nodes(go: Callable[..., SlurmRun]) -> None:
    """Without a word of tasks."""
    assert steps_environment(go(shell("look", "env"), nodes=2))["SLURM_JOB_NUM_NODES"] == "2"


def test_the_reason_is_there_where_the_output_goes_elsewhere(go: Callable[..., SlurmRun], tmp_path: Path) -> None:
    """A file with Slurm's patterns, of which nobody here knows the name."""
    run = go(shell("one", "true"), setup=["source /no/such/file.sh"], output_file=f"{tmp_path}/%x-%N-%j.out")
    report = run.report()
    assert report.error is not None
    assert "modules or setup failed: source /no/such/file.sh" in report.error["message"]


def test_what_sbatch_has_to_say(go: Callable[..., SlurmRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that was taken, with a warning: the warning is told."""
    warning = "sbatch: warning: can't honor --ntasks-per-node set to 4"
    wrapper(tmp_path, monkeypatch, "sbatch", f'echo {shlex.quote(warning)} >&2\nexec "$real" "$@"\n')
    run = go(shell("one", "true"))
    assert run.report().status == "completed"
    (told,) = [event for event in run.events("log") if "ntasks-per-node" in event["message"]]
    assert told["level"] == "warning"


# Submissions.


def test_a_submission_that_takes_effect_late(
    go: Callable[..., SlurmRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two jobs come of it: the run runs once, and both are gone when its report is there."""
    late = (
        f'echo x >>"$log"\n[ "$(wc -l <"$log")" != 1 ] || '
        f'{{ (sleep 6; "$real" "$@" >>"$log.late") >/dev/null 2>&1 & echo "{SILENT}" >&2; exit 1; }}\n'
        f'exec "$real" "$@"\n'
    )
    log = wrapper(tmp_path, monkeypatch, "sbatch", late)
    run = go(shell("one", "echo once >> $OSIRIS_ARTIFACTS_DIR/ran; sleep 12"))
    report = run.report()
    assert report.status == "completed", report.error
    assert log.read_text() == "x\nx\n"
    second = Path(f"{log}.late").read_text().strip()
    assert second.isdecimal()
    assert second != report["sandbox_id"]
    assert (run.session_dir / "artifacts/one/ran").read_text() == "once\n"
    assert [event["event"] for event in run.events()].count("step.start") == 1
    assert state_of(second) == "COMPLETED"
    nothing_is_left(run, report["sandbox_id"])


def test_the_late_one_comes_first(go: Callable[..., SlurmRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job that answered waits while the other one runs: that one is followed, and both are gone in the end."""
    second = tmp_path / "second"
    late = (
        f'echo x >>"$log"\n[ "$(wc -l <"$log")" != 1 ] || '
        f'{{ (sleep 5; "$real" "$@" >"$log.late") >/dev/null 2>&1 & echo "{SILENT}" >&2; exit 1; }}\n'
        f'exec "$real" --begin=now+60 "$@" | tee {shlex.quote(str(second))}\n'
    )
    log = wrapper(tmp_path, monkeypatch, "sbatch", late)
    run = go(shell("one", "echo once >> $OSIRIS_ARTIFACTS_DIR/ran"))
    report = run.report()
    assert report.status == "completed", report.error
    assert (run.session_dir / "artifacts/one/ran").read_text() == "once\n"
    first = Path(f"{log}.late").read_text().strip()
    assert state_of(first) == "COMPLETED"
    assert state_of(second.read_text().strip()) == "CANCELLED"
    nothing_is_left(run, first)


def test_a_site_that_writes_its_own_comments(
    go: Callable[..., SlurmRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is lost and so is the comment: the job is found by the path of its script."""
    rewritten = (
        "for word; do case $word in --comment=*) word='--comment=by | the site';; esac\n"
        'set -- "$@" "$word"; shift; done\n'
    )
    log = wrapper(tmp_path, monkeypatch, "sbatch", f'{rewritten}"$real" "$@" >>"$log"\necho "{SILENT}" >&2\nexit 1\n')
    report = go(shell("one", "true")).report()
    assert report.status == "completed", report.error
    assert log.read_text().split() == [report["sandbox_id"]]
    assert "Comment=by | the site" in slurm("scontrol", "show", "job", report["sandbox_id"])


def test_a_job_that_is_refused_leaves_nothing(go: Callable[..., SlurmRun]) -> None:
    """At once, in Slurm's words, with what to do; nothing is looked for that there is not."""
    started_s = time.monotonic()
    run = go(shell("one", "true"), mem="900G")
    report = run.report()
    assert report.error is not None
    assert report.error["failure_class"] == "resource_denied"
    assert "no node is that large" in report.error["message"]
    assert time.monotonic() - started_s < 3
    assert list(run.shared_dir.glob("runs/*")) == []


# The end, and what is said of it.


@pytest.mark.parametrize("how", ["cancelled", "timeout"])
def test_a_suspended_job_has_to_end(go: Callable[..., SlurmRun], monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """Its worker cannot end the run: the cause decides, and the message has Slurm's state of the job."""
    monkeypatch.setattr("remote.followed_run.CANCEL_MARGIN_S", 2.0)
    run = go(shell("long", "sleep 300"), context={"timeout": 3.0} if how == "timeout" else {})
    run.wait_for("step.start", "long")
    job_id = run.wait_for_job()
    slurm("scontrol", "suspend", job_id)
    if how == "cancelled":
        run.adapter.cancel("enough")
    report = run.report()
    assert report.status == how, report.error
    assert report.error is not None
    assert report.error["failure_class"] == how
    assert f"job {job_id} is SUSPENDED" in report.error["message"]
    nothing_is_left(run, job_id)


def test_slurm_forgets_a_job_that_works(
    go: Callable[..., SlurmRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker is heard, so it is not lost; when that is silent too, it is, and the message says which of both."""
    monkeypatch.setattr("remote.turn.HEARTBEAT_S", 0.5)
    monkeypatch.setattr("remote.turn.SILENCE_LIMIT_S", 1.0)
    block = tmp_path / "forgotten"
    text = f'[ ! -e {shlex.quote(str(block))} ] && exec "$real" "$@"\n'
    said = "slurm_load_jobs error: Invalid job id specified"
    scontrol = str(shutil.which("scontrol"))
    for tool in ("squeue", "scontrol"):
        wrapper(tmp_path, monkeypatch, tool, f"{text}echo {shlex.quote(said)} >&2\nexit 1\n")
    run = go(shell("one", "sleep 300"), forgotten_s=1.0, poll_max_s=0.5)
    run.wait_for("step.start", "one")
    job_id = run.wait_for_job()
    block.touch()
    time.sleep(5)
    assert run._thread.is_alive()
    slurm(scontrol, "suspend", job_id)  # the worker stands still
    report = run.report()
    assert report.status == "failed"
    assert report.error is not None
    assert report.error["failure_class"] == "infra_lost"
    assert f"job {job_id} is lost" in report.error["message"]
    assert "Slurm does not know it any more, and nothing is heard of its worker" in report.error["message"]


def test_an_answer_without_a_word_is_no_end(
    slurm_cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither for who waits for a job to be gone."""
    from adapters.slurm_cluster.removal import cancel_jobs
    from remote.sandbox import SandboxError

    job_id = slurm("sbatch", "--parsable", "--output=/dev/null", "--wrap=trap '' TERM; sleep 60").strip()
    wait_until(lambda: state_of(job_id) == "RUNNING")
    wrapper(tmp_path, monkeypatch, "squeue", "exit 0\n")
    wrapper(tmp_path, monkeypatch, "scancel", "exit 0\n")
    try:
        for jobs in ([job_id], [job_id, "999999"]):
            with pytest.raises(SandboxError, match=f"job {job_id}.* is still there"):
                cancel_jobs(jobs, limit_s=1.0)
    finally:
        monkeypatch.undo()
        cancel_jobs([job_id, "999999"], limit_s=30)
    assert state_of(job_id) == "CANCELLED"


def test_a_scancel_that_was_not_heard_is_repeated(
    slurm_cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for several jobs, and where it says of another one that there is none."""
    from adapters.slurm_cluster.removal import cancel_jobs

    jobs = [slurm("sbatch", "--parsable", "--output=/dev/null", "--wrap=sleep 60").strip() for _ in range(2)]
    said = (
        "scancel: error: Kill job error on job id 9: Invalid job id specified\n"
        "scancel: error: Kill job error on job id 10: Socket timed out on send/recv operation"
    )
    once = f'echo x >>"$log"\n[ "$(wc -l <"$log")" != 1 ] || {{ echo "{said}" >&2; exit 1; }}\nexec "$real" "$@"\n'
    log = wrapper(tmp_path, monkeypatch, "scancel", once)
    cancel_jobs(jobs, limit_s=30)
    assert log.read_text() == "x\nx\n"
    assert [state_of(job_id) for job_id in jobs] == ["CANCELLED", "CANCELLED"]


# What is asked beforehand.


def test_partitions_are_asked_for_once_and_hidden_ones_are_known(
    slurm_shared: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many manifests are prepared."""
    log = wrapper(tmp_path, monkeypatch, "sinfo", 'echo "$@" >>"$log"\nexec "$real" "$@"\n')
    slurm("scontrol", "update", "PartitionName=short", "Hidden=yes")
    try:
        adapter = AdapterFactory.create("slurm", shared_dir=slurm_shared, partition="short", time_limit="0:01:00")
        for number in range(3):
            adapter.prepare(manifest(shell("one", "true")), ExecutionContext(session_dir=str(tmp_path / f"s{number}")))
    finally:
        slurm("scontrol", "update", "PartitionName=short", "Hidden=no")
    assert len(log.read_text().splitlines()) == 1


def test_one_cluster(slurm_shared: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where several are named, it is said beforehand."""
    monkeypatch.setenv("SLURM_CLUSTERS", "here,there")
    adapter = AdapterFactory.create("slurm", shared_dir=slurm_shared)
    with pytest.raises(PreparationError, match=r"SLURM_CLUSTERS names several clusters \(here,there\)"):
        adapter.prepare(manifest(shell("one", "true")), ExecutionContext(session_dir=str(tmp_path / "s")))


def test_a_job_that_is_held_waits(go: Callable[..., SlurmRun]) -> None:
    """It is said once, with what to do, and the run goes on when it was let go."""
    run = go(shell("one", "true"), additional_options=["--begin=now+60"])
    job_id = run.wait_for_job()
    slurm("scontrol", "hold", job_id)

    def told() -> list[dict[str, Any]]:
        return [event for event in run.events("log") if "is held" in event["message"]]

    wait_until(told)
    slurm("scontrol", "update", f"JobId={job_id}", "StartTime=now")
    slurm("scontrol", "release", job_id)
    assert run.report().status == "completed"
    (event,) = told()
    assert f"scontrol release {job_id}" in event["message"]
