"""A controller is killed around the submission of its job, and later: another one finds the job and makes no second."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from osiris_core import AdapterFactory, RunReport, read_events
from tests.slurm_runs import is_gone, slurm
from tests.worker_process import DRIVERS, files_with

if TYPE_CHECKING:
    from collections.abc import Callable

CONTROLLER = Path(__file__).parent / "data" / "mortal_controller.py"
SECRET = "correct-horse-battery"
BEFORE = ["after run#2", "sandbox order#1", "handing in#1"]
HANDED_IN = ["before run#4", "after run#4"]
"""Slurm has the job; its id is not written down, or just so."""
LATER = ["within step.start#1", "within step.complete#3", "sandbox get#1", "moving in artifacts#1", "sandbox stop#1"]


@pytest.fixture
def settings(slurm_shared: str) -> dict[str, Any]:
    return {"shared_dir": slurm_shared, "code": [str(DRIVERS)]}


@pytest.fixture
def killed(settings: dict[str, Any], tmp_path: Path) -> Callable[[list[str]], list[tuple[str, Path]]]:
    """Runs whose controllers were killed at these points."""

    def one(point: str) -> tuple[str, Path]:
        session = tmp_path / point.replace(" ", "-").replace("#", "-")
        argv = [sys.executable, str(CONTROLLER), "slurm", json.dumps(settings), str(session), point]
        environment = {**os.environ, "TOKEN": SECRET}
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=50)
        assert done.returncode == -9, (point, done.stdout[-300:], done.stderr)
        return point, session

    def kill(points: list[str]) -> list[tuple[str, Path]]:
        with ThreadPoolExecutor(3) as pool:
            return list(pool.map(one, points))

    return kill


def attach(settings: dict[str, Any], session: Path, **more: Any) -> RunReport:
    with AdapterFactory.create("slurm", **settings) as adapter:
        return adapter.attach(session, **more)


def jobs_of(session: Path) -> list[str]:
    """Every job that Slurm remembers with the run's token."""
    token = json.loads((session / "run.json").read_text())["token"]
    lines = slurm("squeue", "-h", "-t", "all", "-O", "JobID:|,Comment:100").splitlines()
    return [line.partition("|")[0] for line in lines if token in line]


def nothing_is_left(settings: dict[str, Any], session: Path) -> None:
    token = json.loads((session / "run.json").read_text())["token"]
    assert all(is_gone(job_id) for job_id in jobs_of(session))
    assert list(Path(settings["shared_dir"]).glob(f"runs/*{token}*")) == []
    assert list(session.glob("slurm-*")) == []
    assert files_with(session, SECRET) == []


@pytest.mark.timeout(120)
def test_before_the_job_was_handed_in(settings: dict[str, Any], killed: Any) -> None:
    """There is none, and none is made; the report says that the run never began."""
    for point, session in killed(BEFORE):
        report = attach(settings, session)
        assert (report.status, report["error"]["failure_class"]) == ("failed", "infra_lost"), point
        assert "run it again: osiris run" in report["error"]["message"], point
        assert jobs_of(session) == [], point
        nothing_is_left(settings, session)


@pytest.mark.timeout(120)
def test_from_then_on(settings: dict[str, Any], killed: Any) -> None:
    """Exactly one job, found by its id or by its token, and its result as if nobody had been killed."""
    for point, session in killed([*HANDED_IN, *LATER]):
        report = attach(settings, session)
        assert report.status == "completed", (point, report.error)
        assert report["attached"] is True
        assert len(jobs_of(session)) == 1, point
        assert (session / "artifacts/file/n.csv").read_text().count("\n") == 1001
        events = list(read_events(session / "events.jsonl"))
        for origin in ("host", "engine"):
            numbers = [event["seq"] for event in events if event["origin"] == origin]
            assert numbers == list(range(1, len(numbers) + 1)), (point, origin)
        assert [event["event"] for event in events].count("steps.complete") == 1
        nothing_is_left(settings, session)


def test_cancelled_by_another(settings: dict[str, Any], killed: Any) -> None:
    """A second controller ends what the first one started, job and all."""
    ((_, session),) = killed(["before run#4"])
    report = attach(settings, session, cancel="not wanted any more")
    assert report.status in ("cancelled", "completed")  # it may have been quicker
    nothing_is_left(settings, session)


@pytest.mark.timeout(90)
def test_an_element_of_an_array(slurm_shared: str, tmp_path: Path) -> None:
    """Its controller died before it wrote down the id: the token of its array finds it, and its result is whole."""
    own = {"shared_dir": slurm_shared, "code": [str(DRIVERS)], "mode": "array"}
    for point in HANDED_IN:
        session = tmp_path / point.replace(" ", "-").replace("#", "-")
        argv = [sys.executable, str(CONTROLLER), "slurm", json.dumps(own), str(session), point]
        done = subprocess.run(argv, env={**os.environ, "TOKEN": SECRET}, capture_output=True, text=True, check=False)
        assert done.returncode == -9, done.stderr
        report = attach(own, session)
        assert report.status == "completed", (point, report.error)
        assert (session / "artifacts/file/n.csv").read_text().count("\n") == 1001
    assert list(Path(slurm_shared).glob("*/osiris-*/session")) == []


@pytest.mark.timeout(90)
def test_a_run_that_no_pilot_took(settings: dict[str, Any], tmp_path: Path, full_cluster: list[str]) -> None:
    """Its pilot waits when its controller dies: the run never began, and will not when the pilot comes to run."""
    session = tmp_path / "session"
    own = {**settings, "mode": "pilot"}
    argv = [sys.executable, str(CONTROLLER), "slurm", json.dumps(own), str(session), "after run#4"]
    done = subprocess.run(argv, env={**os.environ, "TOKEN": SECRET}, capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    assert json.loads((session / "run.json").read_text())["native_id"].startswith("pilot-")
    report = attach(own, session)
    assert (report.status, report.error["failure_class"]) == ("failed", "infra_lost")
    assert "run it again: osiris run" in report.error["message"]
    nothing_is_left(settings, session)
    with AdapterFactory.create("slurm", **own) as adapter:
        (left,) = [item for item in adapter.leftovers([session]) if item.session_id == "pilots"]
        (ticket,) = Path(settings["shared_dir"]).glob("pilots/osiris-*/claims/*")
        assert ticket.read_text() == ""  # so that no pilot can take it
        left.remove()


@pytest.mark.timeout(90)
def test_a_run_in_a_pilot(settings: dict[str, Any], tmp_path: Path) -> None:
    """It goes on in its pilot, and another controller fetches it; the pilots of the dead one are found and ended."""
    session = tmp_path / "session"
    own = {**settings, "mode": "pilot", "pilot_idle_s": 60}
    argv = [sys.executable, str(CONTROLLER), "slurm", json.dumps(own), str(session), "within step.start#1"]
    done = subprocess.run(argv, env={**os.environ, "TOKEN": SECRET}, capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    report = attach(own, session)
    assert report.status == "completed", report.error
    assert (session / "artifacts/file/n.csv").read_text().count("\n") == 1001
    with AdapterFactory.create("slurm", **own) as adapter:
        (left,) = [item for item in adapter.leftovers([session]) if item.session_id == "pilots"]
        assert left.is_running
        left.remove()
        assert is_gone(left.native_id)
        assert adapter.leftovers([session]) == []
    assert list(Path(settings["shared_dir"]).glob("*/osiris-*")) == []
