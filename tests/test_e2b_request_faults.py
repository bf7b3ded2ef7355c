"""A single request to E2B fails or is never answered: it is made good, and done once."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from osiris_core.session import read_json
from tests.e2b_run import E2BRun, ticks
from tests.worker_process import wait_for

pytest.importorskip("e2b", reason="the extra [e2b] is not installed")

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.e2b_server import E2BServer
    from tests.e2b_server.faults import Faults


@pytest.mark.parametrize(
    "fault",
    [
        lambda faults: faults.lose_answer("POST /v2/sandboxes$"),
        lambda faults: faults.refuse("POST /v2/sandboxes$"),
        lambda faults: faults.answer("POST /v2/sandboxes$", 503, {"code": 503, "message": "busy"}),
        lambda faults: faults.answer("POST /v2/sandboxes$", 429, {"code": 429, "message": "x"}, {"Retry-After": "1"}),
        lambda faults: faults.lose_answer("Process/Start$"),
        lambda faults: faults.refuse("Process/Start$"),
        lambda faults: faults.truncate("Process/Start$", at_byte=10),
        lambda faults: faults.lose_answer("Process/SendInput$"),
        lambda faults: faults.refuse("Process/SendInput$"),
        lambda faults: faults.answer("Process/SendInput$", 429, {"code": "resource_exhausted", "message": "x"}),
        lambda faults: faults.cut("GET /files", at_byte=100),
        lambda faults: faults.truncate("GET /files", at_byte=100),
        lambda faults: faults.answer("GET /files", 502, "<html>bad gateway</html>"),
        lambda faults: faults.lose_answer("DELETE /sandboxes/"),
        lambda faults: faults.answer("DELETE /sandboxes/", 500, {"code": 500, "message": "oops"}),
        lambda faults: faults.answer("DELETE /sandboxes/", 500, "oops"),
        lambda faults: faults.answer("DELETE /sandboxes/", 520, "<html>a timeout occurred</html>"),
        lambda faults: faults.answer("DELETE /sandboxes/", 404, "<html>who?</html>"),
        lambda faults: faults.answer("POST /v2/sandboxes$", 520, "<html>a timeout occurred</html>"),
        lambda faults: faults.answer("POST /v2/sandboxes$", 500, "<html>oops</html>"),
    ],
    ids=[
        "create lost",
        "create refused",
        "create busy",
        "create limited",
        "start lost",
        "start refused",
        "start truncated",
        "stdin lost",
        "stdin refused",
        "stdin limited",
        "download cut",
        "download truncated",
        "download 502",
        "kill lost",
        "kill failed",
        "kill unreadable",
        "kill 520",
        "kill by a stranger",
        "create 520",
        "create unreadable",
    ],
)
def test_one_request_that_fails_is_made_good(
    e2b_server: E2BServer, tmp_path: Path, fault: Callable[[Faults], Any]
) -> None:
    """Found again, asked again or asked about: one sandbox, one worker, one run of the step."""
    rule = fault(e2b_server.faults)
    run = E2BRun(e2b_server, tmp_path, ticks(10, 0.1))
    run.completed()
    assert rule.hits == 1
    assert run.numbers() == list(range(10))
    assert (run.session / "artifacts/work/ticked").read_text() == "10"
    assert len(e2b_server.sandboxes) == 1
    assert run.names().count("step.start") == 1


@pytest.mark.parametrize(
    ("request_line", "is_done"),
    [
        ("POST /v2/sandboxes$", True),
        ("Process/Start$", False),
        ("Process/Start$", True),
        ("Process/SendInput$", False),
        ("Process/SendInput$", True),
        ("GET /files", False),
        ("DELETE /sandboxes/", False),
    ],
)
def test_one_request_that_is_never_answered_is_made_good(
    e2b_server: E2BServer, tmp_path: Path, request_line: str, is_done: bool
) -> None:
    """Whether it was carried out or not; nobody waits for longer than the configuration says."""
    rule = (e2b_server.faults.hang_answer if is_done else e2b_server.faults.hang)(request_line)
    run = E2BRun(e2b_server, tmp_path, ticks(10, 0.1), request_timeout_s=1)
    started_s = time.monotonic()
    run.completed()
    assert rule.hits == 1
    assert run.numbers() == list(range(10))
    assert len(e2b_server.sandboxes) == 1
    assert run.names().count("step.start") == 1
    assert time.monotonic() - started_s < 25


def test_a_sandbox_that_is_listed_late_is_found(e2b_server: E2BServer, tmp_path: Path) -> None:
    """The answer was lost, and the run cancelled before the sandbox is listed: it is looked for until it would be."""
    e2b_server.policy.list_lag_s = 3.0
    e2b_server.faults.lose_answer("POST /v2/sandboxes$")
    run = E2BRun(e2b_server, tmp_path, ticks())
    run._thread.start()
    wait_for(lambda: e2b_server.seen.count("list"))
    run.adapter.cancel("enough")
    assert run.finish().status == "cancelled"
    assert len(e2b_server.sandboxes) == 1
    run.is_clean()


def test_its_id_is_known_as_soon_as_it_is(e2b_server: E2BServer, tmp_path: Path) -> None:
    """Before anything else is asked of a sandbox, also where packages are installed in it first."""
    ready = e2b_server.templates.find("osiris-ready")
    assert ready is not None
    e2b_server.templates.ready.append(replace(ready, name="base"))
    installing = e2b_server.faults.hang("Process/Start$")
    run = E2BRun(e2b_server, tmp_path, ticks(), template=None)
    run._thread.start()
    wait_for(lambda: installing.hits)
    assert (read_json(run.session / "run.json") or {})["native_id"] == e2b_server.sandbox.sandbox_id
    run.adapter.cancel("enough")
    assert run.finish().status == "cancelled"
    run.is_clean()


def test_a_line_that_flaps_is_followed(e2b_server: E2BServer, tmp_path: Path) -> None:
    """Six streams in a row break as soon as they are open: that is no silence, and the next one is taken."""
    run = E2BRun(e2b_server, tmp_path, ticks(4, 6.0))
    with run.under_way("metric"):
        flaps = e2b_server.faults.cut("Process/Connect$", at_byte=60, times=6)
        e2b_server.cut_streams()
    report = run.completed()
    assert flaps.hits == 6
    assert "read" not in report["e2b"]["requests"]
    assert run.numbers() == list(range(4))


def test_a_download_that_falls_silent_is_taken_up(e2b_server: E2BServer, tmp_path: Path) -> None:
    """In the middle, with the connection open."""
    stall = e2b_server.faults.stall("GET /files", at_byte=100)
    run = E2BRun(e2b_server, tmp_path, ticks(10, 0.1), request_timeout_s=1)
    run.completed()
    assert stall.hits == 1


def big_input(folder: Path, size_bytes: int = 3_000_000) -> dict[str, Any]:
    lines = size_bytes // 10
    (folder / "in.csv").write_text("a,b\n" + "".join(f"{number % 1000:04d},abcd\n" for number in range(lines)))
    return {"id": "work", "driver": "filesystem.csv_extractor", "config": {"path": str(folder / "in.csv")}}


@pytest.mark.parametrize(
    "fault",
    [
        lambda faults: faults.cut_upload("POST /files", at_byte=500_000),
        lambda faults: faults.lose_answer("POST /files"),
        lambda faults: faults.hang("POST /files"),
    ],
    ids=["cut", "lost", "never answered"],
)
def test_an_upload_that_fails_is_sent_again(
    e2b_server: E2BServer, tmp_path: Path, fault: Callable[[Faults], Any]
) -> None:
    """Whole: what came of the first one does not pass for the package."""
    rule = fault(e2b_server.faults)
    run = E2BRun(e2b_server, tmp_path, big_input(tmp_path), request_timeout_s=1)
    report = run.completed()
    assert rule.hits == 1
    assert report["metrics"]["rows_written"] == 300_000
    assert e2b_server.seen.count("upload") == 2


def test_a_full_disk_is_named(e2b_server: E2BServer, tmp_path: Path) -> None:
    """With what to do about it."""
    e2b_server.policy.disk_bytes = 1_000_000
    E2BRun(e2b_server, tmp_path, big_input(tmp_path)).failed("resource_denied", "space")
