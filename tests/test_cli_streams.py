"""What goes to which stream of `osiris run`, whatever the streams are: pipes, a terminal, closed, full."""

import json
import os
import pty
import select
import subprocess
import sys
from pathlib import Path

import pytest

from osiris_core.cli.live_view import visible_steps
from osiris_core.cli.progress import StepState

OSIRIS = [sys.executable, "-m", "osiris_core.cli.main"]

NUMBERS = """
pipeline: numbers
params: {count: 1000}
steps:
  - id: make
    driver: duckdb.processor
    config: {query: "SELECT i FROM range(${params.count}) t(i) ORDER BY i", threads: 1}
  - id: write
    driver: filesystem.parquet_writer
    inputs: {df: make}
    config: {path: out/numbers.parquet}
"""

PLUGINS = """
import ctypes, os, time


class Noisy:
    def run(self, step_id, config, inputs, ctx):
        print("printed by python")
        os.write(1, b"written by os\\n")
        ctypes.CDLL(None).puts(b"printed by c")
        os.system("echo printed by a child")
        ctx.log("look out", level="warning")


class Slow:
    def run(self, step_id, config, inputs, ctx):
        ctx.progress(3, 12)
        time.sleep(0.5)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "manifest.yaml").write_text(NUMBERS)
    return tmp_path


@pytest.fixture
def environment(folder: Path) -> dict[str, str]:
    """An environment in which a distribution with drivers is installed."""
    info = folder / "site" / "fake-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fake\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[osiris.drivers]\nnoisy = fake_plugins:Noisy\nslow = fake_plugins:Slow\n")
    (folder / "site" / "fake_plugins.py").write_text(PLUGINS)
    clean = {name: value for name, value in os.environ.items() if name not in ("OSIRIS_HOME", "PYTHONUNBUFFERED")}
    return {**clean, "PYTHONPATH": str(folder / "site"), "TERM": "xterm"}


def one_step(folder: Path, driver: str) -> str:
    (folder / f"{driver}.yaml").write_text(f"{{pipeline: {driver}, steps: [{{id: only-step, driver: {driver}}}]}}")
    return f"{driver}.yaml"


def test_what_drivers_print_stays_out_of_the_result(folder: Path, environment: dict[str, str]) -> None:
    """Prints of Python, of C and of children land on stderr, and --json stays one document."""
    command = [*OSIRIS, "run", one_step(folder, "noisy"), "--json"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=50, check=True)
    assert json.loads(done.stdout)["status"] == "completed"
    for text in ("printed by python", "written by os", "printed by c", "printed by a child", "warning: look out"):
        assert text in done.stderr


def test_terminal_shows_a_live_view(folder: Path, environment: dict[str, str]) -> None:
    """On a terminal the steps are rows that are redrawn, with state and progress, and the cursor comes back."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [*OSIRIS, "run", one_step(folder, "slow")], cwd=folder, env=environment, stdout=follower, stderr=follower
    )
    os.close(follower)
    seen = b""
    while select.select([leader], [], [], 30)[0]:
        try:
            data = os.read(leader, 65536)
        except OSError:
            break
        if not data:
            break
        seen += data
    os.close(leader)
    assert process.wait(30) == 0
    text = seen.decode()
    assert text.index("only-step") < text.index("\x1b[?25h")
    assert "running" in text
    assert "3 of 12 rows (25%)" in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
    assert "session" in text.partition("\x1b[?25h")[2]


def test_view_of_many_steps_fits_the_screen() -> None:
    """Of more steps than lines, what runs and what failed stays visible, in the manifest's order."""
    steps = [StepState(f"step-{number}", "completed") for number in range(500)]
    steps += [StepState(f"step-{number}") for number in range(500, 1000)]
    steps[3].status, steps[500].status, steps[900].status = "failed", "running", "running"
    shown = [step.step_id for step in visible_steps(steps, 20)]
    assert len(shown) == 20
    assert {"step-3", "step-499", "step-500", "step-501", "step-900"} <= set(shown)
    assert shown == sorted(shown, key=lambda name: int(name.partition("-")[2]))


@pytest.mark.parametrize("redirection", ["| true", ">&-", ">&- 2>&-", "2>&-"])
def test_closed_streams_are_no_traceback(folder: Path, redirection: str) -> None:
    """A reader that left, or a stream that was never there, changes neither the run nor its exit code."""
    script = f'"$@" {redirection}; exit ${{PIPESTATUS[0]}}'
    command = ["bash", "-c", script, "bash", *OSIRIS, "run", "manifest.yaml", "--json", "--session-dir", "session"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    if redirection == "2>&-":
        assert json.loads(done.stdout)["status"] == "completed"
    assert json.loads((folder / "session" / "status.json").read_text())["status"] == "completed"


def test_result_on_a_full_disk_is_said(folder: Path) -> None:
    """A result that cannot be written is a message and exit code 1, not a traceback."""
    command = ["bash", "-c", '"$@" >/dev/full', "bash", *OSIRIS, "run", "manifest.yaml"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 1
    assert "the result cannot be written" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("limit_kib", "code"), [(1, 2), (3, 1)])
def test_session_that_cannot_be_written_is_said(folder: Path, limit_kib: int, code: int) -> None:
    """A disk that is full before or while the run is written down is a message, not a traceback."""
    script = f'ulimit -f {limit_kib}; "$@"'
    command = ["bash", "-c", script, "bash", *OSIRIS, "run", "manifest.yaml", "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
    assert "File too large" in done.stderr
    assert json.loads(done.stdout)["status"] == ("invalid" if code == 2 else "failed")
