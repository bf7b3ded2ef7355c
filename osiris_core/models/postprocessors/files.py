"""Which files of a workspace are a processor's to work on."""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from osiris_core.drivers.command_changes import OURS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def workspace_files(folder: Path, patterns: Iterable[str] = ("**/*",)) -> list[str]:
    """
    The regular files below `folder` that a glob names, sorted, as relative paths; `name/**` is all that is below it. A
    link counts as the file that it leads to, if that is in `folder` too.
    """
    root = folder.resolve()
    wanted = [PurePosixPath(pattern).parts for pattern in patterns]
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not (name == OURS and Path(place) == folder))
        for name in sorted(files):
            path = Path(place, name)
            relative = path.relative_to(folder)
            if not any(_fits(relative.parts, pattern) for pattern in wanted):
                continue
            if path.is_file() and path.resolve().is_relative_to(root):
                found.append(relative.as_posix())
    return sorted(found)


def _fits(path: Sequence[str], pattern: Sequence[str]) -> bool:
    """As a glob has it, folder by folder: `*` stays in its folder, `**` is any number of folders, none included."""
    if not pattern:
        return not path
    if pattern[0] == "**":
        return (not pattern[1:] and bool(path)) or any(_fits(path[n:], pattern[1:]) for n in range(len(path)))
    return bool(path) and fnmatchcase(path[0], pattern[0]) and _fits(path[1:], pattern[1:])
