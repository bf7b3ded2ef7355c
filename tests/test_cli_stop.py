"""Stopping `osiris run` from outside: it leaves soon, with a true report and nothing behind it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

OSIRIS = [sys.executable, "-m", "osiris_core.cli.main"]

HEAVY = """
pipeline: heavy
steps:
  - id: compute
    driver: duckdb.processor
    config: {query: "SELECT sum(i % 7) AS s FROM range(100000000000) t(i)"}
"""

STUBBORN = """
import time


class Stubborn:
    def run(self, step_id, config, inputs, ctx):
        (ctx.artifacts_dir / "started").touch()
        while True:
            time.sleep(0.05)
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment with a driver that does not stop when it is asked to."""
    info = tmp_path / "site" / "fake-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fake\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[osiris.drivers]\nstubborn = fake_stubborn:Stubborn\n")
    (tmp_path / "site" / "fake_stubborn.py").write_text(STUBBORN)
    return {**os.environ, "PYTHONPATH": str(tmp_path / "site")}


def start(folder: Path, manifest: str, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """The command line with a manifest, with its first step under way on return."""
    (folder / "manifest.yaml").write_text(manifest)
    process = subprocess.Popen(
        [*OSIRIS, "run", "manifest.yaml", "--session-dir", "session", "--json"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: "step.start" in read(folder / "session" / "events.jsonl"))
    return process


def read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def wait_for(condition, bound_s: float = 30) -> None:
    deadline_s = time.monotonic() + bound_s
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_cancels_while_duckdb_computes(tmp_path: Path, number: signal.Signals) -> None:
    """The exit code is 130, report and status.json say cancelled and why, and the journal ends with run.error."""
    process = start(tmp_path, HEAVY)
    time.sleep(0.3)
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    report = json.loads(out)
    assert report == json.loads(read(tmp_path / "session" / "status.json"))
    assert report["status"] == "cancelled"
    assert number.name in report["error"]["message"]
    last = json.loads(read(tmp_path / "session" / "events.jsonl").splitlines()[-1])
    assert (last["event"], last["status"]) == ("run.error", "cancelled")
    assert "Traceback" not in err


def test_signal_reaches_the_whole_tree_of_a_command(tmp_path: Path) -> None:
    """What a command started in the background is gone when the command line is."""
    shell = "sleep 314 & echo $! > $OSIRIS_ARTIFACTS_DIR/pid; wait"
    manifest = f"{{pipeline: tree, steps: [{{id: tree, driver: command, config: {{shell: '{shell}'}}}}]}}"
    process = start(tmp_path, manifest)
    pid_file = tmp_path / "session" / "artifacts" / "tree" / "pid"
    wait_for(lambda: read(pid_file).strip())
    pid = int(read(pid_file))
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert not is_alive(pid)


def test_step_that_does_not_stop_is_left_behind(tmp_path: Path, environment: dict[str, str]) -> None:
    """After its grace the step is reported as abandoned, and the command line does not wait for its thread."""
    process = start(tmp_path, "{steps: [{id: wall, driver: stubborn}]}", environment)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=40)
    assert process.returncode == 130
    report = json.loads(out)
    assert report["status"] == "cancelled"
    assert report["steps"][0]["abandoned"] is True


def test_second_interrupt_leaves_at_once(tmp_path: Path, environment: dict[str, str]) -> None:
    """A second Ctrl-C ends the process within the step's grace, with a true status.json and no child behind."""
    shell = "trap : TERM; sleep 314 & echo $! > $OSIRIS_ARTIFACTS_DIR/pid; while :; do wait; done"
    manifest = (
        f"{{steps: [{{id: wall, driver: stubborn}}, {{id: tree, driver: command, config: {{shell: '{shell}'}}}}]}}"
    )
    process = start(tmp_path, manifest, environment)
    pid_file = tmp_path / "session" / "artifacts" / "tree" / "pid"
    wait_for(lambda: read(pid_file).strip())
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    while "stopping" not in (line := process.stderr.readline()):
        assert line
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "left at once" in err
    assert json.loads(out)["status"] == "cancelled"
    assert json.loads(read(tmp_path / "session" / "status.json"))["status"] == "cancelled"
    wait_for(lambda: not is_alive(int(read(pid_file))))


def test_second_interrupt_takes_daemons_along(tmp_path: Path) -> None:
    """Also what a command has put into a session of its own, below nobody, is gone when the process has left."""
    pid_file = tmp_path / "daemon"
    daemon = f"setsid sh -c 'trap \"\" TERM; echo $$ > {pid_file}; sleep 61' </dev/null >/dev/null 2>&1 &"
    command = f"({daemon}); trap '' TERM; sleep 62; sleep 63"
    manifest = json.dumps({"steps": [{"id": "a", "driver": "command", "config": {"shell": command}}]})
    process = start(tmp_path, manifest)
    wait_for(lambda: read(pid_file).strip())
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130
    wait_for(lambda: not Path(f"/proc/{pid_file.read_text().strip()}").exists(), bound_s=5)


def test_killed_run_is_interrupted_and_can_be_resumed(tmp_path: Path) -> None:
    """After a SIGKILL `runs list` does not believe the `running` that is left, and --resume goes on in that session."""
    process = start(tmp_path, HEAVY)
    listing = [*OSIRIS, "runs", "list", "--root", ".", "--json"]
    while_running = subprocess.run(listing, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=True)
    assert json.loads(while_running.stdout)[0]["status"] == "running"
    process.kill()
    process.communicate()
    after = subprocess.run(listing, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=True)
    assert json.loads(after.stdout)[0]["status"] == "interrupted"
    (tmp_path / "manifest.yaml").write_text(HEAVY.replace("100000000000", "10"))
    resumed = subprocess.run(
        [*OSIRIS, "run", "manifest.yaml", "--session-dir", "session", "--resume", "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert (json.loads(resumed.stdout)["status"], json.loads(resumed.stdout)["attempt"]) == ("completed", 2)


def test_torn_journal_is_followed_after_a_resume(tmp_path: Path) -> None:
    """What a crash left half-written in the journal disturbs neither the resumed run nor its progress lines."""
    process = start(tmp_path, HEAVY)
    process.kill()
    process.communicate()
    with (tmp_path / "session" / "events.jsonl").open("a") as journal:
        journal.write('{"v":1,"origin":"engine","attempt":1,"seq":2,"ts":"2026-')
    (tmp_path / "manifest.yaml").write_text(HEAVY.replace("100000000000", "10"))
    done = subprocess.run(
        [*OSIRIS, "run", "manifest.yaml", "--session-dir", "session", "--resume"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert "Traceback" not in done.stderr
    assert "compute  completed" in done.stderr


def test_busy_session_is_refused(tmp_path: Path) -> None:
    """A second run in the same session directory is bad input; the first goes on."""
    process = start(tmp_path, HEAVY)
    second = subprocess.run(
        [*OSIRIS, "run", "manifest.yaml", "--session-dir", "session"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert second.returncode == 2
    assert f"process {process.pid} is running" in second.stderr
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"
