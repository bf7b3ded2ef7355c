"""What a run left somewhere, that nobody owns any more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any


@dataclass(frozen=True)
class Leftover:
    """
    One thing outside the session directory that an adapter made, and whose run is over or lost.

    Attributes:
        adapter: Who made it.
        kind: What it is, in a word (`container`, `volume`, `image`).
        native_id: What it is called where it is.
        session_id: The run it was made for.
        session_dir: Where that run was written down, on the machine of its owner.
        owner: The process that made it, for people.
        created_at: When, as the place tells it; empty when it does not.
        is_running: Whether something in it still runs.
        remove: Makes it gone. May be called twice.
    """

    adapter: str
    kind: str
    native_id: str
    session_id: str
    session_dir: str
    owner: str
    created_at: str
    is_running: bool
    remove: Callable[[], None]


def may_have_left(recorded: Mapping[str, Any]) -> bool:
    """Whether something was made elsewhere for a run, as `run.json` has it, that was not seen to be gone."""
    return bool(recorded.get("token")) and not recorded.get("freed")
