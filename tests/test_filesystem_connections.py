"""`filesystem` connections: their `base_dir` is where input paths start, in native and compiled manifests."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from osiris_core import AdapterFactory, ExecutionContext, PreparationError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def landing(tmp_path: Path) -> Path:
    (tmp_path / "landing" / "day").mkdir(parents=True)
    (tmp_path / "landing" / "day" / "in.csv").write_text("a,b\n1,NA\n2,\n")
    (tmp_path / "osiris_connections.yaml").write_text(
        "connections:\n  filesystem:\n    landing: {base_dir: '${LANDING:-landing}'}\n  mysql:\n    db: {host: h}\n"
    )
    return tmp_path


STEPS = [
    {
        "id": "read",
        "driver": "filesystem.csv_extractor",
        "config": {"path": "day/in.csv", "connection": "@filesystem.landing"},
    },
    {
        "id": "write",
        "driver": "filesystem.csv_writer",
        "inputs": {"df": "read"},
        "config": {"path": "out/copy.csv", "connection": "@filesystem.landing"},
    },
]


def run(folder: Path, manifest, **settings):
    context = ExecutionContext(session_dir=str(folder / "session"), base_dir=str(folder), **settings)
    return AdapterFactory.create("local").run(manifest, context)


def test_a_native_manifest(landing):
    """The file is found below base_dir, sealed and travels; the output stays below the artifacts."""
    report = run(landing, {"steps": STEPS})
    assert report.succeeded, report.error
    assert report["input_files"][0]["size_bytes"] == 12
    written = landing / "session" / "artifacts" / "write" / "out" / "copy.csv"
    assert written.read_text() == "a,b\n1,NA\n2,\n"
    assert not (landing / "landing" / "out").exists()


def test_base_dir_by_a_variable(landing):
    """A connection's value may come from the run's environment."""
    (landing / "landing").rename(landing / "moved")
    assert run(landing, {"steps": STEPS}, environment={"LANDING": str(landing / "moved")}).succeeded


def test_a_compiled_manifest(landing, monkeypatch):
    """A compiled manifest's filesystem connection is honoured too, and its paths may not leave the base."""
    monkeypatch.chdir(landing)
    folder = landing / "compiled"
    (folder / "cfg").mkdir(parents=True)
    cfg = {"component": "filesystem.csv_extractor", "connection": "@filesystem.landing", "path": "day/in.csv"}
    (folder / "cfg" / "read.json").write_text(json.dumps(cfg))
    step = {"id": "read", "driver": "filesystem.csv_extractor", "cfg_path": "cfg/read.json", "needs": []}
    (folder / "manifest.yaml").write_text(json.dumps({"pipeline": {"id": "p"}, "steps": [step]}))
    report = AdapterFactory.create("local").run(folder / "manifest.yaml", ExecutionContext(session_dir="s"))
    assert report.metrics["rows_read"] == 2
    (folder / "cfg" / "read.json").write_text(json.dumps({**cfg, "path": "../landing/day/in.csv"}))
    with pytest.raises(PreparationError, match="leaves the base directory"):
        AdapterFactory.create("local").run(folder / "manifest.yaml", ExecutionContext(session_dir="t"))


def test_a_connection_of_another_family(landing):
    """A filesystem driver refuses a database's connection, and says which family it takes."""
    step = {**STEPS[0], "config": {"path": "day/in.csv", "connection": "@mysql.db"}}
    with pytest.raises(PreparationError, match="family 'filesystem', not 'mysql'"):
        run(landing, {"steps": [step]})
