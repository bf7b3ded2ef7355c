"""A controller is killed at a point of its run at E2B, and another one goes on, as everywhere."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("e2b", reason="the extra [e2b] is not installed")

from tests.e2b_run import options
from tests.test_attach_everywhere import Place, is_notice, journal_is_whole, nothing_is_left, stable

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2b_server import E2BServer

NEVER_BEGAN = ["sandbox start#1", "before run#3", "after run#3", "sandbox open#1"]
STEPS_RAN = ["within step.start#1", "within step.complete#2", "within steps.complete#1"]
COMING_HOME = ["sandbox get#1", "moving in artifacts#1", "sandbox stop#1", "before run.complete#1"]


@pytest.fixture
def place(e2b_server: E2BServer) -> Place:
    def left(token: str) -> list[str]:
        alive = (sandbox for sandbox in e2b_server.sandboxes.values() if sandbox.state != "gone")
        return [sandbox.sandbox_id for sandbox in alive if sandbox.metadata["osiris.token"] == token]

    return Place("e2b", options(e2b_server), left)


def killed(place: Place, folder: Path, points: list[str]) -> list[tuple[str, Path]]:
    """Runs whose controllers were killed at these points."""

    def one(point: str) -> tuple[str, Path]:
        session = folder / point.replace(" ", "-").replace("#", "-")
        done = place.run(session, point)
        assert done.returncode == -9, (point, done.stdout, done.stderr)
        return point, session

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(one, points))


def comparable(report: dict[str, Any]) -> dict[str, Any]:
    found = stable(report)
    del found["e2b"]  # how many requests were made, and how long the making took
    return found


def test_a_run_that_never_began(place: Place, tmp_path: Path) -> None:
    """The report says so, and what to do; no sandbox of it is left."""
    for point, session in killed(place, tmp_path, NEVER_BEGAN):
        report = place.attach(session)
        assert (report.status, report["error"]["failure_class"]) == ("failed", "infra_lost"), point
        assert "run it again: osiris run" in report["error"]["message"], point
        nothing_is_left(place, session)


@pytest.mark.timeout(120)
def test_a_run_goes_on_without_its_controller(place: Place, tmp_path: Path) -> None:
    """The report, the journal and the artifacts are those of a run that nobody disturbed."""
    undisturbed = tmp_path / "undisturbed"
    expected = comparable(json.loads(place.run(undisturbed).stdout)["report"])
    expected_events = [(event["origin"], event["event"]) for event in journal_is_whole(undisturbed)]
    for point, session in killed(place, tmp_path, [*STEPS_RAN, *COMING_HOME]):
        report = place.attach(session)
        found = comparable(report.to_json())
        assert found.pop("attached") is True
        assert found.pop("values_not_here") == ["TOKEN"]
        assert found == expected, point
        events = [event for event in journal_is_whole(session) if not is_notice(event)]
        assert [(event["origin"], event["event"]) for event in events] == expected_events, point
        for path in sorted(undisturbed.glob("artifacts/*/*")):
            assert (session / path.relative_to(undisturbed)).read_bytes() == path.read_bytes(), point
        nothing_is_left(place, session)
        assert place.attach(session).to_json() == report.to_json()
