"""The example plugin installs, and what it brings works: in Python, in files, on the command line, after a crash."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

PLUGIN = Path(__file__).resolve().parent.parent / "examples" / "plugin"
MODEL = """\
run_id: tide
output_dir: out
command: "echo level > outputs/levels.csv; echo 4.5 >> outputs/levels.csv; echo 1.5 >> outputs/levels.csv"
"""


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which the plugin is installed, by pip, as a user would."""
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    source = tmp_path_factory.mktemp("source") / "plugin"
    subprocess.run(["cp", "-r", str(PLUGIN), str(source)], check=True)
    subprocess.run([*command, "--no-build-isolation", "--target", str(target), str(source)], check=True)
    return {**os.environ, "PYTHONPATH": str(target)}


def osiris(folder: Path, installed: dict[str, str], *arguments: str, code: int = 0) -> str:
    command = [sys.executable, "-m", "osiris_core.cli.main", *arguments]
    done = subprocess.run(command, cwd=folder, env=installed, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model.yaml").write_text(MODEL)
    return tmp_path


def test_it_is_known_everywhere(folder: Path, installed: dict[str, str]) -> None:
    """Listed by name with its distribution; its configuration is made, checked and selected by its type."""
    listed = {item["name"]: item for item in json.loads(osiris(folder, installed, "backends", "list", "--json"))}
    for name, kind in (("nice", "backend"), ("series", "postprocessor"), ("cloud", "pipeline")):
        assert (listed[name]["kind"], listed[name]["state"]) == (kind, "ok")
        assert "osiris-tides" in listed[name]["source"]
    osiris(folder, installed, "backends", "create", "nice", "-o", "nice.yaml")
    assert "valid" in osiris(folder, installed, "backends", "validate", "nice.yaml")
    (folder / "nice.yaml").write_text(
        "type: nice\nniceness: 7\ncommand: sh -c 'nice > outputs/nice.txt; echo $WORD >> outputs/nice.txt'\n"
        "env_vars: {WORD: 'the ${WORD_OF_MINE}'}\n"
    )
    environment = {**installed, "WORD_OF_MINE": "word"}
    arguments = ("run", "--model-run", "model.yaml", "--config", "nice.yaml", "--json")
    found = json.loads(osiris(folder, environment, *arguments))
    assert found["success"], found
    assert (folder / "out" / "tide" / "outputs" / "nice.txt").read_text() == "7\nthe word\n"
    (folder / "nice.yaml").write_text("type: nice\ncommand: x\nnicenes: 7\n")
    checked = json.loads(osiris(folder, installed, "backends", "validate", "nice.yaml", "--json", code=2))
    assert checked["problems"][0]["hint"] == "did you mean 'niceness'?"


def test_its_postprocessor(folder: Path, installed: dict[str, str]) -> None:
    """In a pipeline, by name; what it finds is in the result, and what it misses makes the pipeline fail."""
    arguments = ("pipeline", "model.yaml", "--run-backend", "local", "--processor", "series", "--json")
    after = json.loads(osiris(folder, installed, *arguments))["postprocess_results"]
    assert after["metrics"] == {"count": 2, "lowest": 1.5, "highest": 4.5}
    (folder / "series.yaml").write_text("type: series\nfile: outputs/none.csv\n")
    failed = json.loads(
        osiris(folder, installed, *arguments[:4], "--processor-config", "series.yaml", "--json", code=1)
    )
    assert failed["stage"] == "postprocess"
    assert "none.csv" in failed["error"]


def test_its_readme(folder: Path, installed: dict[str, str]) -> None:
    """What it shows runs, once the plugin is installed."""
    text = (PLUGIN / "README.md").read_text()
    for line in re.findall(r"^osiris .*", text, re.MULTILINE):
        if "nice.yaml" in line and "create" not in line:
            (folder / "nice.yaml").write_text("type: nice\ncommand: 'true'\n")  # not the program of its example
        osiris(folder, installed, *shlex.split(line, comments=True)[1:])
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=folder, env=installed, check=False)
    assert done.returncode == 0


@contextmanager
def service(installed: dict[str, str], *arguments: str) -> Iterator[str]:
    """A job service in a process of its own; its address."""
    command = [sys.executable, "-m", "tides.service", *arguments]
    process = subprocess.Popen(command, env=installed, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.communicate(timeout=10)


def jobs(address: str) -> list[dict[str, Any]]:
    with urlopen(f"{address}/jobs", timeout=10) as answer:
        found: list[dict[str, Any]] = json.loads(answer.read())
    return found


def write_pipeline(folder: Path, address: str, command: str, grid: str = "fine", **settings: Any) -> None:
    described = {"service": address, "command": command, **settings}
    document = {
        "config": {"run_id": "tide", "output_dir": "out", "parameters": {"grid": grid}},
        "pipeline_backend": "cloud",
        "settings": described,
        "postprocessor": {"type": "series"},
    }
    (folder / "pipeline.json").write_text(json.dumps(document))


def test_the_remote_pipeline(folder: Path, installed: dict[str, str]) -> None:
    """Generated here, run there with what was generated, brought home, processed: four stages, one job."""
    with service(installed) as address:
        write_pipeline(
            folder, address, "sh -c 'cp INPUT seen; echo level > outputs/levels.csv; echo 3 >> outputs/levels.csv'"
        )
        found = json.loads(osiris(folder, installed, "pipeline", "pipeline.json", "--json"))
        assert found["stages_completed"] == ["generate", "submit", "execute", "postprocess"]
        assert found["postprocess_results"]["metrics"]["highest"] == 3.0
        assert (folder / "out" / "tide" / "seen").read_text() == "run_id = tide\ngrid = fine\n"
        osiris(folder, installed, "pipeline", "pipeline.json", "--json")
        assert len(jobs(address)) == 2, "a run that is over is not taken for the next one"


def test_the_remote_pipeline_fails_truly(folder: Path, installed: dict[str, str]) -> None:
    """A job that fails, one that takes too long and is then ended, a service that is not there: each with its stage."""
    with service(installed) as address:
        write_pipeline(folder, address, "sh -c 'exit 3'")
        failed = json.loads(osiris(folder, installed, "pipeline", "pipeline.json", "--json", code=1))
        assert (failed["stage"], failed["stages_completed"]) == ("execute", ["generate", "submit"])
        assert "ended with 3" in failed["error"]
        write_pipeline(folder, address, "sleep 100", timeout_s=0.5)
        late = json.loads(osiris(folder, installed, "pipeline", "pipeline.json", "--json", code=1))
        assert "it was ended" in late["error"]
        assert [job["state"] for job in jobs(address)] == ["done", "done"]
    gone = json.loads(osiris(folder, installed, "pipeline", "pipeline.json", "--json", code=1))
    assert gone["stage"] == "submit"


def test_exactly_one_submit_after_a_crash(folder: Path, installed: dict[str, str]) -> None:
    """Killed between the submission and its answer, a pipeline that is called again adopts the job that runs."""
    with service(installed, "--answer-after", "3") as address:
        write_pipeline(folder, address, "sh -c 'echo level > outputs/levels.csv; echo 2 >> outputs/levels.csv'")
        command = [sys.executable, "-m", "osiris_core.cli.main", "pipeline", "pipeline.json"]
        first = subprocess.Popen(
            command, cwd=folder, env=installed, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline_s = time.monotonic() + 20
        while not jobs(address):
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        first.send_signal(signal.SIGKILL)
        first.wait()
        found = json.loads(osiris(folder, installed, "pipeline", "pipeline.json", "--json"))
        assert found["success"], found
        assert len(jobs(address)) == 1
        assert found["job_id"] == 0


def test_another_wish_is_another_job(folder: Path, installed: dict[str, str]) -> None:
    """After a submission that failed, other parameters are generated and submitted; a job of before is ended."""
    writes = "cp INPUT seen; echo level > outputs/levels.csv; echo 2 >> outputs/levels.csv"
    command = f"sh -c '{writes}; [ ! -e INPUT.slow ] || sleep 60'"
    write_pipeline(folder, "http://127.0.0.1:9", command)
    failed = json.loads(osiris(folder, installed, "pipeline", "pipeline.json", "--json", code=1))
    assert failed["stage"] == "submit"
    with service(installed) as address:
        write_pipeline(folder, address, command, grid="coarse")
        found = json.loads(osiris(folder, installed, "pipeline", "pipeline.json", "--json"))
        assert found["success"], found
        assert (folder / "out" / "tide" / "seen").read_text() == "run_id = tide\ngrid = coarse\n"

        (folder / "out" / "tide" / "INPUT.slow").touch()
        process = subprocess.Popen(
            [sys.executable, "-m", "osiris_core.cli.main", "pipeline", "pipeline.json"],
            cwd=folder,
            env=installed,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline_s = time.monotonic() + 20
        while len(jobs(address)) < 2:
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        process.kill()
        process.wait()
        assert jobs(address)[1]["state"] == "running"
        (folder / "out" / "tide" / "INPUT.slow").unlink()
        write_pipeline(folder, address, command, grid="fine")
        found = json.loads(osiris(folder, installed, "pipeline", "pipeline.json", "--json"))
        assert found["job_id"] == 2
        assert (folder / "out" / "tide" / "seen").read_text() == "run_id = tide\ngrid = fine\n"
        assert [job["state"] for job in jobs(address)] == ["done"] * 3


def test_a_failed_postprocessing_submits_nothing_again(folder: Path, installed: dict[str, str]) -> None:
    """Called again, with a processor that works, the job of before is taken; and then it is over."""
    with service(installed) as address:
        write_pipeline(folder, address, "sh -c 'echo level > outputs/levels.csv; echo 2 >> outputs/levels.csv'")
        broken = ("--processor-config", "series.yaml", "--json")
        (folder / "series.yaml").write_text("type: series\nfile: outputs/none.csv\n")
        failed = json.loads(osiris(folder, installed, "pipeline", "pipeline.json", *broken, code=1))
        assert (failed["stage"], len(jobs(address))) == ("postprocess", 1)
        found = json.loads(osiris(folder, installed, "pipeline", "pipeline.json", "--json"))
        assert found["success"], found
        assert len(jobs(address)) == 1
        osiris(folder, installed, "pipeline", "pipeline.json", "--json")
        assert len(jobs(address)) == 2


def test_it_postprocesses_after_a_local_run_that_failed(folder: Path, installed: dict[str, str]) -> None:
    """What ran at the service is the last run then; and when that fails, it is."""
    with service(installed) as address:
        write_pipeline(folder, address, "sh -c 'echo level > outputs/levels.csv; echo 2 >> outputs/levels.csv'")
        (folder / "model.yaml").write_text("run_id: tide\noutput_dir: out\ncommand: exit 3\n")
        osiris(folder, installed, "run", "--model-run", "model.yaml", code=1)
        assert json.loads(osiris(folder, installed, "pipeline", "pipeline.json", "--json"))["success"]
        osiris(folder, installed, "postprocess", "model.yaml", "--processor", "series")
        write_pipeline(folder, address, "sh -c 'exit 3'")
        osiris(folder, installed, "pipeline", "pipeline.json", code=1)
        osiris(folder, installed, "postprocess", "model.yaml", "--processor", "series", code=1)


def test_its_backend_can_be_stopped(folder: Path, installed: dict[str, str]) -> None:
    """Code of somebody else, called as it is: a stop from outside still leaves no process, and exit code 124."""
    (folder / "nice.yaml").write_text("type: nice\ncommand: sh -c 'echo $$ > pid; sleep 63'\n")
    arguments = ("run", "--model-run", "model.yaml", "--config", "nice.yaml", "--timeout", "2", "--json")
    found = json.loads(osiris(folder, installed, *arguments, code=124))
    assert found["status"] == "timeout"
    pid = int((folder / "out" / "tide" / "pid").read_text())
    deadline_s = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
