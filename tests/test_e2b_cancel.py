"""E2B does not answer while a run is cancelled, or is being freed: nobody waits for longer than is said."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2b_run import E2BRun, options, said, ticks
from tests.worker_process import step, wait_for

pytest.importorskip("e2b", reason="the extra [e2b] is not installed")

from adapters.e2b_cloud import sandbox, transfer
from osiris_core import AdapterFactory

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2b_server import E2BServer


def cancelled(run: E2BRun, bound_s: float) -> Any:
    """Its report, when it is cancelled now."""
    time.sleep(0.3)
    started_s = time.monotonic()
    run.adapter.cancel("enough")
    report = run.finish(bound_s)
    assert time.monotonic() - started_s < bound_s
    assert report.status == "cancelled"
    return report


def test_a_cancel_is_heard_while_the_order_is_given(e2b_server: E2BServer, tmp_path: Path) -> None:
    """The worker's input takes nothing, and does not say so."""
    silent = e2b_server.faults.hang("Process/SendInput$", times=None)
    run = E2BRun(e2b_server, tmp_path, ticks(600, 60))
    run._thread.start()
    wait_for(lambda: silent.hits)
    cancelled(run, 12)
    run.is_clean()


@pytest.mark.parametrize("silent", ["Process/Connect$", "Process/(Connect|List)$", "Process/"])
def test_a_cancel_is_heard_while_a_new_stream_is_opened(e2b_server: E2BServer, tmp_path: Path, silent: str) -> None:
    """The old one broke, and nobody answers to another one."""
    run = E2BRun(e2b_server, tmp_path, ticks(600, 60))
    run._thread.start()
    wait_for(lambda: "metric" in run.names())
    rule = e2b_server.faults.hang(silent, times=None)
    e2b_server.cut_streams()
    wait_for(lambda: rule.hits)
    cancelled(run, 20)
    run.is_clean()


@pytest.mark.timeout(120)
def test_a_cancel_is_heard_when_nothing_is_answered(e2b_server: E2BServer, tmp_path: Path) -> None:
    """The run ends; that its sandbox may live, and what removes it, is said."""
    run = E2BRun(e2b_server, tmp_path, ticks(600, 60))
    run._thread.start()
    wait_for(lambda: "metric" in run.names())
    rule = e2b_server.faults.hang(".", times=None)
    e2b_server.cut_streams()
    wait_for(lambda: rule.hits)
    cancelled(run, 40)
    assert "osiris runs gc removes it later" in said(run)


def test_a_cancel_is_heard_while_results_are_fetched(e2b_server: E2BServer, tmp_path: Path) -> None:
    """Nobody wants them then: the sandbox is not left for their sake."""
    rule = e2b_server.faults.hang("GET /files", times=None)
    run = E2BRun(e2b_server, tmp_path, ticks(10, 0.1))
    run._thread.start()
    wait_for(lambda: rule.hits)
    cancelled(run, 12)
    run.is_clean()


def test_an_attach_that_cancels_does(e2b_server: E2BServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over a slow line, too: the run is cancelled from the start, and what ends it is waited for all the same."""
    monkeypatch.setattr(transfer, "PATIENCE_S", 1.0)
    monkeypatch.setattr(sandbox, "PATIENCE_S", 1.0)
    run = E2BRun(e2b_server, tmp_path, ticks(600, 60), request_timeout_s=1)
    with run.under_way("metric"):
        e2b_server.faults.answer(r"process\.Process|GET /(files|health)", 502, "<html>", times=None)
        e2b_server.cut_streams()
    assert run.finish().error["failure_class"] == "infra_lost"
    e2b_server.faults.clear()
    e2b_server.policy.latency_s = 0.2
    with AdapterFactory.create("e2b", **options(e2b_server)) as adapter:
        report = adapter.attach(run.session, cancel="enough")
    assert report.status == "cancelled"
    assert report["steps"][0]["status"] == "cancelled"
    run.is_clean()


def test_a_kill_that_is_not_answered_is_waited_for_half_a_minute(e2b_server: E2BServer, tmp_path: Path) -> None:
    """And no longer, whatever a request may take otherwise."""
    e2b_server.faults.hang("DELETE /sandboxes/", times=None)
    run = E2BRun(e2b_server, tmp_path, step("Write"))
    started_s = time.monotonic()
    report = run.finish()
    assert report.succeeded, report.error
    assert time.monotonic() - started_s < 40
    assert "osiris runs gc removes it later" in said(run)
