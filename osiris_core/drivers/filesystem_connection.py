"""Whether a connection of family `filesystem` leads to a folder: for `osiris doctor --connections`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osiris_core.errors import StepError

if TYPE_CHECKING:
    from collections.abc import Mapping


def check_folder(connection: Mapping[str, Any]) -> str:
    """
    Look at `base_dir`; a relative one is looked at from here, though in a run it starts at the manifest's folder.

    Raises:
        StepError: It is no folder that can be read.
    """
    base_dir = connection.get("base_dir")
    if not isinstance(base_dir, str) or not base_dir:
        raise StepError("base_dir is missing")
    folder = Path(base_dir).expanduser()
    if not folder.is_dir():
        raise StepError(f"there is no folder {folder.absolute()}")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise StepError(f"{folder.absolute()} may not be read")
    return f"{folder.absolute()} is there"
