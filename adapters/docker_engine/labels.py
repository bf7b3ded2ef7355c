"""The labels by which what we made is found again, and whose it is."""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING

from remote.owner import Owner

if TYPE_CHECKING:
    from collections.abc import Mapping

SESSION = "osiris.session"
SESSION_DIR = "osiris.session_dir"
TOKEN = "osiris.token"  # noqa: S105 - the name of a label
OWNER = "osiris.owner"
VERSION = "osiris.version"


def run_labels(session_id: str, session_dir: str, token: str, more: Mapping[str, str]) -> dict[str, str]:
    """What container and volume of a run are marked with."""
    return {
        **more,
        SESSION: session_id,
        SESSION_DIR: session_dir,
        TOKEN: token,
        OWNER: str(Owner.here()),
        VERSION: _version(),
    }


def _version() -> str:
    try:
        return metadata.version("osiris-core")
    except metadata.PackageNotFoundError:
        return "unknown"
