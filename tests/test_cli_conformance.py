"""`osiris conformance`: what it asks for, what it says, what it leaves."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from osiris_core.testing.checks import CHECKS
from osiris_core.testing.conformance_report import digest_of
from osiris_core.testing.parity_outcome import processes_with

OSIRIS = [sys.executable, "-m", "osiris_core.cli.main", "conformance"]
BROKEN = """
import sys
from osiris_core import AdapterFactory
from osiris_core.cli.main import main
from tests.broken_adapters import BadLoser

class Broken(BadLoser):
    name = "broken"
    known_gaps = GAPS

AdapterFactory.register("broken", Broken)
sys.argv[1:] = ["conformance", "broken", *sys.argv[1:]]
main()
"""


def run(folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*OSIRIS, *argv], cwd=folder, capture_output=True, text=True, timeout=50, check=False)


def run_broken(folder: Path, *argv: str, gaps: str = "{}") -> subprocess.CompletedProcess[str]:
    script, root = BROKEN.replace("GAPS", gaps), str(Path(__file__).parent.parent)
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {root!r})\n{script}", *argv]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=50, check=False)


def test_everything_that_is_wrong_with_the_options(tmp_path: Path) -> None:
    """At once, with a hint for each, before anything is run."""
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/file").touch()
    argv = ["--only", "linaer", "--report", "x.txt", "--report", "nowhere/x.md", "--work-dir", "taken"]
    done = run(tmp_path, "locl", *argv)
    assert done.returncode == 2
    for words in ("did you mean 'local'?", "did you mean 'linear'?", ".json, .html, .md", "nowhere", "taken is there"):
        assert words in done.stderr
    assert "5 problems; nothing was started" in done.stderr
    assert run_broken(tmp_path, gaps="{'nonsense': 'x'}").returncode == 2


def test_the_list(tmp_path: Path) -> None:
    """Every check with its promise, and which are gaps."""
    listed = json.loads(run(tmp_path, "local", "--list", "--json").stdout)["checks"]
    assert [item["name"] for item in listed] == [check.name for check in CHECKS]
    gaps = {item["name"] for item in listed if item["gap"]}
    assert {"segfault", "orphan-is-removed"} <= gaps
    told = run(tmp_path, "local", "--list").stdout
    assert re.search(r"^segfault .*\(gap: the engine is in the caller's process", told, re.MULTILINE)


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The three reports on a broken adapter, and what was printed."""
    folder = tmp_path_factory.mktemp("reports")
    only = ("phases-in-order", "collects-after-a-failure", "linear", "segfault")
    argv = [word for name in only for word in ("--only", name)]
    argv += [word for kind in ("json", "html", "md") for word in ("--report", f"r.{kind}")]
    return folder, run_broken(folder, *argv, gaps="{'segfault': 'no <process> of its | own'}")


def test_a_broken_adapter(reports: Any) -> None:
    """Exit code 1; what does not hold is said with its reason, progress on standard error."""
    _, done = reports
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "broken: 1 of 3 checks hold, 2 do not, 1 named gap",
        "  collects-after-a-failure",
        "  phases-in-order",
    ]
    assert "fails  phases-in-order" in done.stderr
    assert "collect before execute raised nothing, not PhaseError" in done.stderr


def test_the_reports(reports: Any) -> None:
    """All three say the same; the digest is that of the JSON, which the page has inside."""
    folder, _ = reports
    report = json.loads((folder / "r.json").read_text())
    assert report["digest"] == digest_of(report)
    assert digest_of({**report, "counts": {"holds": 4, "fails": 0, "gap": 0}}) != report["digest"]
    assert report["counts"] == {"holds": 1, "fails": 2, "gap": 1}
    assert {"osiris-core", "python", "pyarrow"} <= report["versions"].keys()
    page = (folder / "r.html").read_text()
    inside = re.search(r'<script type="application/json" id="report">(.*?)</script>', page, re.DOTALL)
    assert inside is not None
    assert json.loads(inside[1]) == report
    assert "no &lt;process&gt; of its | own" in page
    markdown = (folder / "r.md").read_text()
    for text in (page, markdown):
        assert report["digest"] in text
        assert "1 of 3 checks hold, 2 do not, 1 named gap" in text
        assert "collect before execute raised nothing, not PhaseError" in text
    assert "no &lt;process&gt; of its \\| own" in markdown
    rows = [line for line in markdown.splitlines() if line.startswith(("| holds", "| fails", "| gap"))]
    assert [len(re.findall(r"(?<!\\)\|", row)) for row in rows] == [5] * 4


def test_json_is_one_document(tmp_path: Path) -> None:
    """Whatever drivers print meanwhile."""
    done = run(tmp_path, "local", "--only", "prints", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["counts"] == {"holds": 1, "fails": 0, "gap": 0}
    assert "from printf" not in done.stderr


def test_as_many_runs_at_once_as_a_place_has_room_for(tmp_path: Path) -> None:
    """Fifty is more than some places give one user."""
    done = run(tmp_path, "local", "--only", "many-at-once", "--at-once", "3", "--work-dir", "w")
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "w/runs").glob("*/run-*"))) == 3


def test_an_adapter_that_another_process_cannot_import(tmp_path: Path) -> None:
    """What its controller printed is told; this one is in the script that the kit was started by."""
    done = run_broken(tmp_path, "--only", "interrupt-leaves-a-report")
    assert done.returncode == 1
    assert "its controller ended with 1" in done.stderr
    assert "has no attribute 'Broken'" in done.stderr


def test_the_kit_without_pytest_names_the_extra() -> None:
    """Instead of a module that nobody knows what to do about."""
    script = "import sys; sys.modules['pytest'] = None\nfrom osiris_core.testing import Bench, AdapterConformance"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "ImportError: AdapterConformance needs pytest: pip install 'osiris-core[testing]'" in done.stderr


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    """Ctrl-C in the middle of a check: exit code 130, and its run is ended with all that it started."""
    argv = [*OSIRIS, "process", "--only", "orphan-is-removed", "--work-dir", "w"]
    kit = subprocess.Popen(argv, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline_s = time.monotonic() + 30
    while not list((tmp_path / "w").glob("runs/*/session/process-*")) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    kit.send_signal(signal.SIGINT)
    _, told = kit.communicate(timeout=40)
    assert kit.returncode == 130, told
    assert processes_with(str(tmp_path)) == []
    assert not list((tmp_path / "w").glob("runs/*/session/process-*"))
