"""What goes wrong between here and a sandbox: no event is lost or doubled, nothing is left, and the reason is said."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2b_run import SECRET, E2BRun, run_requests, ticks
from tests.worker_process import step, wait_for

pytest.importorskip("e2b", reason="the extra [e2b] is not installed")

from adapters.e2b_cloud import files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.e2b_server import E2BServer
    from tests.e2b_server.faults import Faults


def test_ten_cuts_lose_and_double_nothing(e2b_server: E2BServer, tmp_path: Path) -> None:
    """Streams are reset in mid-run, wherever they are; every event is there once, in order."""
    run = E2BRun(e2b_server, tmp_path, ticks(2000, 2.5))
    with run.under_way("metric"):
        for number in range(10):
            wait_for(lambda number=number: len(run.numbers()) > 60 + number * 120)  # type: ignore[misc]
            wait_for(e2b_server.cut_streams)
    run.completed()
    assert run.numbers() == list(range(2000))
    assert e2b_server.seen.count("reconnect") >= 10


def test_bytes_may_come_one_by_one(e2b_server: E2BServer, tmp_path: Path) -> None:
    """Characters, frames, envelopes and archives may be cut anywhere."""
    e2b_server.policy.piece_bytes = 1
    run = E2BRun(e2b_server, tmp_path, ticks(5, 0.05, text="naïve 漢字 🚢"))
    run.completed()
    tags = [event["tags"]["text"] for event in run.events() if event.get("name") == "number"]
    assert tags == ["naïve 漢字 🚢"] * 5
    assert (run.session / "artifacts/work/ticked").read_text() == "5"


def test_a_new_edge_in_mid_run_is_survived(e2b_server: E2BServer, tmp_path: Path) -> None:
    """Everything is reset and for a while nobody answers; the worker goes on, and all of it comes home."""
    run = E2BRun(e2b_server, tmp_path, ticks())
    with run.under_way("metric"):
        e2b_server.restart(down_s=0.7)
    run.completed()
    assert run.numbers() == list(range(60))


def test_a_silent_stream_is_noticed(e2b_server: E2BServer, tmp_path: Path) -> None:
    """It is open and nothing comes, not even an end: another one is opened, and what was missed is sent again."""
    stall = e2b_server.faults.stall("Process/Start", at_byte=6_000)
    run = E2BRun(e2b_server, tmp_path, ticks(60, 2.0))
    started_s = time.monotonic()
    run.completed()
    assert stall.hits == 1
    assert run.numbers() == list(range(60))
    assert time.monotonic() - started_s < 25


@pytest.mark.parametrize(
    "fault",
    [
        lambda faults: faults.drop_end("Process/Start"),
        lambda faults: faults.end_early("Process/Start", after_events=4),
        lambda faults: faults.end_early("Process/Start", after_events=4, code="canceled"),
        lambda faults: faults.truncate("Process/Start", at_byte=5_001),
    ],
    ids=["no end", "unavailable", "cancelled", "truncated"],
)
def test_a_stream_that_ends_oddly_is_taken_up(
    e2b_server: E2BServer, tmp_path: Path, fault: Callable[[Faults], Any]
) -> None:
    """Whatever its end says, it is the process that counts."""
    rule = fault(e2b_server.faults)
    run = E2BRun(e2b_server, tmp_path, ticks(30, 0.3))
    run.completed()
    assert rule.hits == 1
    assert run.numbers() == list(range(30))


def test_keepalives_and_a_noisy_shell_are_no_events(e2b_server: E2BServer, tmp_path: Path) -> None:
    """What the wire and the login shell say for themselves disturbs nothing."""
    e2b_server.policy.keepalive_s = 0.02
    e2b_server.policy.profile_noise = 'Welcome! {"jsonrpc": "2.0"}'
    run = E2BRun(e2b_server, tmp_path, ticks(20, 0.5))
    run.completed()
    assert run.numbers() == list(range(20))
    assert run_requests(e2b_server) == ["create", "start", "stdin", "download", "kill"]


def test_much_output_comes_home(e2b_server: E2BServer, tmp_path: Path) -> None:
    """More than the 11 MB at which an unread stream stalls."""
    run = E2BRun(e2b_server, tmp_path, step("Emit", config={"count": 2000, "pad": 8000}))
    run.completed()
    assert run.numbers() == list(range(2000))
    assert sum(request.down_bytes for request in e2b_server.seen.of_kind("start")) > 11e6


def test_a_ghost_of_a_pause_is_outlived(e2b_server: E2BServer, tmp_path: Path) -> None:
    """After a pause the process's output is swallowed by a stream nobody reads: results come by file all the same."""
    run = E2BRun(e2b_server, tmp_path, ticks(400, 1.5))
    with run.under_way("metric"):
        e2b_server.haunt(e2b_server.sandbox.sandbox_id)
    run.completed()
    assert run.numbers() == list(range(400))


def test_a_stream_that_speaks_again_is_taken(
    e2b_server: E2BServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are read only as long as the ghost is there: each look at them is a request."""
    monkeypatch.setattr(files, "STREAM_INTERVAL_S", 1.0)
    run = E2BRun(e2b_server, tmp_path, ticks(400, 25.0))
    with run.under_way("metric"):
        e2b_server.haunt(e2b_server.sandbox.sandbox_id)
        wait_for(lambda: e2b_server.seen.of_kind("start")[1:])
        e2b_server.cut_streams()
        wait_for(lambda: reads_nothing(e2b_server))
    run.completed()
    assert run.numbers() == list(range(400))


def reads_nothing(server: E2BServer) -> bool:
    """Whether no file was looked at for a while: each look is a process."""
    before = server.seen.count("start")
    time.sleep(1.5)
    return server.seen.count("start") == before


def test_a_pause_from_outside_is_told(e2b_server: E2BServer, tmp_path: Path) -> None:
    """A sandbox that somebody paused does not pass for one that runs; it is killed as ever."""
    run = E2BRun(e2b_server, tmp_path, ticks(600, 60))
    with run.under_way("metric"):
        e2b_server.pause(e2b_server.sandbox.sandbox_id)
    run.failed("infra_lost", "paused")


@pytest.mark.parametrize("kill_mode", ["reset", "end"])
def test_a_sandbox_that_is_lost_is_told(e2b_server: E2BServer, tmp_path: Path, kill_mode: Any) -> None:
    """Soon, as what it is; what came before is there."""
    e2b_server.policy.kill_mode = kill_mode
    run = E2BRun(e2b_server, tmp_path, ticks(600, 60))
    with run.under_way("metric"):
        e2b_server.lose(e2b_server.sandbox.sandbox_id)
        lost_s = time.monotonic()
    assert time.monotonic() - lost_s < 10
    run.failed("infra_lost", "sandbox")
    assert run.numbers()
    assert run.events("host")[-1]["event"] == "run.error"


def test_a_worker_that_is_killed_is_told(e2b_server: E2BServer, tmp_path: Path) -> None:
    """Also when its exit code is not kept, as with an old envd."""
    e2b_server.policy.envd_version = "0.5.9"
    run = E2BRun(e2b_server, tmp_path, ticks(600, 60))
    with run.under_way("metric"):
        (process,) = e2b_server.sandbox.running()
        e2b_server.cut_streams()
        os.kill(process.pid, signal.SIGKILL)
    run.failed("infra_lost")


def test_an_end_during_an_outage_is_an_end(e2b_server: E2BServer, tmp_path: Path) -> None:
    """The worker is done and its exit code is gone when the line is back; its results are not."""
    e2b_server.policy.exit_kept_s = 0.0
    run = E2BRun(e2b_server, tmp_path, ticks(10, 0.5), unattended_timeout_s=1.0)
    with run.under_way("metric"):
        e2b_server.restart(down_s=3.0)
    run.completed()
    assert run.numbers() == list(range(10))


def test_a_cancel_in_silence_takes_effect(e2b_server: E2BServer, tmp_path: Path) -> None:
    """A create that is never answered holds nobody up, and the sandbox that it made is found and killed."""
    hang = e2b_server.faults.hang_answer("POST /v2/sandboxes$")
    run = E2BRun(e2b_server, tmp_path, ticks())
    run._thread.start()
    wait_for(lambda: hang.hits == 1 and e2b_server.sandboxes)
    time.sleep(0.3)
    started_s = time.monotonic()
    run.adapter.cancel("enough")
    report = run.finish()
    assert time.monotonic() - started_s < 12
    assert report["status"] == "cancelled"
    run.is_clean()


@pytest.mark.parametrize("silent", ["nothing", "Process/Start$", "the stream"])
def test_ctrl_c_works_at_once(e2b_server: E2BServer, tmp_path: Path, silent: str) -> None:
    """In mid-run, and while the far end says nothing: the command line ends, and the sandbox with it."""
    if silent == "Process/Start$":
        e2b_server.faults.hang_answer(silent)
    elif silent == "the stream":
        e2b_server.faults.stall("Process/Start$", at_byte=4_000)
    manifest = {"pipeline": "p", "steps": [{"id": "a", "driver": "command", "config": {"argv": ["sleep", "60"]}}]}
    (tmp_path / "m.json").write_text(json.dumps(manifest))
    (tmp_path / "c.json").write_text(json.dumps({"template": "osiris-ready"}))
    line = ["run", "m.json", "--adapter", "e2b", "--config", "c.json", "--session-dir", "s"]
    said = tmp_path / "said"
    with said.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "osiris_core.cli.main", *line],
            cwd=tmp_path,
            env={**os.environ, **e2b_server.environment()},
            stdout=file,
            stderr=file,
        )
    try:
        wait_for(lambda: e2b_server.seen.count("start") or process.poll() is not None, 45)
        assert process.poll() is None, said.read_text()
        time.sleep(0.7)
        started_s = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    finally:
        process.kill()
        process.wait()
    assert time.monotonic() - started_s < (5 if silent == "nothing" else 15)
    assert e2b_server.sandbox.state == "gone"
    assert e2b_server.sandbox.living() == []


def test_the_run_says_what_travelled(e2b_server: E2BServer, tmp_path: Path) -> None:
    """Requests as the server counted them; a secret is in none but the worker's own input, also while it runs."""
    run = E2BRun(e2b_server, tmp_path, *(step("Write", f"s{number}") for number in range(12)), ticks(20, 0.6))
    with run.under_way("metric"):
        assert e2b_server.places_of(SECRET) == []
        assert e2b_server.places_of(e2b_server.api_key) == []
        (message,) = e2b_server.seen.of_kind("stdin")
        assert SECRET.encode() in base64.b64decode(json.loads(message.body)["input"]["stdin"])
    run.completed()
    assert run_requests(e2b_server) == ["create", "start", "stdin", "download", "kill"]
