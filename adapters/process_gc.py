"""Finds workers on this machine whose run nobody owns any more: their processes and their folders."""

from __future__ import annotations

import os
import shutil
import signal
import time
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from osiris_core.leftovers import Leftover
from osiris_core.process_scan import has_marker, process_entries
from osiris_core.session import SessionLayout, is_owned, read_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

GRACE_S = 5.0
"""How long a supervisor may take to end what is below it, before everything is killed."""


def find_leftovers(session_dirs: Iterable[Path], marker: str) -> Iterator[Leftover]:
    """
    Worker folders in sessions that no process owns, with the processes that still run for them. Removes nothing.

    `marker` is the variable in a worker's environment that holds its token.
    """
    for session_dir in session_dirs:
        layout = SessionLayout(session_dir)
        folders = [path for path in session_dir.glob("process-*") if path.is_dir()]
        if not folders or is_owned(layout):
            continue
        run = read_json(layout.run_file) or {}
        for folder in folders:
            token = str(run.get("token", ""))
            ours = f"{marker}={token}" if token and folder.name == f"process-{token[:8]}" else None
            created = datetime.fromtimestamp(folder.stat().st_ctime, UTC).isoformat(timespec="seconds")
            yield Leftover(
                adapter="process",
                kind="worker",
                native_id=folder.name,
                session_id=str(run.get("session_id", session_dir.name)),
                session_dir=str(session_dir),
                owner=f"pid {run.get('pid')}",
                created_at=created.replace("+00:00", "Z"),
                is_running=ours is not None and bool(_marked(ours)),
                remove=partial(_remove, folder, ours),
            )


def _marked(marker: str) -> list[int]:
    """Every process that shows the marker, and everything below them."""
    entries = [entry for entry in process_entries() if entry.alive]
    found = {entry.pid for entry in entries if has_marker(entry.pid, marker.encode())}
    grown = True
    while grown:
        more = {entry.pid for entry in entries if entry.parent in found and entry.pid not in found}
        found |= more
        grown = bool(more)
    return sorted(found)


def _remove(folder: Path, marker: str | None) -> None:
    if marker is not None:
        _signal(_marked(marker), signal.SIGTERM)
        deadline_s = time.monotonic() + GRACE_S
        while (pids := _marked(marker)) and time.monotonic() < deadline_s + GRACE_S:
            if time.monotonic() > deadline_s:
                _signal(pids, signal.SIGKILL)
            time.sleep(0.02)
    shutil.rmtree(folder, ignore_errors=True)


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(OSError):
            os.kill(pid, number)
