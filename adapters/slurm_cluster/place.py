"""The folder of one run on the shared file system: what is in it beside the worker's own files."""

from __future__ import annotations

import json
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from osiris_core.journal import JOURNAL_NAME
from osiris_core.session import read_json
from remote import folders
from remote.owner import Owner

RUNS_FOLDER = "runs"
OWNER_FILE = "owner.json"
SCRIPT_FILE = "job.sh"
ARRAY_FILE = "array.json"
"""Which element of which array the run is."""
LINK_PREFIX = "slurm-"
SESSION_FOLDER = "slurm"
"""What stands in a session directory for the shared folder, where there is none."""
REMOVE_LIMIT_S = 5.0
_JOURNAL_FILE = f"{folders.SESSION_FOLDER}/{JOURNAL_NAME}"


def pilot_file(number: int) -> str:
    """The script of one of several pilots, which have a folder in common: by its name the job can be found again."""
    return f"job-{number}.sh"


class Place:
    """
    Made by `make`; found again by its token.

    Attributes:
        root: The folder. Files of the first start are in it; those of later starts in folders of it (`current`).
    """

    def __init__(self, shared_dir: str | Path | None, token: str, session_dir: str) -> None:
        self._token = token
        self._session_dir = Path(session_dir)
        self._own_folder = None if shared_dir is not None else self._session_dir.absolute() / SESSION_FOLDER
        base = self._own_folder or Path(str(shared_dir)).expanduser().absolute()
        self.root = base / RUNS_FOLDER / f"osiris-{token}"
        self.link = self._session_dir / f"{LINK_PREFIX}{token[:8]}"

    def make(self, session_id: str) -> None:
        """
        It is there on return, for its owner alone, and the session directory has a link to it.

        Raises:
            OSError: It cannot be made.
        """
        self.root.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.root.mkdir(mode=0o700)
        _prepare(self.root)
        write_owner(self.root, self._token, session_id, str(self._session_dir))
        self.link.symlink_to(self.root)

    def current(self, restarts: int) -> Path:
        """Where the worker of a start works."""
        return self.root / f"{folders.RESTART_PREFIX}{restarts}" if restarts else self.root

    def began(self, restarts: int) -> tuple[str, str] | None:
        """The node on which that start began, once it did, and the job that it is in."""
        text = _text(self.current(restarts) / folders.BEGAN_FILE)
        if text is None:
            return None
        node, _, job_id = text.partition(" ")
        return node, job_id

    def exit_code(self, restarts: int) -> int | None:
        """How the worker of that start ended, once it did."""
        text = _text(self.current(restarts) / folders.EXIT_FILE)
        return int(text) if text is not None and text.isdigit() else None

    def has_results(self, restarts: int) -> bool:
        """Whether an engine came to write its journal."""
        try:
            with (self.current(restarts) / _JOURNAL_FILE).open("rb") as file:
                return bool(file.read(1))
        except OSError:
            return False

    def written_bytes(self, restarts: int) -> tuple[int, ...]:
        """How much that start's worker wrote, into each of the files that it says something in."""
        found = []
        for name in (_JOURNAL_FILE, folders.REPLIES_FILE):
            with suppress(OSError), (self.current(restarts) / name).open("rb") as file:
                found.append(file.seek(0, os.SEEK_END))
        return tuple(found)

    def restart_begins(self, restarts: int) -> None:
        """That start has a folder; an earlier worker that lives on sees that, and ends."""
        _prepare(self.current(restarts))

    def remove_order(self) -> None:
        """What only this run's worker could read is gone."""
        (self.root / folders.ORDER_FILE).unlink(missing_ok=True)

    def remove(self) -> bool:
        """Whether all of it is gone; a file that a node still holds open may keep it for a moment."""
        deadline_s = time.monotonic() + REMOVE_LIMIT_S
        while True:
            shutil.rmtree(self.root, ignore_errors=True)
            if not self.root.exists():
                self.link.unlink(missing_ok=True)
                if self._own_folder is not None:
                    with suppress(OSError):  # another attempt's is kept there
                        self.root.parent.rmdir()
                        self._own_folder.rmdir()
                return True
            if time.monotonic() > deadline_s:
                return False
            time.sleep(0.2)


def _prepare(folder: Path) -> None:
    """
    All that is followed of a worker is there before it is looked for: that a file which was seen grows is seen from
    another machine at once, but that there is a new one may take a minute (NFS remembers what is not there).
    """
    for name in (_JOURNAL_FILE, folders.REPLIES_FILE, folders.BEGAN_FILE, folders.EXIT_FILE):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def write_owner(folder: Path, token: str, session_id: str, session_dir: str = "") -> None:
    """Who made a folder, for what, is written down in it."""
    facts = {"token": token, "session_id": session_id, "session_dir": session_dir, "owner": str(Owner.here())}
    (folder / OWNER_FILE).write_text(json.dumps(facts), encoding="utf-8")


def owner_of(folder: Path) -> dict[str, Any] | None:
    """What `write_owner` wrote; None when it is no folder of ours."""
    facts = read_json(folder / OWNER_FILE)
    return facts if facts is not None and {"token", "session_id", "session_dir", "owner"} <= facts.keys() else None


def _text(path: Path) -> str | None:
    with suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace").strip() or None
    return None
