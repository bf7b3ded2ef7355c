"""Which files of a workspace are a processor's to work on."""

from __future__ import annotations

import os
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from osiris_core.drivers.command_changes import OURS

if TYPE_CHECKING:
    from collections.abc import Iterable


def workspace_files(folder: Path, patterns: Iterable[str] = ("**/*",)) -> list[str]:
    """
    The regular files below `folder` that a glob names, sorted, as relative paths. A link counts as the file that it
    leads to, if that is in `folder` too.
    """
    root = folder.resolve()
    wanted = list(patterns)
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not (name == OURS and Path(place) == folder))
        for name in sorted(files):
            path = Path(place, name)
            relative = path.relative_to(folder).as_posix()
            if path.is_file() and path.resolve().is_relative_to(root) and any(_fits(relative, one) for one in wanted):
                found.append(relative)
    return sorted(found)


def _fits(path: str, pattern: str) -> bool:
    """As a glob has it: `**/` is any number of folders, none included."""
    return fnmatch(path, pattern) or ("**/" in pattern and _fits(path, pattern.replace("**/", "", 1)))
