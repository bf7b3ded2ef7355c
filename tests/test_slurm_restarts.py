"""Jobs that Slurm starts again: the same run, its next attempt, what is complete taken over, the old start fenced."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from osiris_core.sealing import sha256_of
from tests.slurm_runs import SlurmRun, living, shell, slurm, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

STEPS = [
    shell("first", "echo $RANDOM$RANDOM > made.txt", config={"artifacts": ["made.txt"]}),
    shell(
        "second",
        'n=$(cat "$COUNTER" 2>/dev/null || echo 0); echo $((n + 1)) > "$COUNTER"; echo "start $n"; '
        '[ $n -gt 0 ] || for i in $(seq 600); do echo "$i" >> late.txt; sleep 0.1; done; '
        'echo "from start $n" > last.txt',
        needs=["first"],
        config={"artifacts": ["last.txt"]},
    ),
]


@pytest.fixture
def run(tmp_path: Path, slurm_shared: str) -> Iterator[SlurmRun]:
    """A run whose second step takes a minute the first time it is started, and no time after that."""
    variables = {"COUNTER": str(tmp_path / "counter"), "PW": "s3cr3t-enough-to-mask"}
    run = SlurmRun(tmp_path, slurm_shared, STEPS, context={"environment": variables, "checkpoint": "always"})
    run.wait_for("step.start", "second")
    wait_until((tmp_path / "counter").exists)
    yield run
    run.adapter.cancel("the test is over")
    run._thread.join(60)


def check_lineage(run: SlurmRun, report: Any) -> None:
    """One run, two attempts: what was complete is taken over, byte for byte; the journal tells both."""
    assert report.status == "completed", report.error
    assert report["attempt"] == 2
    assert report["restarts"] == 1
    assert {step["step_id"]: step["status"] for step in report.steps} == {"first": "reused", "second": "completed"}
    assert (run.session_dir / "artifacts/second/last.txt").read_text() == "from start 1\n"
    made = [event for event in run.events("artifact") if event["path"] == "first/made.txt"]
    assert [event["attempt"] for event in made] == [1]
    assert json.loads((run.session_dir / "run.json").read_text())["attempt"] == 2
    for attempt in (1, 2):
        for origin in ("host", "engine"):
            seqs = [e["seq"] for e in run.events() if (e["attempt"], e["origin"]) == (attempt, origin)]
            assert seqs == list(range(1, len(seqs) + 1))
    assert [event["attempt"] for event in run.events("run.start")] == [1, 2]
    assert [event["attempt"] for event in run.events("run.complete")] == [2]
    assert list(run.shared_dir.glob("runs/*")) == []


def node_of(job_id: str) -> str:
    return slurm("squeue", "-h", "-j", job_id, "-o", "%N").strip()


def test_requeued(run: SlurmRun) -> None:
    """`scontrol requeue`: asked to end, started again."""
    job_id = run.wait_for_job()
    slurm("scontrol", "requeue", job_id)
    report = run.report()
    assert report["sandbox_id"] == job_id
    check_lineage(run, report)


def test_preempted(run: SlurmRun) -> None:
    """A job that had to make room goes on when there is room again."""
    argv = [
        "sbatch",
        "--parsable",
        "--partition=urgent",
        "--exclusive",
        "--nodes=2",
        "--output=/dev/null",
        "--wrap=sleep 1",
    ]
    other = slurm(*argv).strip()
    try:
        check_lineage(run, run.report())
    finally:
        subprocess.run(["scancel", other], check=False)


def digests(folder: Path) -> dict[str, str]:
    return {str(path): sha256_of(path) for path in folder.rglob("*") if path.is_file()}


def test_a_node_is_lost_and_comes_back_late(run: SlurmRun) -> None:
    """Its daemons die, its worker stands still: the run goes on elsewhere, and what wakes up late changes nothing."""
    job_id = run.wait_for_job()
    node = node_of(job_id)
    place = next(run.shared_dir.glob("runs/*"))
    workers = [pid for pid in living(str(place)) if b"-I" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert len(workers) == 2
    daemons = [int(Path(f"/run/slurmd.{node}.pid").read_text()), *living(f"slurmstepd: [{job_id}.")]
    assert len(daemons) >= 2
    for pid in daemons:
        os.kill(pid, signal.SIGKILL)
    # The end of their parents would wake them.
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in daemons))
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    slurm("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    try:
        report = run.report()
        check_lineage(run, report)
        before = digests(run.session_dir)
        assert all(Path(f"/proc/{pid}").exists() for pid in workers)
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
        assert digests(run.session_dir) == before
        assert list(run.shared_dir.glob("runs/*")) == []
    finally:
        for pid in workers:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        Path(f"/run/slurmd.{node}.pid").unlink(missing_ok=True)
        script = Path(__file__).parent.parent / ".ci/slurm"
        subprocess.run(["bash", str(script)], check=True, timeout=60, capture_output=True)
        wait_until(lambda: slurm("sinfo", "-hN", "-p", "main", "-n", node, "-o", "%T").strip() == "idle")
