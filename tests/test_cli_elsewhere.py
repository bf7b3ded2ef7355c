"""The command line around runs that happen elsewhere: debugging, tracing, and what a killed controller leaves."""

import json
import os
import pty
import select
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

OSIRIS = [sys.executable, "-m", "osiris_core.cli.main"]
SLOW = """
pipeline: slow
steps:
  - id: wait
    driver: command
    config: {shell: "sleep 300 & setsid sleep 301 & wait"}
"""
NUMBERS = """
pipeline: numbers
steps:
  - id: first
    driver: "numbers_driver:Numbers"
  - id: second
    driver: "numbers_driver:Numbers"
    needs: [first]
    timeout_s: 1
"""
DRIVER = """
class Numbers:
    def run(self, step_id, config, inputs, ctx):
        answer = 40
        ctx.log(f"the answer is {answer}")
        return {"n": answer}
"""


def read_until(fd: int, wanted: str, timeout_s: float = 30.0) -> str:
    text = ""
    deadline_s = time.monotonic() + timeout_s
    while wanted not in text:
        assert time.monotonic() < deadline_s, text
        if select.select([fd], [], [], 0.1)[0]:
            try:
                text += os.read(fd, 4096).decode(errors="replace")
            except OSError:
                break
    return text


def test_a_step_is_debugged_on_the_terminal(tmp_path: Path) -> None:
    """`--debug-step` stops at the first line of that step's driver, lets its values be changed, and knows no limit."""
    (tmp_path / "m.yaml").write_text(NUMBERS)
    (tmp_path / "numbers_driver.py").write_text(DRIVER)
    (tmp_path / "local.yaml").write_text("type: local\ncode: [numbers_driver.py]\n")
    command = [*OSIRIS, "run", "m.yaml", "--config", "local.yaml", "--debug-step", "second", "--session-dir", "s"]
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.execv(command[0], command)
    read_until(fd, "(Pdb)")
    time.sleep(1.2)  # longer than the step's own limit
    os.write(fd, b"next\n")
    read_until(fd, "(Pdb)")
    os.write(fd, b"answer = 42\n")
    read_until(fd, "(Pdb)")
    os.write(fd, b"continue\n")
    read_until(fd, "completed  numbers")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert "the answer is 42" in (tmp_path / "s" / "events.jsonl").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--debug-step", "first"], "needs a terminal"),
    ],
)
def test_debugging_without_a_terminal_is_refused(tmp_path: Path, options: list[str], message: str) -> None:
    """A debugger that nobody can type to is not started."""
    (tmp_path / "m.yaml").write_text(SLOW)
    done = subprocess.run(
        [*OSIRIS, "run", "m.yaml", *options],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert message in done.stderr


def test_debugging_is_refused_where_the_terminal_is_not(tmp_path: Path) -> None:
    """A step that runs in another process, or that there is not, cannot be debugged; nothing is started."""
    from osiris_core import AdapterFactory, ExecutionContext, PreparationError

    manifest = {"steps": [{"id": "wait", "driver": "command", "config": {"argv": ["true"]}}]}
    with pytest.raises(PreparationError, match="not on adapter 'process'"):
        AdapterFactory.create("process").run(
            manifest, ExecutionContext(session_dir=str(tmp_path / "a"), debug_step="wait")
        )
    with pytest.raises(PreparationError, match="there is no step 'wate'"):
        AdapterFactory.create("local").run(
            manifest, ExecutionContext(session_dir=str(tmp_path / "b"), debug_step="wate")
        )
    assert list(tmp_path.iterdir()) == []


def test_the_messages_of_a_run_can_be_looked_at(tmp_path: Path) -> None:
    """`--trace-rpc` writes every message in order, and no value of a secret."""
    (tmp_path / "m.yaml").write_text(
        'steps: [{id: a, driver: command, config: {shell: "echo $TOKEN", env: {TOKEN: "${TOKEN}"}}}]'
    )
    command = [*OSIRIS, "run", "m.yaml", "--adapter", "process", "--trace-rpc", "rpc.jsonl", "--env", "TOKEN", "--json"]
    secret = "correct-horse-battery"
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "TOKEN": secret}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["environment"] == "process"
    lines = [json.loads(line) for line in (tmp_path / "rpc.jsonl").read_text().splitlines()]
    methods = [line["message"].get("method") for line in lines]
    assert methods[0] == "hello"
    assert methods[1] == "start"
    assert lines[1]["message"]["params"]["secrets"] == {"TOKEN": "***"}
    assert "event" in methods
    assert "get_summary" in methods
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or secret.encode() not in file.read_bytes(), file


def test_what_a_killed_controller_left_is_found_and_removed(tmp_path: Path) -> None:
    """After kill -9 the worker goes on; `runs gc` ends it with everything below it, and removes its folder."""
    (tmp_path / "m.yaml").write_text(SLOW)
    controller = subprocess.Popen(
        [*OSIRIS, "run", "m.yaml", "--adapter", "process", "--session-dir", ".osiris/sessions/slow"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    session = tmp_path / ".osiris" / "sessions" / "slow"
    deadline_s = time.monotonic() + 30
    while len(sleepers := named_sleep(("300", "301"))) < 2:
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    listed = run_gc(tmp_path, "--dry-run")
    assert listed["leftovers"] == []  # its owner lives
    controller.send_signal(signal.SIGKILL)
    controller.wait()
    listed = run_gc(tmp_path, "--dry-run")
    assert [item["is_running"] for item in listed["leftovers"]] == [True]
    assert all(process.is_running() for process in sleepers)
    removed = run_gc(tmp_path)
    assert [item["state"] for item in removed["leftovers"]] == ["removed"]
    assert not any(process.is_running() for process in sleepers)
    assert not list(session.glob("process-*"))
    assert (session / "events.jsonl").exists()
    assert run_gc(tmp_path)["leftovers"] == []


def named_sleep(durations: tuple[str, ...]) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if line[:1] == ["sleep"] and line[1:] and line[1] in durations:
            found.append(process)
    return found


def run_gc(folder: Path, *options: str) -> dict:
    command = [*OSIRIS, "runs", "gc", "--adapter", "process", "--json", *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_command_that_removes_a_kept_folder(tmp_path: Path) -> None:
    """It is told as it has to be typed, wherever the session is."""
    (tmp_path / "m.yaml").write_text("steps: [{id: c, driver: command, config: {shell: 'true'}}]")
    (tmp_path / "process.yaml").write_text("type: process\nkeep: true\n")
    args = [*OSIRIS, "run", "m.yaml", "--config", "process.yaml", "--session-dir", "my runs/s"]
    done = subprocess.run(args, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    assert done.returncode == 0
    events = [json.loads(line) for line in (tmp_path / "my runs" / "s" / "events.jsonl").read_text().splitlines()]
    (told,) = [event["message"] for event in events if "was kept" in event.get("message", "")]
    (folder,) = (tmp_path / "my runs" / "s").glob("process-*")
    command = told.partition("(osiris ")[2].removesuffix(" removes it)")
    again = [*OSIRIS, *shlex.split(command), "--adapter", "process"]
    subprocess.run(again, cwd=tmp_path, capture_output=True, timeout=60, check=True)
    assert not folder.exists()
