"""A run that failed on one adapter goes on, on another: what holds is taken over, and only what is read travels."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from osiris_core import AdapterFactory, ExecutionContext, RunReport, read_events
from tests.worker_process import DRIVERS

if TYPE_CHECKING:
    from pathlib import Path

LARGE = 3_000_002
DONE = ("read", "unread", "from_unread", "wide", "large")
SETTINGS: dict[str, dict[str, Any]] = {"local": {}, "process": {}, "docker": {"base_image": "osiris-base:bookworm"}}


def query(step_id: str, text: str, **inputs: str) -> dict[str, Any]:
    return {"id": step_id, "driver": "duckdb.processor", "config": {"query": text}, "inputs": inputs}


def steps(*, last: str = "SELECT count(*) AS n FROM t") -> list[dict[str, Any]]:
    """A table that is read later, one that is not, a large artifact, and a last step that can be made to fail."""
    return [
        query("read", "SELECT i FROM range(100) t(i) ORDER BY i"),
        query("unread", "SELECT i FROM range(50000) t(i) ORDER BY i"),
        query("from_unread", "SELECT max(i) AS m FROM t", t="unread"),
        query("wide", "SELECT repeat('x', 29) AS x FROM range(100000)"),
        {"id": "large", "driver": "filesystem.csv_writer", "inputs": {"df": "wide"}, "config": {"path": "x.csv"}},
        query("last", last, t="read"),
        {"id": "out", "driver": "filesystem.csv_writer", "inputs": {"df": "last"}, "config": {"path": "n.csv"}},
    ]


def run(adapter: str, folder: Path, plan: list[dict[str, Any]], **more: Any) -> RunReport:
    # One after another: what fails does so after all that stands before it.
    more = {"checkpoint": "always", "max_parallel_steps": 1, **more}
    context = ExecutionContext(session_dir=str(folder / "session"), **more)
    with AdapterFactory.create(adapter, code=[str(DRIVERS)], **SETTINGS[adapter]) as made:
        return made.run({"pipeline": "p", "steps": plan}, context)


def statuses(report: RunReport) -> dict[str, str]:
    return {item["step_id"]: item["status"] for item in report.steps}


@pytest.mark.usefixtures("worker_image")
@pytest.mark.parametrize(
    "order", [("local", "docker", "process"), ("docker", "process", "local"), ("process", "local", "docker")]
)
def test_a_run_goes_from_place_to_place(tmp_path: Path, order: tuple[str, str, str]) -> None:
    """It fails on the first, fails again on the second, and completes on the third; no step ran twice for nothing."""
    first = run(order[0], tmp_path, steps(last="SELECT 1/0 AS n, error('one')"))
    assert (first.status, first["environment"]) == ("failed", order[0])
    second = run(order[1], tmp_path, steps(last="SELECT error('two')"), resume=True)
    assert second.status == "failed"
    done = dict.fromkeys(DONE, "reused")
    assert statuses(second) == {**done, "last": "failed", "out": "skipped"}
    third = run(order[2], tmp_path, steps(), resume=True)
    assert third.succeeded
    assert statuses(third) == {**done, "last": "completed", "out": "completed"}
    session = tmp_path / "session"
    assert (session / "artifacts/out/n.csv").read_text() == "n\n100\n"
    assert (session / "artifacts/large/x.csv").stat().st_size == LARGE
    assert [item["path"] for item in third.artifacts] == ["large/x.csv", "out/n.csv"]
    for report in (second, third):
        if (transfer := report.get("transfer")) is not None:
            assert transfer["up_bytes"] < LARGE  # the artifact and the table that nobody reads stayed here
            assert transfer["down_bytes"] < LARGE
    fourth = run(order[0], tmp_path, steps(), resume=True)
    assert set(statuses(fourth).values()) == {"reused"}
    assert (session / "artifacts/large/x.csv").stat().st_size == LARGE


def test_what_was_tampered_with_is_not_believed(tmp_path: Path) -> None:
    """Neither an artifact that would stay here nor a kept output that would travel."""
    assert run("process", tmp_path, steps(last="SELECT error('one')")).status == "failed"
    session = tmp_path / "session"
    before = (session / "artifacts/large/x.csv").read_bytes()
    (session / "artifacts/large/x.csv").write_bytes(b"y" * LARGE)
    outputs = next(
        event["outputs"]
        for event in read_events(session / "events.jsonl")
        if event["event"] == "step.complete" and event["step_id"] == "read"
    )
    path = session / "checkpoints" / f"{outputs['df']['checkpoint']}.arrow"
    path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1]))
    report = run("process", tmp_path, steps(), resume=True)
    assert report.succeeded
    ran = {name for name, status in statuses(report).items() if status == "completed"}
    assert ran == {"read", "large", "last", "out"}
    assert (session / "artifacts/large/x.csv").read_bytes() == before


def test_a_step_that_runs_again_there_has_its_inputs_made_again(tmp_path: Path) -> None:
    """What stayed at home is never read: here the worker does not believe a step that the host took for unchanged."""
    assert run("process", tmp_path, steps(last="SELECT error('one')")).status == "failed"
    session = tmp_path / "session"
    lines = (session / "events.jsonl").read_text().splitlines()
    assert any('"step_id":"from_unread"' in line for line in lines)
    from remote import resume_files

    earlier = resume_files.earlier_files

    def forgetful(*args: Any) -> Any:
        found = earlier(*args)
        kept = [line for line in lines if not ("step.complete" in line and '"step_id":"from_unread"' in line)]
        journal = tmp_path / "forgetful.jsonl"
        journal.write_text("".join(f"{line}\n" for line in kept))
        sent = [(name, journal if name == "events.jsonl" else path) for name, path in found.sent]
        return resume_files.EarlierFiles(sent, found.at_home)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("remote.remote_run.earlier_files", forgetful)
        report = run("process", tmp_path, steps(), resume=True)
    assert report.succeeded
    assert statuses(report)["unread"] == statuses(report)["from_unread"] == "completed"
    assert statuses(report)["large"] == "reused"
    assert (session / "artifacts/large/x.csv").stat().st_size == LARGE


@pytest.mark.parametrize(
    ("change", "component", "says"),
    [
        ({"last": "SELECT 2 AS n FROM t"}, "config", "its configuration changed: query"),
        ({"last": "SELECT count(*) AS n FROM t"}, None, "unchanged"),
    ],
)
def test_explain_names_what_differs(tmp_path: Path, change: dict[str, str], component: str | None, says: str) -> None:
    """The component of the key, and within a configuration the keys; for a run that happened elsewhere, too."""
    argv = [sys.executable, "-m", "osiris_core.cli.main"]
    (tmp_path / "c.yaml").write_text(f"type: process\ncode: [{DRIVERS}]\n")

    def osiris(plan: list[dict[str, Any]], *more: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "m.json").write_text(json.dumps({"pipeline": "p", "steps": plan}))
        options = ["m.json", "--config", "c.yaml", "--session-dir", "session"]
        environment = {**os.environ, "PYTHONPATH": os.getcwd()}
        return subprocess.run(
            [*argv, *more, *options], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    assert osiris(steps(), "run").returncode == 0
    explained = osiris(steps(**change), "explain", "last")
    assert says in explained.stdout, explained.stderr
    options = ["m.json", "--json", "--config", "c.yaml", "--session-dir", "session"]
    done = subprocess.run([*argv, "explain", *options], cwd=tmp_path, capture_output=True, text=True, check=False)
    found = {item["step_id"]: item for item in json.loads(done.stdout)["steps"]}
    assert found["last"]["component"] == component
    assert found["last"]["changed"] == (["query"] if component else [])
    assert found["out"]["component"] == ("inputs" if component else None)
    shutil.rmtree(tmp_path / "session")
