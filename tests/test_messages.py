"""Messages name what is wrong and what to do, in words that can be typed as they stand."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from osiris_core import AdapterFactory
from osiris_core.earlier_run import EarlierRun
from osiris_core.errors import ManifestError, PreparationError

if TYPE_CHECKING:
    from pathlib import Path

OSIRIS = [sys.executable, "-m", "osiris_core.cli.main"]
READ = {"id": "r", "driver": "filesystem.csv_extractor", "config": {"path": "in.csv"}}


def command(shell: str, **config: Any) -> dict[str, Any]:
    return {"id": "c", "driver": "command", "config": {"shell": shell, **config}}


def run(manifest: dict[str, Any], base_dir: Path, **context: Any) -> Any:
    from osiris_core import ExecutionContext

    given = ExecutionContext(base_dir=str(base_dir), session_dir=str(base_dir / "session"), **context)
    return AdapterFactory.create("local").run(manifest, given)


def test_a_link_to_nowhere_is_said_to_be_one(tmp_path: Path) -> None:
    """It is not said to be missing, with its own name as the nearest one."""
    (tmp_path / "in.csv").symlink_to("nowhere")
    with pytest.raises(PreparationError, match=r"in\.csv is a link to nowhere, which is not there$"):
        run({"steps": [READ]}, tmp_path)


@pytest.mark.parametrize(
    ("shell", "says"),
    [
        ("ln -s /etc/hostname r.csv", r"but output df (r.csv) is a link to /etc/hostname, which is no file of the"),
        ("mkdir r.csv", "but output df (r.csv) is a folder"),
        ("touch s.csv", "but did not write the output df (r.csv); there is: s.csv"),
    ],
)
def test_an_output_that_is_no_file(tmp_path: Path, shell: str, says: str) -> None:
    """What is there in its place is named, not listed as what could have been meant."""
    report = run({"steps": [command(shell, outputs={"df": {"path": "r.csv"}})]}, tmp_path)
    assert says in report["error"]["message"]


def test_parameters_are_named_in_any_language(tmp_path: Path) -> None:
    """A name that is accepted can be referred to."""
    manifest = {"params": {"größe": 3}, "steps": [command("echo ${params.größe} > n", artifacts=["n"])]}
    report = run(manifest, tmp_path, params={"größe": 4})
    assert (tmp_path / "session" / "artifacts" / report.artifacts[0]["path"]).read_text() == "4\n"


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"l": [1, 2]}, r"params\.l: a list of values is written \{default: \[1, 2\]\}"),
        ({"a b": 1}, r"'a b' is no name of a parameter"),
        ({"1st": {"default": 1}}, r"'1st' is no name of a parameter"),
    ],
)
def test_parameters_that_cannot_work(tmp_path: Path, params: dict[str, Any], says: str) -> None:
    """A list and a bad name say how it is written."""
    with pytest.raises(ManifestError, match=says):
        run({"params": params, "steps": [command("true")]}, tmp_path)


BIG = """
steps:
  - id: big
    driver: duckdb.processor
    config: {query: "SELECT i, hash(i) AS h FROM range(300000) t(i)"}
  - id: write
    driver: filesystem.WRITER
    inputs: {df: big}
    config: {path: out.file}
"""
READS = "steps: [{id: read, driver: filesystem.csv_extractor, config: {path: in.csv}}]"


@pytest.mark.parametrize(
    ("manifest", "options", "file"),
    [
        (BIG.replace("WRITER", "csv_writer"), [], "artifacts/write/out.file"),
        (BIG.replace("WRITER", "parquet_writer"), [], "artifacts/write/out.file"),
        (BIG.replace("WRITER", "csv_writer"), ["--memory-budget", "2MB"], "work/run-1/tables/table-1.arrow"),
        (READS, ["--adapter", "process"], "work/package.tar"),
    ],
)
def test_a_full_disk_names_the_file(tmp_path: Path, manifest: str, options: list[str], file: str) -> None:
    """The message says where there is no room: a file that may grow no further stands for a disk that is full."""
    (tmp_path / "m.yaml").write_text(manifest)
    (tmp_path / "in.csv").write_text("n\n" + "1234567\n" * 400_000)
    args = ["bash", "-c", 'ulimit -f 2000; exec "$@"', "bash", *OSIRIS]
    args += ["run", "m.yaml", "--json", "--session-dir", "s", *options]
    done = subprocess.run(args, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert str(tmp_path / "s" / file) in json.loads(done.stdout)["error"]["message"]


def test_what_is_to_be_typed_can_be(tmp_path: Path) -> None:
    """Paths with blanks and quotes are quoted in the commands that are advised."""
    folder = tmp_path / "my 'first' runs"
    folder.mkdir()
    (folder / "the manifest.yaml").write_text("steps: [{id: c, driver: command, config: {shell: sleep 20}}]")
    args = [*OSIRIS, "run", "the manifest.yaml", "--session-dir", "s", "--adapter", "process"]
    controller = subprocess.Popen(args, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    events = folder / "s" / "events.jsonl"
    deadline_s = time.monotonic() + 30
    while not (events.exists() and "step.start" in events.read_text()) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    os.kill(controller.pid, signal.SIGKILL)
    controller.wait(30)
    args = [*OSIRIS, "runs", "show", "s"]
    shown = subprocess.run(args, cwd=folder, capture_output=True, text=True, timeout=60, check=False).stdout
    assert f"osiris runs attach {shlex.quote(str(folder / 's'))} goes on" in shown
    again = shlex.split(EarlierRun.read(folder / "s").again)
    assert (again[2], again[-1]) == (str(folder / "the manifest.yaml"), str(folder / "s"))
    subprocess.run([*OSIRIS, "runs", "cancel", "s"], cwd=folder, capture_output=True, timeout=60, check=True)
