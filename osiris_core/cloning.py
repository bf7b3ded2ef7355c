"""A copy of a file that costs nothing where the file system can share blocks (btrfs, XFS), and is read nowhere else."""

from __future__ import annotations

import fcntl
import os
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_FICLONE = 0x40049409


def clone(source: Path, target: Path) -> None:
    """
    `target`, which must not be there, has the bytes, permissions and times of `source`; either may then change alone.

    Raises:
        OSError: It cannot be; there is no `target` then.
    """
    try:
        with source.open("rb") as original, target.open("xb") as copy:
            try:
                fcntl.ioctl(copy, _FICLONE, original.fileno())
            except OSError:
                shutil.copyfile(source, target)
        shutil.copystat(source, target)
    except FileExistsError:
        raise
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def clone_or_link(source: Path, target: Path) -> bool:
    """
    As `clone`; where there is no room for a copy, the same file under another name: what changes one changes both.

    Returns whether it is a copy. Raises OSError when it is neither.
    """
    try:
        clone(source, target)
    except FileExistsError:
        raise
    except OSError:
        os.link(source, target)
        return False
    return True
