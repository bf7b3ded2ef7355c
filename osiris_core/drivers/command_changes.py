"""What a command made, changed and removed in a folder, told by the file system: no file is read."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

OURS = ".osiris"
"""Sessions may lie in a workspace; they are no part of it."""


@dataclass(frozen=True)
class Changes:
    """Paths relative to the folder, sorted: files that are new or other than before, what is gone, folders made."""

    files: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()


class Snapshot:
    """
    A folder as it is now. `changes` compares it with what it is then.

    A file counts as changed by its size, times and inode, the time of its last change among them: nobody can set that
    one back. It is left out with `owners_change`: giving a file away and taking it back is no change of it. Links are
    not followed.
    """

    def __init__(self, root: Path, *, owners_change: bool = False) -> None:
        self._root = str(root)
        self._owners_change = owners_change
        self._before = _tree(self._root, owners_change)

    def changes(self) -> Changes:
        """What is other now than when the snapshot was taken."""
        before, now = self._before, _tree(self._root, self._owners_change)
        if before == now:
            return Changes()
        files = [path for path, found in now.items() if found and before.get(path) != found]
        folders = [path for path, found in now.items() if not found and before.get(path) != found]
        return Changes(tuple(sorted(files)), tuple(sorted(before.keys() - now.keys())), tuple(sorted(folders)))


def _tree(root: str, owners_change: bool) -> dict[str, tuple[int, ...]]:
    """What tells a change of everything below `root`, by relative path; () for a folder."""
    found: dict[str, tuple[int, ...]] = {}
    open_folders = [""]
    while open_folders:
        prefix = open_folders.pop()
        try:
            entries = os.scandir(f"{root}/{prefix}")
        except OSError:
            continue  # a folder that vanished, or that only another user may read
        with entries:
            for entry in entries:
                path = prefix + entry.name
                if path == OURS:
                    continue
                try:
                    status = entry.stat(follow_symlinks=False)
                except OSError:
                    continue
                if stat.S_ISDIR(status.st_mode):
                    found[path] = ()
                    open_folders.append(f"{path}/")
                else:
                    found[path] = (
                        status.st_size,
                        status.st_mtime_ns,
                        0 if owners_change else status.st_ctime_ns,
                        status.st_ino,
                        status.st_mode,
                    )
    return found
