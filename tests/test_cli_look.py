"""The commands that look at runs and do not touch them: plan, explain, runs."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

MANIFEST = """
pipeline: trips
params: {least: 1}
steps:
  - id: extract
    driver: filesystem.parquet_extractor
    config: {path: "data/${REGION:-north}.parquet"}
  - id: filter
    driver: duckdb.processor
    inputs: {trips: extract}
    config: {query: "SELECT * FROM trips WHERE id >= ${params.least} ORDER BY id", threads: 1}
  - id: write
    driver: filesystem.parquet_writer
    inputs: {df: filter}
    config: {path: out/trips.parquet}
  - id: note
    driver: command
    needs: [write]
    config: {shell: "echo ${API_TOKEN} > /dev/null"}
"""
SECRET = "hunter2-correct-horse"


def osiris(*args: str, cwd: Path, env: dict[str, str] | None = None, code: int = 0) -> str:
    """What the command line prints; it must end with `code`, and never with a traceback of ours."""
    done = run(*args, cwd=cwd, env=env)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def run(*args: str, cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "osiris_core.cli.main", *args]
    clean = {name: value for name, value in os.environ.items() if name not in ("OSIRIS_HOME", "REGION", "API_TOKEN")}
    environment = {**clean, "API_TOKEN": SECRET, **(env or {})}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=50, check=False)


def document(*args: str, cwd: Path, env: dict[str, str] | None = None, code: int = 0) -> Any:
    return json.loads(osiris(*args, "--json", cwd=cwd, env=env, code=code))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "manifest.yaml").write_text(MANIFEST)
    write_trips(tmp_path, 5)
    return tmp_path


def write_trips(folder: Path, rows: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (folder / "data").mkdir(exist_ok=True)
    pq.write_table(pa.table({"id": list(range(rows))}), folder / "data" / "north.parquet")


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def actions(found: Any) -> dict[str, str]:
    return {step["step_id"]: step["action"] for step in found["steps"]}


def reasons(found: Any) -> dict[str, str]:
    return {step["step_id"]: step["reason"] for step in found["steps"]}


# plan


def test_plan_shows_order_files_secrets_outputs_and_limits(folder: Path) -> None:
    """The plan says in which order what would run, what it reads and needs, and what it would publish."""
    found = document("plan", "manifest.yaml", "--out", "results", "--timeout", "2m", cwd=folder)
    assert [(step["wave"], step["step_id"]) for step in found["steps"]] == [
        (1, "extract"),
        (2, "filter"),
        (3, "write"),
        (4, "note"),
    ]
    assert found["steps"][1]["reads"] == ["extract"]
    assert found["steps"][3]["waits_for"] == ["write"]
    size_bytes = (folder / "data" / "north.parquet").stat().st_size
    assert [(file["step_id"], file["size_bytes"]) for file in found["input_files"]] == [("extract", size_bytes)]
    assert found["secrets"] == [{"name": "API_TOKEN", "set": True}]
    assert found["outputs"][0]["published_as"] == str(folder / "results" / "out" / "trips.parquet")
    assert found["limits"]["timeout_s"] == 120
    assert found["limits"]["memory_budget_bytes"] > 0
    text = osiris("plan", "manifest.yaml", cwd=folder)
    for part in ("extract", "duckdb.processor", "north.parquet", "API_TOKEN", "out/trips.parquet", "limits"):
        assert part in text
    assert SECRET not in text + json.dumps(found)


def test_plan_starts_and_writes_nothing(folder: Path) -> None:
    """After a plan every file is what it was, also in the session it looked at."""
    osiris("run", "manifest.yaml", cwd=folder)
    before = everything(folder)
    osiris("plan", "manifest.yaml", "--resume", "--out", "results", cwd=folder)
    osiris("explain", "manifest.yaml", cwd=folder)
    osiris("runs", "show", cwd=folder)
    osiris("doctor", cwd=folder)
    assert everything(folder) == before


def test_plan_says_what_resume_then_does(folder: Path) -> None:
    """What the plan wants to reuse is what the run with the same options reuses."""
    osiris("run", "manifest.yaml", "--checkpoint", "always", cwd=folder)
    options = ("manifest.yaml", "--resume", "--param", "least=3")
    planned = document("plan", *options, cwd=folder)
    report = document("run", *options, cwd=folder)
    done = {step["step_id"]: "reuse" if step["status"] == "reused" else "run" for step in report["steps"]}
    assert {name: done[name] for name in ("extract", "filter", "write")} == {
        "extract": "reuse",
        "filter": "run",
        "write": "run",
    }
    assert actions(planned).items() >= {"extract": "reuse", "filter": "run", "write": "run"}.items()


def test_the_plan_knows_what_runs_again_because_of_what_it_needs(folder: Path) -> None:
    """A command that comes after a step that runs again looks at the world anew, and the plan says so before."""
    osiris("run", "manifest.yaml", "--checkpoint", "always", cwd=folder)
    options = ("manifest.yaml", "--resume", "--param", "least=3")
    planned = actions(document("plan", *options, cwd=folder))
    report = document("run", *options, cwd=folder)
    statuses = {step["step_id"]: step["status"] for step in report["steps"]}
    assert (planned["note"], statuses["note"]) == ("run", "completed")


def test_plan_without_resume_says_what_could_be_reused(folder: Path) -> None:
    """Without --resume everything would run, and the plan names what need not."""
    osiris("run", "manifest.yaml", "--session-dir", "session", "--checkpoint", "always", cwd=folder)
    planned = document("plan", "manifest.yaml", "--session-dir", "session", cwd=folder)
    assert set(actions(planned).values()) == {"run"}
    assert "extract" in planned["reusable"]
    assert "with --resume, reused: " in osiris("plan", "manifest.yaml", "--session-dir", "session", cwd=folder)


def test_plan_lists_every_problem(folder: Path) -> None:
    """A missing file and a missing secret are both named, with exit code 2."""
    (folder / "data" / "north.parquet").unlink()
    command = [sys.executable, "-m", "osiris_core.cli.main", "plan", "manifest.yaml", "--json"]
    environment = {name: value for name, value in os.environ.items() if name not in ("API_TOKEN", "REGION")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=50, check=False)
    found = json.loads(done.stdout)
    assert done.returncode == 2
    assert len(found["problems"]) == 2
    assert "north.parquet" in done.stderr
    assert "API_TOKEN" in done.stderr


# explain


@pytest.fixture
def finished(folder: Path) -> Path:
    osiris("run", "manifest.yaml", "--checkpoint", "always", cwd=folder)
    return folder


def test_explain_finds_nothing_to_do_when_nothing_changed(finished: Path) -> None:
    """Without arguments it explains the newest session with the manifest it was run from."""
    found = document("explain", cwd=finished)
    assert {actions(found)[name] for name in ("extract", "filter", "write")} == {"reuse"}
    assert "unchanged" in osiris("explain", cwd=finished)


def test_explain_names_what_differs(finished: Path) -> None:
    """An input file, a configuration, a secret and a lost artifact are each named as the reason."""
    config = document("explain", "filter", "manifest.yaml", "--param", "least=2", cwd=finished)
    assert reasons(config) == {"filter": "its configuration changed"}
    secret = document("explain", "note", "manifest.yaml", cwd=finished, env={"API_TOKEN": "another-value-now"})
    assert "value that its configuration refers to" in reasons(secret)["note"]
    write_trips(finished, 6)
    files = document("explain", "manifest.yaml", cwd=finished)
    assert "input file changed: data/" in reasons(files)["extract"]
    assert reasons(files)["filter"] == "what it reads changed: input trips"
    write_trips(finished, 5)
    next((finished / ".osiris").rglob("trips.parquet")).write_bytes(b"")
    lost = document("explain", "write", cwd=finished)
    assert "write/out/trips.parquet is gone or was changed" in reasons(lost)["write"]


def test_explain_takes_a_session_and_refuses_an_unknown_step(finished: Path) -> None:
    """The session may be given by the beginning of its id or by its directory; near misses get a hint."""
    session = next((finished / ".osiris" / "sessions").iterdir())
    assert document("explain", "--session", session.name[:12], cwd=finished)["session_id"] == session.name
    assert document("explain", "--session-dir", str(session), cwd=finished)["session_id"] == session.name
    assert "did you mean 'filter'?" in run("explain", "fliter", cwd=finished).stderr
    assert "no earlier run" in run("explain", "manifest.yaml", cwd=finished, env={"OSIRIS_HOME": "/nowhere"}).stderr


# runs


def test_runs_list_and_show(finished: Path) -> None:
    """The list has a line a run, newest first; show has steps, artifacts and timings that add up to the wall time."""
    (finished / "bad.yaml").write_text(
        "{pipeline: bad, steps: [{id: no, driver: command, config: {argv: [cat, /nope]}}]}"
    )
    osiris("run", "bad.yaml", cwd=finished, code=1)
    listed = document("runs", "list", cwd=finished)
    assert [(item["pipeline"], item["status"], item["steps_done"]) for item in listed] == [
        ("bad", "failed", 0),
        ("trips", "completed", 4),
    ]
    assert osiris("runs", "list", "--limit", "1", cwd=finished).count("\n") == 2
    shown = osiris("runs", "show", listed[1]["session_id"], cwd=finished)
    for part in ("trips", "filter", "write/out/trips.parquet", "prepare", "wall"):
        assert part in shown
    report = document("runs", "show", listed[1]["session_id"], cwd=finished)
    timings = dict(report["timings"])
    assert timings.pop("wall_ms") == pytest.approx(sum(timings.values()), abs=0.01)
    failed = osiris("runs", "show", cwd=finished)
    assert "step 'no'" in failed
    assert "/nope" in failed
    assert document("runs", "show", cwd=finished)["error"]["failure_class"] == "user_error"


def test_runs_of_nowhere(tmp_path: Path) -> None:
    """No session root is an empty list; a session that is not there is bad input; other folders are left out."""
    assert document("runs", "list", cwd=tmp_path) == []
    assert document("runs", "show", "latest", cwd=tmp_path, code=2)["status"] == "invalid"
    (tmp_path / ".osiris" / "sessions" / "empty").mkdir(parents=True)
    (tmp_path / ".osiris" / "sessions" / "torn").mkdir()
    (tmp_path / ".osiris" / "sessions" / "torn" / "run.json").write_text('{"session_id": "to')
    assert [item["status"] for item in document("runs", "list", cwd=tmp_path)] == ["unknown"]
    assert "unknown" in osiris("runs", "show", "torn", cwd=tmp_path)
