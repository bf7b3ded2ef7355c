"""A worker that is started again goes on from what the one before left, and shares no file that either writes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from osiris_core.session import SessionLayout


def take_over(earlier: str, layout: SessionLayout) -> None:
    """
    Journal, artifacts and checkpoints of an earlier start are in the session folder on return.

    The earlier worker may live on, on a node that is lost to the scheduler. What it writes from now on goes into its
    own folder, where nobody looks: the journal is a copy, and of the other files those that are complete are never
    written again, so that a link does.
    """
    before = Path(earlier)
    _copy_whole_lines(before / layout.events_file.name, layout.events_file)
    for folder in (layout.artifacts_dir, layout.checkpoints_dir):
        if (source := before / folder.name).is_dir():
            shutil.copytree(source, folder, symlinks=True, copy_function=_link, dirs_exist_ok=True)


def _copy_whole_lines(source: Path, target: Path) -> None:
    if not source.is_file():
        return
    with source.open("rb") as file, target.open("wb") as copy:
        shutil.copyfileobj(file, copy, 1 << 20)


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # a file system without links
        shutil.copy2(source, target, follow_symlinks=False)
    return target
