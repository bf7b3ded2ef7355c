"""Finds workers on this machine whose run nobody owns any more: their processes and their folders."""

from __future__ import annotations

import os
import shutil
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from osiris_core.leftovers import Leftover
from osiris_core.process_scan import descendants, process_entries
from osiris_core.session import SessionLayout, is_owned, read_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MARKER = "OSIRIS_WORKER_TOKEN"
"""The variable in a worker's environment that holds its token, by which it is found again."""
PREFIX = "process-"
GRACE_S = 5.0
"""How long a supervisor may take to end what is below it, before everything is killed."""


@dataclass(frozen=True)
class Worker:
    """A worker that runs: its token and its folder, which may be gone."""

    token: str
    folder: Path


def find_leftovers(session_dirs: Iterable[Path]) -> Iterator[Leftover]:
    """
    Workers that run for nobody, wherever their session is; then folders of dead ones in `session_dirs`.

    Removes nothing. Workers of other users cannot be seen.
    """
    workers = {worker.folder: worker for worker in running_workers()}
    dead = {folder for session_dir in session_dirs for folder in session_dir.glob(f"{PREFIX}*") if folder.is_dir()}
    for folder in [*workers, *sorted(dead - workers.keys())]:
        worker = workers.get(folder)
        layout = SessionLayout(folder.parent)
        run = read_json(layout.run_file) or {}
        ours = worker is None or str(run.get("token")) == worker.token
        if ours and is_owned(layout):
            continue
        yield Leftover(
            adapter="process",
            kind="worker",
            native_id=folder.name,
            session_id=str(run.get("session_id", folder.parent.name)),
            session_dir=str(folder.parent),
            owner=f"pid {run.get('pid')}",
            created_at=_created_at(folder),
            is_running=worker is not None,
            remove=partial(remove, folder, worker.token if worker is not None else None),
        )


def running_workers() -> Iterator[Worker]:
    """Every worker that runs on this machine and can be seen."""
    found: set[str] = set()
    for entry in process_entries():
        token = token_of(entry.pid) if entry.alive else None
        if token is None or token in found:
            continue
        try:
            place = os.readlink(f"/proc/{entry.pid}/cwd").removesuffix(" (deleted)")  # noqa: PTH115 - as it is
        except OSError:
            continue
        # A supervisor is in its folder, an engine below it.
        for path in (Path(place), *Path(place).parents):
            if path.name == f"{PREFIX}{token[:8]}":
                found.add(token)
                yield Worker(token, path)
                break


def remove(folder: Path, token: str | None) -> None:
    """No process of the worker runs on return, and its folder is gone. May be called twice."""
    if token is not None:
        end_processes(token)
    shutil.rmtree(folder, ignore_errors=True)


def end_processes(token: str) -> None:
    """No process of the worker with this token runs on return."""
    _signal(processes_of(token), signal.SIGTERM)  # the supervisor ends what is below it better than anybody
    deadline_s = time.monotonic() + GRACE_S
    while (pids := processes_of(token)) and time.monotonic() < deadline_s + GRACE_S:
        if time.monotonic() > deadline_s:
            _signal(pids, signal.SIGKILL)
        time.sleep(0.02)


def _created_at(folder: Path) -> str:
    try:
        created = datetime.fromtimestamp(folder.stat().st_ctime, UTC)
    except OSError:
        return ""
    return created.isoformat(timespec="seconds").replace("+00:00", "Z")


def token_of(pid: int) -> str | None:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return None
    for item in environment.split(b"\0"):
        name, _, value = item.partition(b"=")
        if name == MARKER.encode():
            return value.decode("ascii", "replace")
    return None


def processes_of(token: str) -> list[int]:
    """Every process that shows the token, and everything below them."""
    entries = list(process_entries())
    marked = [entry for entry in entries if token_of(entry.pid) == token]
    below = descendants([entry.pid for entry in marked], entries)
    return sorted(entry.pid for entry in (*marked, *below) if entry.alive)


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(OSError):
            os.kill(pid, number)
