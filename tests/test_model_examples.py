"""The examples of model runs work as they stand, each in a process of its own, and so does the notebook."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples" / "backends"
NOTEBOOK = ROOT / "notebooks" / "backend_examples.ipynb"


def run(folder: Path, name: str, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=55, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_basic_local_run(tmp_path: Path) -> None:
    """It runs, says so, and leaves the layout that the README shows."""
    done = run(tmp_path, "01_basic_local_run.py")
    assert "No postprocessing requested - validation only" in done.stdout
    assert sorted(path.name for path in (tmp_path / "output" / "basic-local").iterdir()) == [
        "INPUT",
        "datasets",
        "outputs",
    ]
    assert (tmp_path / "output" / "basic-local" / "outputs" / "finished.txt").read_text().strip()


def test_docker_run(tmp_path: Path, docker_client: Any) -> None:
    """A real container: the mounted file arrives in the workspace, and belongs to who ran it."""
    from tests.conftest import DOCKER_BASE

    done = run(tmp_path, "02_docker_run.py", DOCKER_BASE)
    made = tmp_path / "output" / "docker" / "outputs" / "grid-used.txt"
    assert made.read_text() == "a grid\n"
    assert made.stat().st_uid == os.getuid()
    assert "outputs/grid-used.txt  7 bytes" in done.stdout


def test_docker_run_without_its_image(tmp_path: Path, docker_client: Any) -> None:
    """What is missing is named, and the exit code says that it failed."""
    done = run(tmp_path, "02_docker_run.py", "osiris.invalid/nothing:1", code=1)
    assert "osiris.invalid/nothing:1" in done.stdout


def test_custom_postprocessor(tmp_path: Path) -> None:
    """Every file of the run is in the archive."""
    done = run(tmp_path, "03_custom_postprocessor.py")
    assert "Zipped 2 files" in done.stdout
    with zipfile.ZipFile(tmp_path / "output" / "custom-postprocessor.zip") as packed:
        assert sorted(packed.namelist()) == ["INPUT", "outputs/result.txt"]


def test_complete_workflow(tmp_path: Path) -> None:
    """Templates are rendered, the model computes, and each file is listed with its size."""
    done = run(tmp_path, "04_complete_workflow.py")
    levels = (tmp_path / "output" / "workflow" / "outputs" / "levels.csv").read_text().splitlines()
    assert (len(levels), levels[3]) == (24, "3,2")
    assert (tmp_path / "output" / "workflow" / "INPUT").read_text() == "hours = 24\ngrid = coarse\n"
    assert "outputs/levels.csv  110 bytes" in done.stdout
    run(tmp_path, "04_complete_workflow.py")  # and again, over what is there


@pytest.mark.usefixtures("slurm_cluster")
def test_slurm_run(tmp_path: Path) -> None:
    """A real job, in an allocation of its own; what a configuration refuses is said first."""
    done = run(tmp_path, "05_slurm_run.py")
    assert "refused, as it should be: time_limit" in done.stdout
    assert (tmp_path / "output" / "slurm" / "outputs" / "where.txt").read_text().startswith("on ")


def test_the_slurm_example_is_python() -> None:
    """Where there is no scheduler, it is at least what Python can read."""
    compile((EXAMPLES / "05_slurm_run.py").read_text(), "05_slurm_run.py", "exec")


def test_the_readme(tmp_path: Path) -> None:
    """No example is missing in it, none that it names is gone, and its snippet runs."""
    text = (EXAMPLES / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path, check=True)
    assert set(re.findall(r"0\d_\w+\.py", text)) == {path.name for path in EXAMPLES.glob("0*.py")}
    for path in EXAMPLES.glob("0*.py"):
        assert text.count(path.name) >= 2, path.name


def test_the_notebook(tmp_path: Path, docker_client: Any) -> None:
    """Its cells run in order in one interpreter, as in a kernel, and print what is stored in it."""
    from tests.conftest import DOCKER_BASE

    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    script = (
        "import contextlib, io, json, sys\nnames, printed = {'__name__': '__main__'}, []\n"
        "for source in json.load(sys.stdin):\n    out = io.StringIO()\n"
        "    with contextlib.redirect_stdout(out):\n        exec(compile(source, '<cell>', 'exec'), names)\n"
        "    printed.append(out.getvalue())\njson.dump(printed, sys.stdout)\n"
    )
    sources = ["".join(cell["source"]) for cell in cells]
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "OSIRIS_EXAMPLE_IMAGE": DOCKER_BASE},
        input=json.dumps(sources),
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    for cell, text in zip(cells, printed, strict=True):
        stored = "".join("".join(output.get("text", [])) for output in cell["outputs"])
        assert text == stored, "".join(cell["source"])


def test_the_notebook_has_its_sections() -> None:
    """The eight of them, each with code below it."""
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    titles = ["".join(cell["source"]).splitlines()[0] for cell in cells if cell["cell_type"] == "markdown"]
    expected = [
        "Discovery",
        "Local run",
        "Docker run",
        "The no-op postprocessor",
        "A custom postprocessor",
        "A pipeline",
        "Errors",
        "A complete workflow",
    ]
    assert [title.removeprefix("## ").partition(". ")[2] for title in titles if title.startswith("## ")] == expected
