"""The metadata by which a sandbox of ours is found again, and whose it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from osiris_core import __version__
from remote.owner import Owner

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "osiris."
APP = "osiris.app"
"""The same for all that is ours, on whatever machine it was asked for."""
APP_VALUE = "osiris-core"
SESSION = "osiris.session"
TOKEN = "osiris.token"  # noqa: S105 - the name of a field
OWNER = "osiris.owner"
VERSION = "osiris.version"


def run_metadata(session_id: str, token: str, more: Mapping[str, str]) -> dict[str, str]:
    """What the sandbox of a run is marked with. Nothing of this machine is in it but who asked, and from where."""
    return {
        **more,
        APP: APP_VALUE,
        SESSION: session_id,
        TOKEN: token,
        OWNER: str(Owner.here()),
        VERSION: __version__,
    }
