"""Gives a folder's files to the user of a container while a command runs, and takes them back."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def lend(folder: Path, uid: int, gid: int) -> Callable[[], None]:
    """
    Everything below `folder` belongs to `uid:gid` on return; the function that is given takes it back.

    What was there then belongs to whom it did, and what was made meanwhile to whom the folder does. Links are not
    followed. Only root can do this; of what it may not change the owner stays.
    """
    owners: dict[str, tuple[int, int]] = {}
    for path in _below(folder):
        status = os.lstat(path)
        owners[path] = (status.st_uid, status.st_gid)
    mine = owners[str(folder)]
    if os.getuid() == 0:
        for path, owner in owners.items():
            if owner != (uid, gid):
                os.lchown(path, uid, gid)

    def take_back() -> None:
        if os.getuid() != 0:
            return
        for path in _below(folder):
            with suppress(OSError):  # it vanished meanwhile
                status = os.lstat(path)
                owner = owners.get(path, mine)
                if (status.st_uid, status.st_gid) != owner:
                    os.lchown(path, *owner)

    return take_back


def _below(folder: Path) -> Iterator[str]:
    yield str(folder)
    for place, folders, files in os.walk(folder):
        yield from (os.path.join(place, name) for name in (*folders, *files))  # noqa: PTH118 - hundreds of thousands
