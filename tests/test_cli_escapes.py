"""What commands print and manifests call themselves is shown on a terminal, and does nothing to it."""

import json
import os
import pty
import re
import select
import subprocess
import sys
from pathlib import Path

import pytest

OSIRIS = [sys.executable, "-m", "osiris_core.cli.main"]
MANIFEST = r"""
pipeline: "shop\e]0;pwned\a\e[2J\u009b2J"
steps:
  - id: say
    driver: command
    config:
      argv: [sh, -c, "printf '%s\\n' \"$1\" >&2; exit 3", sh, "oh\e]0;pwned\a\e[2Jno"]
"""
SHOWN = "\\x1b]0;pwned\\x07\\x1b[2J"
HARMFUL = re.compile("\x1b\\]|\x1b\\[2J|\x07|\x9b")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "manifest.yaml").write_text(MANIFEST)
    return tmp_path


def on_a_terminal(folder: Path, *args: str) -> str:
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": "xterm"}
    process = subprocess.Popen([*OSIRIS, *args], cwd=folder, env=environment, stdout=follower, stderr=follower)
    os.close(follower)
    seen = b""
    while select.select([leader], [], [], 30)[0]:
        try:
            data = os.read(leader, 65536)
        except OSError:
            break
        seen += data
    os.close(leader)
    process.wait(30)
    return seen.decode()


def test_escapes_of_others_are_shown(folder: Path) -> None:
    """In the live view, the summary, logs, plans and looks back: as text, on a terminal and in a pipe."""
    run = ("run", "manifest.yaml", "--session-dir", "s")
    again = ("run", "manifest.yaml", "--session-dir", "v", "-v")
    for args in (run, again, ("runs", "show", "s"), ("plan", "manifest.yaml"), ("run", "manifest.yaml", "--json")):
        seen = on_a_terminal(folder, *args)
        assert "shop" in seen
        assert not HARMFUL.search(seen), (args, HARMFUL.findall(seen))
    for args in (run, again, ("runs", "show", "s")):
        done = subprocess.run([*OSIRIS, *args], cwd=folder, capture_output=True, text=True, timeout=50, check=False)
        assert f"oh{SHOWN}no" in done.stdout + done.stderr
        assert not HARMFUL.search(done.stdout + done.stderr)


def test_json_keeps_every_character(folder: Path) -> None:
    """Escaped as JSON does it, so that a reader gets what was written."""
    command = [*OSIRIS, "run", "manifest.yaml", "--json", "-v", "--log-format", "json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=50, check=False)
    assert not HARMFUL.search(done.stdout + done.stderr)
    assert json.loads(done.stdout)["pipeline"] == "shop\x1b]0;pwned\x07\x1b[2J\x9b2J"
    logged = [json.loads(line) for line in done.stderr.splitlines()]
    assert any("oh\x1b]0;pwned" in str(value) for line in logged for value in line.values())
