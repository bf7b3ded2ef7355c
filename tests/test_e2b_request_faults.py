"""A single request to E2B fails or is never answered: it is made good, and done once."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2b_run import E2BRun, ticks

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
