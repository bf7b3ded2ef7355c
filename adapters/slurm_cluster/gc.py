"""Finds what runs left on the cluster and on its shared file system, and nobody owns any more."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.slurm_cluster.array import ARRAYS_FOLDER
from adapters.slurm_cluster.place import ARRAY_FILE, LINK_PREFIX, RUNS_FOLDER, owner_of
from adapters.slurm_cluster.pool import POOLS_FOLDER
from adapters.slurm_cluster.removal import cancel_jobs
from adapters.slurm_cluster.submit import OurJob, our_jobs
from osiris_core.leftovers import Leftover
from osiris_core.session import SessionLayout, is_owned, read_json
from remote.owner import Owner
from remote.pilot import TICKETS_FILE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

KINDS = {RUNS_FOLDER: "run", POOLS_FOLDER: "pilots", ARRAYS_FOLDER: "array"}


def find_leftovers(session_dirs: Iterable[Path], shared_dirs: Iterable[str]) -> Iterator[Leftover]:
    """
    Folders of runs, pilots and arrays whose owner is dead, with their jobs. Removes nothing. Who attached to a run
    owns it from then on, and with it the array that it is of, or the pilots that have it.

    They are looked for where links in the sessions point, where jobs of this user's have their scripts, and in
    `shared_dirs`. What was made on other machines is left out: whether it is wanted cannot be told from here.

    Raises:
        SandboxError: Slurm cannot be asked.
    """
    jobs = our_jobs(active=True)
    links = [link for session_dir in session_dirs for link in session_dir.glob(f"{LINK_PREFIX}*") if link.is_symlink()]
    roots = {Path(os.readlink(link)).parent.parent for link in links}  # noqa: PTH115 - its target may be gone
    roots |= {Path(job.folder).parent.parent for job in jobs if job.folder is not None}
    roots |= {Path(shared).expanduser().absolute() for shared in shared_dirs}
    for root in sorted(roots):
        for kind in KINDS:
            for folder in sorted(root.glob(f"{kind}/osiris-*")):
                owner = owner_of(folder)
                if owner is not None and _is_nobodys(owner) and all(map(_is_nobodys, _owners_in(folder))):
                    yield _leftover(KINDS[kind], folder, owner, _jobs_of(folder, str(owner["token"]), jobs))


def _owners_in(folder: Path) -> Iterator[dict[str, Any]]:
    """Of the runs of an array, or of those that were handed in to pilots, as far as they are there."""
    places = [link for link in folder.iterdir() if link.name.isdecimal()]
    with suppress(OSError):
        lines = (folder / TICKETS_FILE).read_text(encoding="utf-8").splitlines()
        places += [Path(json.loads(line)["message"]["place"]) for line in lines]
    yield from (owner for place in places if (owner := owner_of(place)) is not None)


def _jobs_of(folder: Path, token: str, jobs: list[OurJob]) -> list[str]:
    """The jobs that may still run something of a folder's."""
    element = read_json(folder / ARRAY_FILE)
    if element is not None:
        return [f"{job.job_id}_{element['index']}" for job in jobs if job.token == element["token"]]
    return [job.job_id for job in jobs if job.token == token or job.token.startswith(f"{token}-")]


def _is_nobodys(owner: dict[str, Any]) -> bool:
    maker = Owner.parse(str(owner["owner"]))
    if maker is None or not maker.is_here:
        return False
    if owner["session_dir"]:
        layout = SessionLayout(Path(owner["session_dir"]))
        if layout.lock_file.exists():
            return not is_owned(layout)
    return not maker.is_alive


def _leftover(kind: str, folder: Path, owner: dict[str, Any], jobs: list[str]) -> Leftover:
    created = datetime.fromtimestamp(folder.stat().st_mtime, UTC)
    return Leftover(
        adapter="slurm",
        kind=f"job and {kind} folder" if jobs else f"{kind} folder",
        native_id=", ".join(jobs) or folder.name,
        session_id=str(owner["session_id"]),
        session_dir=str(owner["session_dir"]),
        owner=str(owner["owner"]),
        created_at=created.isoformat(timespec="seconds").replace("+00:00", "Z"),
        is_running=bool(jobs),
        remove=partial(_remove, folder, str(owner["session_dir"]), str(owner["token"]), jobs),
    )


def _remove(folder: Path, session_dir: str, token: str, jobs: list[str]) -> None:
    cancel_jobs(jobs)
    shutil.rmtree(folder, ignore_errors=True)
    if session_dir:
        (Path(session_dir) / f"{LINK_PREFIX}{token[:8]}").unlink(missing_ok=True)
