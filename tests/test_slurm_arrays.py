"""Mode array on a real cluster: many runs as one job, each with an end of its own."""

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

from osiris_core import PreparationError
from tests.slurm_runs import (
    cluster_is_clean,
    contexts,
    counted,
    create,
    is_gone,
    manifest,
    shell,
    slurm,
    state_of,
    wait_until,
    wrapper,
)
from tests.test_slurm_sites import SILENT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adapters.slurm import SlurmAdapter
    from osiris_core import RunReport

ROOT = Path(__file__).resolve().parent.parent


class Several:
    """Runs of one array, in a thread of their own; `reports` waits for their end."""

    def __init__(self, adapter: SlurmAdapter, folder: Path, lines: list[str], **context: Any) -> None:
        self.adapter, self.folder = adapter, folder
        runs = [manifest(shell("one", line)) for line in lines]
        self._reports: list[RunReport] = []
        sessions = contexts(folder, len(lines), **context)
        self._thread = threading.Thread(target=lambda: self._reports.extend(adapter.run_many(runs, sessions)))
        self._thread.start()

    def job(self, number: int) -> str:
        """The id of a run's element, once there is one."""
        path = self.folder / f"s{number}/run.json"
        return str(wait_until(lambda: path.exists() and json.loads(path.read_text()).get("native_id")))

    def wait_for_step(self, number: int) -> None:
        path = self.folder / f"s{number}/events.jsonl"
        wait_until(lambda: path.exists() and "step.start" in path.read_text())

    def reports(self, timeout_s: float = 50.0) -> list[RunReport]:
        self._thread.join(timeout_s)
        assert not self._thread.is_alive(), "the runs are not over"
        return self._reports


@pytest.fixture
def arrays(slurm_shared: str) -> Iterator[SlurmAdapter]:
    adapter = create(slurm_shared, mode="array")
    yield adapter
    adapter.cancel("the test is over")
    adapter.close()
    cluster_is_clean(slurm_shared)


def test_many_runs_are_one_array(slurm_shared: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One submission; each run its own session, report and end."""
    log = counted(tmp_path, monkeypatch, "sbatch")
    runs = [manifest(shell("one", f"echo {number}; exit {1 if number == 3 else 0}")) for number in range(6)]
    with create(slurm_shared, mode="array") as adapter:
        reports = adapter.run_many(runs, contexts(tmp_path, 6))
    assert [report.status for report in reports] == [*["completed"] * 3, "failed", *["completed"] * 2]
    ids = [report["sandbox_id"] for report in reports]
    assert len({job_id.partition("_")[0] for job_id in ids}) == 1
    assert sorted(int(job_id.partition("_")[2]) for job_id in ids) == list(range(6))
    for number in (0, 5):
        assert (tmp_path / f"s{number}/artifacts/one/stdout.log").read_text() == f"{number}\n"
    assert len(log.read_text().splitlines()) == 1
    assert {report["node"] for report in reports} == {"n1", "n2"}
    cluster_is_clean(slurm_shared)


def test_every_problem_of_every_run_is_told_first(slurm_shared: str, tmp_path: Path) -> None:
    """Nothing is started, and nothing made."""
    runs = [manifest(shell("one", "true")), manifest({"id": "x", "driver": "nonsense"}), {"pipeline": "y", "steps": []}]
    with create(slurm_shared, mode="array") as adapter, pytest.raises(PreparationError) as caught:
        adapter.run_many(runs, contexts(tmp_path, 3))
    text = str(caught.value)
    assert "manifest 2: " in text
    assert "manifest 3: " in text
    assert list(tmp_path.glob("s*")) == []


def test_a_run_that_cannot_begin_holds_up_no_other(slurm_shared: str, tmp_path: Path) -> None:
    """Its session is somebody else's: it is told, and the others run."""
    from osiris_core.errors import SessionBusy
    from osiris_core.session import Session

    other = Session.open(str(tmp_path / "s1"), "other", "slurm-test")
    try:
        with create(slurm_shared, mode="array") as adapter, pytest.raises(SessionBusy):
            adapter.run_many([manifest(shell("one", "true"))] * 3, contexts(tmp_path, 3))
    finally:
        other.close()
    done = [json.loads((tmp_path / f"s{number}/status.json").read_text())["status"] for number in (0, 2)]
    assert done == ["completed", "completed"]
    cluster_is_clean(slurm_shared)


def test_one_question_for_all_of_them(slurm_shared: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many runs there are, Slurm is asked once each time that it is time to."""
    log = counted(tmp_path, monkeypatch, "squeue")
    flag = tmp_path / "go on"
    with create(slurm_shared, mode="array", poll_min_s=0.5, poll_max_s=0.5) as adapter:
        several = Several(adapter, tmp_path, [f"until [ -e '{flag}' ]; do sleep 0.1; done"] * 6)
        array = several.job(5).partition("_")[0]
        several.wait_for_step(0)
        several.wait_for_step(1)
        before = len(log.read_text().splitlines())
        time.sleep(4)
        asked = log.read_text().splitlines()[before:]
        flag.touch()
        assert [report.status for report in several.reports()] == ["completed"] * 6
    assert 4 <= len(asked) <= 11
    assert all(f"--jobs={array} " in line for line in asked)


def test_an_element_is_cancelled_from_outside(
    slurm_shared: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that waits leaves no trace with Slurm: it is lost, and the others go on."""
    monkeypatch.setattr("remote.turn.HEARTBEAT_S", 0.2)
    with create(slurm_shared, mode="array", forgotten_s=1.0, poll_max_s=0.5) as adapter:
        several = Several(adapter, tmp_path, ["sleep 4"] * 4)
        several.wait_for_step(0)
        slurm("scancel", several.job(3))
        reports = several.reports()
    assert [report.status for report in reports] == [*["completed"] * 3, "failed"]
    assert "Slurm does not know it any more" in str(reports[3].error)
    cluster_is_clean(slurm_shared)


def test_cancelled_together(arrays: SlurmAdapter, tmp_path: Path) -> None:
    """Those that run and those that wait: each has a report, and no element is left."""
    several = Several(arrays, tmp_path, ["sleep 300"] * 4)
    several.wait_for_step(0)
    arrays.cancel("enough")
    assert [report.status for report in several.reports()] == ["cancelled"] * 4
    assert is_gone(several.job(0).partition("_")[0])


def test_one_element_is_requeued(arrays: SlurmAdapter, tmp_path: Path) -> None:
    """Its run goes on as its next attempt; the other ones' do not notice."""
    counter = tmp_path / "counter"
    count = f"n=$(cat '{counter}' 2>/dev/null || echo 0); echo $((n + 1)) >'{counter}'"
    again = f"{count}; [ $n -gt 0 ] || sleep 60; echo $n"
    several = Several(arrays, tmp_path, ["echo other", again], checkpoint="always")
    several.wait_for_step(1)
    wait_until(counter.exists)
    slurm("scontrol", "requeue", several.job(1))
    other, requeued = several.reports()
    assert [other.status, requeued.status] == ["completed", "completed"]
    assert [other["attempt"], requeued["attempt"], requeued["restarts"]] == [1, 2, 1]
    assert (tmp_path / "s1/artifacts/one/stdout.log").read_text() == "1\n"


@pytest.mark.parametrize("output", [None, "%x-%A_%a.out"])
def test_a_setup_line_that_fails(slurm_shared: str, tmp_path: Path, output: str | None) -> None:
    """Every run says which, also where the output goes to files of the user's."""
    settings = {"output_file": str(tmp_path / output)} if output is not None else {}
    with create(slurm_shared, mode="array", setup=["source /no/such/file.sh"], **settings) as adapter:
        reports = adapter.run_many([manifest(shell("one", "true"))] * 2, contexts(tmp_path, 2))
    for report in reports:
        assert report.error is not None
        assert report.error["failure_class"] == "user_error"
        assert "modules or setup failed: source /no/such/file.sh" in report.error["message"]
    cluster_is_clean(slurm_shared)


def test_a_lost_answer_makes_no_second_array(
    arrays: SlurmAdapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """sbatch was obeyed, and its answer lost while elements wait: the array is found, and every run has its own."""
    log = wrapper(tmp_path, monkeypatch, "sbatch", f'"$real" "$@" >>"$log"\necho "{SILENT}" >&2\nexit 1\n')
    reports = Several(arrays, tmp_path, [f"echo {number}" for number in range(4)]).reports()
    assert [report.status for report in reports] == ["completed"] * 4
    (array,) = log.read_text().split()
    assert [report["sandbox_id"] for report in reports] == [f"{array}_{number}" for number in range(4)]
    assert (tmp_path / "s3/artifacts/one/stdout.log").read_text() == "3\n"


def test_an_array_that_slurm_refuses(arrays: SlurmAdapter, tmp_path: Path) -> None:
    """Every run has the reason, at once."""
    started_s = time.monotonic()
    with create(str(arrays.config.shared_dir), mode="array", mem="900G") as adapter:  # type: ignore[attr-defined]
        reports = adapter.run_many([manifest(shell("one", "true"))] * 3, contexts(tmp_path, 3))
    assert ["no node is that large" in str(report.error) for report in reports] == [True] * 3
    assert time.monotonic() - started_s < 5


def test_no_array_is_larger_than_it_may_be(slurm_shared: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not go into one is another."""
    log = counted(tmp_path, monkeypatch, "sbatch")
    with create(slurm_shared, mode="array", array_size=2) as adapter:
        reports = adapter.run_many([manifest(shell("one", "true"))] * 3, contexts(tmp_path, 3))
    assert [report.status for report in reports] == ["completed"] * 3
    lines = log.read_text().splitlines()
    assert ["--array=0-1 " in lines[0], "--array=0-0 " in lines[1], len(lines)] == [True, True, 2]


# Another controller.

CLIENT = """
import json, sys
from osiris_core import AdapterFactory, ExecutionContext
settings, folder = json.loads(sys.argv[1]), sys.argv[2]
steps = [{"id": "one", "driver": "command", "config": {"shell": "sleep 7; echo done"}}]
contexts = [ExecutionContext(session_dir=f"{folder}/s{number}") for number in range(2)]
AdapterFactory.create("slurm", **settings).run_many([{"pipeline": "p", "steps": steps}] * 2, contexts)
"""


@pytest.mark.parametrize("mode", ["array", "pilot"])
@pytest.mark.timeout(120)
def test_what_another_controller_attached_to_is_somebodys(slurm_shared: str, tmp_path: Path, mode: str) -> None:
    """The first one is killed, one of its two runs is attached to: the collector leaves that and its job alone."""
    settings = {"mode": mode, "shared_dir": slurm_shared, "nodes": 2 if mode == "pilot" else 1}
    client = subprocess.Popen([sys.executable, "-c", CLIENT, json.dumps(settings), str(tmp_path)], cwd=ROOT)
    sessions = [tmp_path / "s0", tmp_path / "s1"]
    for session in sessions:
        events = session / "events.jsonl"
        wait_until(lambda events=events: events.exists() and "step.start" in events.read_text())
    client.send_signal(signal.SIGKILL)
    client.wait()
    attached: list[RunReport] = []
    with create(**settings) as adapter:
        thread = threading.Thread(target=lambda: attached.append(adapter.attach(sessions[0])))
        thread.start()
        wait_until(lambda: json.loads((sessions[0] / "run.json").read_text()).get("owner") != "" and thread.is_alive())
        time.sleep(1)
        found = adapter.leftovers(sessions)
        assert thread.is_alive()
        assert [item.session_dir for item in found] == [str(sessions[1])]
        thread.join()
        assert attached[0].status == "completed", attached[0].error
        assert adapter.attach(sessions[1]).status == "completed"
        (left,) = adapter.leftovers(sessions)
        if mode == "pilot":
            assert left.is_running
        else:
            assert (left.kind, left.native_id.startswith("osiris-")) == ("array folder", True)
        left.remove()
    cluster_is_clean(slurm_shared)


def test_an_array_that_nobody_owns_is_one_job(slurm_shared: str, tmp_path: Path) -> None:
    """Elements that wait and elements that run: named by the array's id, and ended by it."""
    settings = {"mode": "array", "shared_dir": slurm_shared}
    script = CLIENT.replace("range(2)", "range(4)").replace("* 2", "* 4").replace("sleep 7", "sleep 300")
    client = subprocess.Popen([sys.executable, "-c", script, json.dumps(settings), str(tmp_path)], cwd=ROOT)
    events = tmp_path / "s0/events.jsonl"
    wait_until(lambda: events.exists() and "step.start" in events.read_text())
    os.kill(client.pid, signal.SIGKILL)
    client.wait()
    sessions = [tmp_path / f"s{number}" for number in range(4)]
    with create(**settings) as adapter:
        found = adapter.leftovers(sessions)
        (whole,) = [item for item in found if "array" in item.kind]
        assert whole.native_id.isdecimal()
        elements = sorted(item.native_id for item in found if item is not whole)
        assert elements == [f"{whole.native_id}_{number}" for number in range(4)]
        whole.remove()
        assert set(state_of(whole.native_id).split()) == {"CANCELLED"}
        for item in found:
            item.remove()
        assert adapter.leftovers(sessions) == []
    cluster_is_clean(slurm_shared)
