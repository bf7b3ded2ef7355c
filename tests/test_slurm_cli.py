"""The command line around Slurm: the script beforehand, the workers' environment, what is left, and being stopped."""

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

from adapters.slurm_cluster.config import SlurmConfig
from adapters.slurm_cluster.environment import environment_dir, requirements, worker_python
from osiris_core import AdapterFactory, ExecutionContext
from tests.slurm_runs import SlurmRun, is_gone, living, manifest, shell, slurm, wait_until
from tests.worker_process import DRIVERS

if TYPE_CHECKING:
    from collections.abc import Iterator

OSIRIS = [sys.executable, "-m", "osiris_core.cli.main"]
CONTROLLER = Path(__file__).parent / "data" / "mortal_controller.py"


@pytest.fixture
def project(tmp_path: Path, slurm_shared: str) -> Path:
    """A manifest whose step does not end, and a configuration."""
    mark = 49_000_000 + os.getpid()
    (tmp_path / "manifest.json").write_text(json.dumps(manifest(shell("long", f"sleep {mark} & setsid sleep {mark}"))))
    settings = {"type": "slurm", "shared_dir": slurm_shared, "mem": "1G", "setup": ["export A='b c'"]}
    (tmp_path / "slurm.json").write_text(json.dumps(settings))
    return tmp_path


def osiris(project: Path, *argv: str, timeout_s: float = 50) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*OSIRIS, *argv], cwd=project, capture_output=True, text=True, check=False, timeout=timeout_s)


@pytest.fixture
def running(project: Path) -> Iterator[subprocess.Popen[str]]:
    """`osiris run`, with its step under way."""
    argv = [*OSIRIS, "run", "manifest.json", "--config", "slurm.json", "--session-dir", "session", "--json"]
    process = subprocess.Popen(argv, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    events = project / "session/events.jsonl"
    wait_until(lambda: events.exists() and "step.start" in events.read_text())
    yield process
    if process.poll() is None:
        process.terminate()
    process.communicate(timeout=40)


def test_the_script_that_is_shown_is_the_one_that_is_submitted(project: Path, running: Any) -> None:
    """Byte for byte, as Slurm has it; the command beside it has the options that the job has."""
    shown = osiris(project, "plan", "manifest.json", "--config", "slurm.json", "--show-script")
    job_id = json.loads((project / "session/run.json").read_text())["native_id"]
    submitted = slurm("scontrol", "write", "batch_script", job_id, "-")
    assert shown.stdout.rstrip("\n") == submitted.rstrip("\n").rstrip("\0")
    assert "sbatch --nodes=1 --cpus-per-task=1 --mem=1G --time=1:00:00" in shown.stderr
    as_json = json.loads(
        osiris(project, "plan", "manifest.json", "--config", "slurm.json", "--show-script", "--json").stdout
    )
    assert as_json["script"] == shown.stdout
    assert as_json["command"][0] == "sbatch"
    refused = osiris(project, "plan", "manifest.json", "--show-script")
    assert refused.returncode == 2
    assert "hands no script to a batch system" in refused.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_by_a_signal(project: Path, running: subprocess.Popen[str], number: signal.Signals) -> None:
    """The job is gone and so is everything that it started, before the command line leaves."""
    mark = str(49_000_000 + os.getpid())
    wait_until(lambda: len(living(mark)) >= 2)
    job_id = json.loads((project / "session/run.json").read_text())["native_id"]
    started_s = time.monotonic()
    running.send_signal(number)
    out, err = running.communicate(timeout=40)
    assert time.monotonic() - started_s < 20
    assert running.returncode == 130, err
    assert json.loads(out)["status"] == "cancelled"
    assert is_gone(job_id)
    assert living(mark) == []


def test_what_a_killed_controller_left(project: Path, slurm_shared: str) -> None:
    """`osiris runs gc` ends its job and removes its folder; a run that somebody owns is left alone."""
    mine = SlurmRun(project / "mine", slurm_shared, [shell("wait", "sleep 30")])
    mine.wait_for("step.start", "wait")
    argv = [sys.executable, str(CONTROLLER), "slurm", json.dumps({"shared_dir": slurm_shared, "code": [str(DRIVERS)]})]
    session = project / "lost"
    dead = subprocess.run(
        [*argv, str(session), "after run#4"], env={**os.environ, "TOKEN": "correct-horse-battery"}, check=False
    )
    assert dead.returncode == -9
    recorded = json.loads((session / "run.json").read_text())
    try:
        listed = json.loads(osiris(project, "runs", "gc", "--adapter", "slurm", "--dry-run", "--json").stdout)
        with AdapterFactory.create("slurm", shared_dir=slurm_shared) as adapter:
            found = adapter.leftovers([session, mine.session_dir])
        assert [item.session_dir for item in found] == [str(session)]
        assert listed["problems"] == []
        (lost,) = found
        assert recorded["token"] in str(lost.remove.args[0])  # type: ignore[attr-defined]
        lost.remove()
        lost.remove()
        assert is_gone(recorded["native_id"])
        assert len(list(Path(slurm_shared).glob("runs/*"))) == 1
        assert list(session.glob("slurm-*")) == []
    finally:
        mine.adapter.cancel("the test is over")
        mine.report()


@pytest.mark.timeout(300)
def test_the_environment(project: Path, slurm_shared: str) -> None:
    """Made once, named by what is in it; workers run in it."""
    settings = {"type": "slurm", "shared_dir": slurm_shared, "packages": ["six>=1.16"]}
    (project / "own.json").write_text(json.dumps(settings))
    config = SlurmConfig.model_validate(settings)
    assert worker_python(config) == sys.executable
    made = osiris(project, "adapters", "setup", "slurm", "--config", "own.json", timeout_s=280)
    assert made.returncode == 0, made.stderr
    folder = environment_dir(config)
    assert folder is not None
    assert worker_python(config) == str(folder / "bin/python")
    again = osiris(project, "adapters", "setup", "slurm", "--config", "own.json")
    assert "nothing had to be made" in again.stdout
    assert environment_dir(config.model_copy(update={"packages": ("six>=1.17",)})) != folder
    assert set(requirements(config)) > {"six>=1.16", "cryptography>=41"}
    with AdapterFactory.create(
        "slurm", **{name: value for name, value in settings.items() if name != "type"}
    ) as adapter:
        report = adapter.run(
            manifest({"id": "one", "driver": "duckdb.processor", "config": {"query": "select 1 as a"}}),
            ExecutionContext(session_dir=str(project / "s")),
        )
    assert report.status == "completed", report.error


def test_an_environment_needs_a_folder(tmp_path: Path) -> None:
    """It is said what to set."""
    done = osiris(tmp_path, "adapters", "setup", "slurm")
    assert done.returncode == 1
    assert "set shared_dir" in done.stderr
