"""A controller is killed at every point of a run, and another one goes on: on a worker process and in a container."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from osiris_core import AdapterFactory, PreparationError, RunReport, read_events
from osiris_core.process_scan import has_marker, process_entries
from tests.worker_process import DRIVERS, files_with

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CONTROLLER = Path(__file__).parent / "data" / "mortal_controller.py"
SECRET = "correct-horse-battery"

NOTHING_WRITTEN = ["before run#1"]
NEVER_BEGAN = [
    *("after run#1", "before status#1", "after status#1", "before run.start#1", "within run.start#1"),
    *("before run#2", "after run#2", "sandbox start#1", "before run#3", "after run#3", "sandbox put#1"),
    *("sandbox open#1", "before run#4", "after run#4", "call#1"),
]
STEPS_RAN = [
    *("within step.start#1", "within step.complete#1", "within step.start#2", "within step.progress#1"),
    *("within artifact#1", "within step.complete#2", "within step.start#3", "within metric#1", "within artifact#2"),
    *("within step.complete#3", "within steps.complete#1", "call#2"),
]
COMING_HOME = [
    *("sandbox get#1", "moving in artifacts#1", "moving in checkpoints#1", "before run#5", "after run#5"),
    *(
        "sandbox stop#1",
        "before run#6",
        "after run#6",
        "before run.complete#1",
        "within run.complete#1",
        "before status#2",
        "after status#2",
    ),
]
OF_DOCKER = ["volume removed#1", "volume removed#2"]
VOLATILE = ("timings", "overhead_ms", "session_id", "session_dir", "sandbox_id", "transfer", "worker_overhead_ms")


class Place:
    """One adapter, and how to tell what is left of a run in it."""

    def __init__(self, name: str, settings: dict[str, Any], left: Callable[[str], list[str]]) -> None:
        self.name = name
        self.settings = {"code": [str(DRIVERS)], "unattended_timeout_s": 100, **settings}
        self.left = left

    def run(self, session: Path, point: str | None = None) -> subprocess.CompletedProcess[str]:
        """A controller's run, which dies at `point`."""
        argv = [sys.executable, str(CONTROLLER), self.name, json.dumps(self.settings), str(session)]
        environment = {**os.environ, "TOKEN": SECRET}
        return subprocess.run(
            argv + ([point] if point else []), env=environment, capture_output=True, text=True, check=False, timeout=50
        )

    def attach(self, session: Path, **more: Any) -> RunReport:
        with AdapterFactory.create(self.name, **self.settings) as adapter:
            return adapter.attach(session, **more)


def left_of_process(token: str) -> list[str]:
    marker = f"OSIRIS_WORKER_TOKEN={token}".encode()
    return [str(entry) for entry in process_entries() if entry.alive and has_marker(entry.pid, marker)]


def left_in_docker(client: Any, token: str) -> list[str]:
    wanted = {"label": f"osiris.token={token}"}
    found = client.api.containers(all=True, filters=wanted), client.api.volumes(filters=wanted)["Volumes"] or []
    return [str(item) for items in found for item in items]


@pytest.fixture(params=["process", "docker"])
def place(request: pytest.FixtureRequest) -> Place:
    if request.param == "process":
        return Place("process", {}, left_of_process)
    client = request.getfixturevalue("docker_client")
    request.getfixturevalue("worker_image")
    return Place("docker", {"base_image": "osiris-base:bookworm"}, partial(left_in_docker, client))


@pytest.fixture
def killed(place: Place, tmp_path: Path) -> Iterator[Callable[[list[str]], list[tuple[str, Path]]]]:
    """Runs whose controllers were killed at these points, some at a time; nothing of them outlives the test."""

    def kill(points: list[str]) -> list[tuple[str, Path]]:
        def one(point: str) -> tuple[str, Path]:
            session = tmp_path / point.replace(" ", "-").replace("#", "-")
            done = place.run(session, point)
            assert done.returncode == -9, (point, done.stdout, done.stderr)
            return point, session

        with ThreadPoolExecutor(3) as pool:
            return list(pool.map(one, points))

    yield kill
    sessions = [path.parent for path in tmp_path.glob("*/run.json")]
    for item in AdapterFactory.create(place.name, **place.settings).leftovers(sessions):
        if Path(item.session_dir) in sessions:
            item.remove()


def journal_is_whole(session: Path) -> list[dict[str, Any]]:
    """Numbers without a gap or a double for each origin, all of one attempt; the events in their order."""
    events = list(read_events(session / "events.jsonl"))
    assert {event["attempt"] for event in events} == {1}
    for origin in ("host", "engine"):
        numbers = [event["seq"] for event in events if event["origin"] == origin]
        assert numbers == list(range(1, len(numbers) + 1)), (session, origin, numbers)
    return events


def nothing_is_left(place: Place, session: Path) -> None:
    token = json.loads((session / "run.json").read_text()).get("token", "none")
    assert place.left(token) == []
    assert list(session.glob("process-*")) == []
    assert not (session / "work").exists()
    assert files_with(session, SECRET) == []


def stable(report: dict[str, Any]) -> dict[str, Any]:
    """A report without times, places and memory."""
    kept = {name: value for name, value in report.items() if name not in VOLATILE}
    kept["metrics"] = {name: kept["metrics"][name] for name in ("rows_read", "rows_written")}
    times = ("started_at", "execution_time_ms", "memory_usage_mb")
    kept["steps"] = [{name: value for name, value in step.items() if name not in times} for step in kept["steps"]]
    kept["published"] = [Path(path).name for path in kept["published"]]
    return kept


def test_every_point_is_tried(place: Place, tmp_path: Path) -> None:
    """A controller that lives passes by exactly the points that the tests below kill at."""
    done = place.run(tmp_path / "session")
    points = json.loads(done.stdout)["points"]
    tried = {*NOTHING_WRITTEN, *NEVER_BEGAN, *STEPS_RAN, *COMING_HOME, *(OF_DOCKER if place.name == "docker" else [])}
    extra = {point for point in points if point.startswith("call#")} - {"call#1", "call#2"}  # a summary asked for again
    assert set(points) - extra == tried


def test_a_run_that_was_not_written_down(place: Place, killed: Any) -> None:
    """There is nothing to attach to, and that is said."""
    ((_, session),) = killed(NOTHING_WRITTEN)
    with pytest.raises(PreparationError, match="no session here"):
        place.attach(session)


@pytest.mark.timeout(100)
def test_a_run_that_never_began(place: Place, killed: Any, tmp_path: Path) -> None:
    """The report says so, and what to do; nothing is left of its place; and the same session can be run again."""
    for point, session in killed(NEVER_BEGAN):
        report = place.attach(session)
        assert (report.status, report["error"]["failure_class"]) == ("failed", "infra_lost"), point
        assert "run it again: osiris run" in report["error"]["message"], point
        assert report["attached"] is True
        assert {step["status"] for step in report.steps} == {"skipped"}
        events = journal_is_whole(session)
        assert [event["event"] for event in events if event["origin"] == "host"][-1] == "run.error", point
        assert json.loads((session / "status.json").read_text()) == report.to_json()
        nothing_is_left(place, session)
    again = json.loads(place.run(session).stdout)["report"]
    assert (again["status"], again["attempt"]) == ("completed", 2)


@pytest.mark.timeout(100)
@pytest.mark.parametrize("points", [STEPS_RAN, [*COMING_HOME, *OF_DOCKER]], ids=["steps ran", "coming home"])
def test_a_run_goes_on_without_its_controller(place: Place, killed: Any, tmp_path: Path, points: list[str]) -> None:
    """The report, the journal and the artifacts are those of a run that nobody disturbed."""
    if place.name == "process":
        points = [point for point in points if point not in OF_DOCKER]
    undisturbed = tmp_path / "undisturbed"
    expected = stable(json.loads(place.run(undisturbed).stdout)["report"])
    expected_events = [(event["origin"], event["event"]) for event in journal_is_whole(undisturbed)]
    for point, session in killed(points):
        before = (session / "events.jsonl").read_bytes()
        report = place.attach(session)
        found = stable(report.to_json())
        if point == "after status#2":  # it was over
            assert "attached" not in report
        else:
            assert found.pop("attached") is True
            assert found.pop("values_not_here") == ["TOKEN"]
        assert found == expected, point
        after = (session / "events.jsonl").read_bytes()
        assert after.startswith(before[: before.rfind(b"\n") + 1]), point
        events = [event for event in journal_is_whole(session) if not is_notice(event)]
        assert [(event["origin"], event["event"]) for event in events] == expected_events, point
        timings = dict(report.timings)
        wall_ms = timings.pop("wall_ms")
        assert wall_ms == pytest.approx(sum(timings.values()), abs=0.01)
        for path in sorted(undisturbed.glob("artifacts/*/*")):
            assert (session / path.relative_to(undisturbed)).read_bytes() == path.read_bytes(), point
        assert Path(f"{session}.out/n.csv").read_bytes() == Path(f"{undisturbed}.out/n.csv").read_bytes()
        assert json.loads((session / "status.json").read_text()) == report.to_json()
        nothing_is_left(place, session)
        assert place.attach(session).to_json() == report.to_json()


def is_notice(event: dict[str, Any]) -> bool:
    """Whether an event is the one that says whose values are not here."""
    return event["event"] == "log" and event["origin"] == "host" and "TOKEN" in event["message"]
