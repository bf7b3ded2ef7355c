"""A long step's CPU and memory are sampled over the whole tree of processes, a short one's are not."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from osiris_core import AdapterFactory, ExecutionContext, read_events

if TYPE_CHECKING:
    from pathlib import Path


def samples(tmp_path: Path, code: str) -> dict[str, list[float]]:
    manifest = {"steps": [{"id": "a", "driver": "command", "config": {"argv": [sys.executable, "-c", code]}}]}
    report = AdapterFactory.create("local").run(manifest, ExecutionContext(session_dir=str(tmp_path / "session")))
    assert report.succeeded, report.error
    found: dict[str, list[float]] = {}
    for event in read_events(tmp_path / "session" / "events.jsonl"):
        if event["event"] == "metric" and event["tags"] == {"sample": True}:
            found.setdefault(event["name"], []).append(event["value"])
    return found


def test_a_long_step(tmp_path):
    """The memory of a command started by the step is in its samples, and the number of processes counts it."""
    found = samples(tmp_path, "import time; data = b'x' * (300 << 20); time.sleep(2.6)")
    assert max(found["memory_mb"]) > 300
    assert max(found["processes"]) >= 2


def test_a_short_step(tmp_path):
    """A step of a moment leaves no samples in the journal."""
    assert samples(tmp_path, "pass") == {}
