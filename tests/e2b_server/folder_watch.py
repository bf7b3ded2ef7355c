"""What changed in a folder since the last look."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Look(NamedTuple):
    """What is seen of one file; of a folder not its size and time, which tell of what is in it."""

    inode: int
    size: int
    changed_ns: int
    mode: int


class FolderWatch:
    """Compares looks: what came and went between two of them is not seen."""

    def __init__(self, folder: Path, *, recursive: bool) -> None:
        self._folder, self._recursive = folder, recursive
        self._known = self._look()

    def _look(self) -> dict[str, Look]:
        found: dict[str, Look] = {}
        for base, folders, names in os.walk(self._folder):
            for name in (*folders, *names):
                path = os.path.join(base, name)
                try:
                    status = os.lstat(path)
                except FileNotFoundError:
                    continue
                content = (0, 0) if stat.S_ISDIR(status.st_mode) else (status.st_size, status.st_mtime_ns)
                look = Look(status.st_ino, *content, status.st_mode)
                found[os.path.relpath(path, self._folder)] = look
            if not self._recursive:
                break
        return found

    def changes(self) -> Iterator[tuple[str, str]]:
        """Kind and name, relative to the folder."""
        before, now = self._known, self._look()
        self._known = now
        inodes_now = {look.inode for look in now.values()}
        for name in before.keys() - now.keys():
            yield ("EVENT_TYPE_RENAME" if before[name].inode in inodes_now else "EVENT_TYPE_REMOVE"), name
        for name, look in now.items():
            was = before.get(name)
            if was is None:
                yield "EVENT_TYPE_CREATE", name
                if look.size:
                    yield "EVENT_TYPE_WRITE", name
            elif was[:3] != look[:3]:
                yield "EVENT_TYPE_WRITE", name
            elif was.mode != look.mode:
                yield "EVENT_TYPE_CHMOD", name
