"""E2B does not answer, for a while or for longer than anybody waits: results are not given up for that."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2b_run import E2BRun, options, said, ticks

pytest.importorskip("e2b", reason="the extra [e2b] is not installed")

from adapters.e2b_cloud import lifetime, transfer
from osiris_core import AdapterFactory
from osiris_core.session import read_json

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2b_server import E2BServer

BAD_GATEWAY = 502, "<html>bad gateway</html>"


@pytest.mark.parametrize("outage", ["answers 502", "is down"])
def test_an_outage_while_results_are_fetched_is_outlived(e2b_server: E2BServer, tmp_path: Path, outage: str) -> None:
    """Ten seconds of it: the run is as good as without."""
    run = E2BRun(e2b_server, tmp_path, ticks(10, 0.1))
    if outage == "answers 502":
        rule = e2b_server.faults.answer("GET /files", *BAD_GATEWAY, times=None)
        over = threading.Timer(10, e2b_server.faults.clear)
        over.start()
        run.completed()
        over.join()
        assert rule.hits > 4
    else:
        with run.under_way("steps.complete"):
            e2b_server.restart(down_s=10)
        run.completed()
    assert (run.session / "artifacts/work/ticked").read_text() == "10"


def left(server: E2BServer, folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> E2BRun:
    """A run whose results cannot be fetched for longer than anybody waits; the sandbox answers again then."""
    monkeypatch.setattr(transfer, "PATIENCE_S", 2.0)
    server.faults.answer("GET /files", *BAD_GATEWAY, times=None)
    run = E2BRun(server, folder, ticks(10, 0.1), request_timeout_s=1, **settings)
    report = run.finish()
    assert report.status == "failed"
    assert report.error["failure_class"] == "infra_lost"
    server.faults.clear()
    return run


def test_results_that_cannot_be_fetched_stay(
    e2b_server: E2BServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their sandbox lives, is named with what to do, and whoever attaches has the run as if nothing had been."""
    run = left(e2b_server, tmp_path, monkeypatch)
    sandbox = e2b_server.sandbox
    assert sandbox.state == "running"
    message = (read_json(run.session / "status.json") or {})["error"]["message"]
    for text in (message, said(run)):
        assert f"what the run left is in {sandbox.sandbox_id} yet" in text
        assert f"osiris runs attach {run.session}" in text
    with AdapterFactory.create("e2b", **options(e2b_server)) as adapter:
        report = adapter.attach(run.session)
        assert report.succeeded, report.error
        assert [event["seq"] for event in run.events()] == list(range(1, len(run.events()) + 1))
        assert (run.session / "artifacts/work/ticked").read_text() == "10"
        run.is_clean()
        assert adapter.attach(run.session).to_json() == report.to_json()


def test_what_was_left_is_swept(e2b_server: E2BServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By gc, when nobody wants it; who attaches then is told, and does so once."""
    run = left(e2b_server, tmp_path, monkeypatch)
    with AdapterFactory.create("e2b", **options(e2b_server)) as adapter:
        (item,) = adapter.leftovers([run.session])
        item.remove()
        report = adapter.attach(run.session)
        assert report.status == "failed"
        assert report.error is not None
        assert "the place of the run is gone" in report.error["message"]
        assert adapter.attach(run.session).to_json() == report.to_json()
    run.is_clean()


def test_a_new_attempt_gives_up_what_was_left(
    e2b_server: E2BServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One in the same session ends the sandbox first, with a key that is found where it was not written down."""
    monkeypatch.setenv("E2B_API_KEY", e2b_server.api_key)
    left(e2b_server, tmp_path, monkeypatch)
    again = E2BRun(e2b_server, tmp_path, ticks(10, 0.1))
    report = again.finish()
    assert report.succeeded, report.error
    assert report["attempt"] == 2
    assert [sandbox.state for sandbox in e2b_server.sandboxes.values()] == ["gone", "gone"]


def test_a_line_that_is_lost_for_good_gives_nothing_up(
    e2b_server: E2BServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In mid-run, for longer than anybody waits: the worker goes on, and what it came to is had by an attach."""
    from adapters.e2b_cloud import sandbox as place

    monkeypatch.setattr(transfer, "PATIENCE_S", 1.0)
    monkeypatch.setattr(place, "PATIENCE_S", 1.0)
    run = E2BRun(e2b_server, tmp_path, ticks(60, 3.0), request_timeout_s=1)
    with run.under_way("metric"):
        e2b_server.faults.answer(r"process\.Process|GET /(files|health)", *BAD_GATEWAY, times=None)
        e2b_server.cut_streams()
    report = run.finish()
    assert (report.status, report.error["failure_class"]) == ("failed", "infra_lost")
    assert e2b_server.sandbox.state == "running"
    e2b_server.faults.clear()
    with AdapterFactory.create("e2b", **options(e2b_server)) as adapter:
        report = adapter.attach(run.session)
    assert report.succeeded, report.error
    assert run.numbers() == list(range(60))
    run.is_clean()


@pytest.mark.parametrize("keep", [False, True])
def test_a_life_that_ends_in_a_pause_goes_on(
    e2b_server: E2BServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: bool
) -> None:
    """With on_timeout: pause nothing is lost at the end of a sandbox's life: an attach wakes it up."""
    monkeypatch.setattr(lifetime, "LEASE_S", 3)
    monkeypatch.setattr(lifetime, "TOLERANCE_S", 0.5)
    e2b_server.policy.max_lifetime_s = 3
    run = E2BRun(e2b_server, tmp_path, ticks(60, 5.0), on_timeout="pause", keep=keep)
    report = run.finish()
    assert report.status == "failed"
    assert "paused" in report.error["message"]
    assert e2b_server.sandbox.state == "paused"
    assert f"{e2b_server.sandbox.sandbox_id} yet: osiris runs attach" in said(run)
    e2b_server.policy.max_lifetime_s = 60
    monkeypatch.setattr(lifetime, "LEASE_S", 60)
    with AdapterFactory.create("e2b", **options(e2b_server), on_timeout="pause") as adapter:
        report = adapter.attach(run.session)
    assert report.succeeded, report.error
    assert run.numbers() == list(range(60))
    run.is_clean()


def test_packing_that_is_cut_off_is_done_again(e2b_server: E2BServer, tmp_path: Path) -> None:
    """The worker could not pack, and the first command that does in its place is not heard of."""
    run = E2BRun(e2b_server, tmp_path, ticks(600, 60))
    with run.under_way("metric"):
        packing = e2b_server.faults.truncate("Process/Start$", at_byte=10)  # the next that starts is the one that packs
        (process,) = e2b_server.sandbox.running()
        os.kill(process.pid, signal.SIGKILL)
    run.failed("infra_lost")
    assert packing.hits == 1
    assert "pack" in run._report["e2b"]["requests"]
    assert run.names().count("step.start") == 1
