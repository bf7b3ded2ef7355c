"""Whose directory a session is, and what still fits into it when the disk is full."""

from __future__ import annotations

import pytest

from osiris_core import AdapterFactory, ExecutionContext, PreparationError

MAKE = {"id": "a", "driver": "duckdb.processor", "config": {"query": "SELECT 1 AS n"}}


@pytest.mark.parametrize("folder", ["work", "artifacts", "checkpoints"])
def test_a_directory_of_somebody_s_own_is_no_session(tmp_path, folder):
    """Files where a session would have its own are refused, and untouched."""
    (tmp_path / "mine" / folder).mkdir(parents=True)
    (tmp_path / "mine" / folder / "notes.txt").write_text("keep me")
    with pytest.raises(PreparationError, match=f"holds {folder}"):
        AdapterFactory.create("local").run({"steps": [MAKE]}, ExecutionContext(session_dir=str(tmp_path / "mine")))
    assert [path.name for path in (tmp_path / "mine").rglob("*")] == [folder, "notes.txt"]


def test_the_session_of_another_pipeline_is_refused(tmp_path):
    """One pipeline's artifacts are not replaced by another's run in the same directory; its own next run may."""
    context = ExecutionContext(session_dir=str(tmp_path / "s"))
    write = {"id": "w", "driver": "filesystem.csv_writer", "inputs": {"df": "a"}, "config": {"path": "x.csv"}}
    AdapterFactory.create("local").run({"pipeline": "one", "steps": [MAKE, write]}, context)
    with pytest.raises(PreparationError, match="pipeline 'one'"):
        AdapterFactory.create("local").run({"pipeline": "two", "steps": [MAKE]}, context)
    assert (tmp_path / "s" / "artifacts" / "w" / "x.csv").read_text() == "n\n1\n"
    assert AdapterFactory.create("local").run({"pipeline": "one", "steps": [MAKE]}, context)["attempt"] == 2


def test_a_small_json_file_is_replaced_in_the_space_it_has(tmp_path):
    """The last word about a run fits where the first one stood, also on a full disk."""
    from osiris_core.session import overwrite_json, read_json

    path = tmp_path / "status.json"
    path.write_text('{"status": "running", "session_id": "x", "attempt": 1, "started_at": "2026-11-20T00:00:00Z"}\n')
    overwrite_json(path, {"status": "failed"})
    assert read_json(path) == {"status": "failed"}
