"""The CSV → SQL → CSV manifest that several benchmarks run, and its command line."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

from benchmarks.orders_query import QUERY
from benchmarks.timing import ROOT, ProcessRun, osiris, python, run_process

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def write_manifest(folder: Path, source: Path) -> Path:
    """A manifest that reads `source`, and writes orders.csv."""
    steps = [
        {"id": "extract", "driver": "filesystem.csv_extractor", "config": {"path": str(source)}},
        {"id": "select", "driver": "duckdb.processor", "config": {"query": QUERY}, "inputs": {"orders": "extract"}},
        {
            "id": "write",
            "driver": "filesystem.csv_writer",
            "config": {"path": "orders.csv"},
            "inputs": {"selected": "select"},
        },
    ]
    path = folder / f"{source.stem}.json"
    path.write_text(json.dumps({"pipeline": "orders", "steps": steps}))
    return path


def our_run(folder: Path, source: Path, *options: str, launch: Callable[..., ProcessRun] = run_process) -> ProcessRun:
    """One `osiris run` as a whole process, in a fresh session; its output is `our_output(folder)`."""
    session = folder / "session"
    shutil.rmtree(session, ignore_errors=True)
    manifest = write_manifest(folder, source)
    return launch(osiris("run", manifest, "--session-dir", session, *options), cwd=folder)


def our_output(folder: Path) -> Path:
    """The file that `our_run` wrote."""
    return folder / "session" / "artifacts" / "write" / "orders.csv"


def run_by_hand(way: str, source: Path, target: Path) -> ProcessRun:
    """The same job without us, `fused` or in `three` statements, as a whole process."""
    return run_process(python(ROOT / "benchmarks" / "by_hand.py", way, source, target))
