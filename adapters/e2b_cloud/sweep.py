"""Finds sandboxes of an account that runs of this machine left, and nobody owns any more, by their metadata."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from e2b import SandboxQuery

from adapters.e2b_cloud.loop import PrivateLoop
from adapters.e2b_cloud.metadata import APP, APP_VALUE, OWNER, SESSION, TOKEN
from osiris_core.leftovers import Leftover
from osiris_core.session import SessionLayout, is_owned, read_json
from remote.owner import Owner

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from adapters.e2b_cloud.account import Account


@dataclass(frozen=True)
class Found:
    """A sandbox of ours, as the control plane lists it."""

    sandbox_id: str
    metadata: dict[str, str]
    is_running: bool
    started_at: str


async def sandboxes_with(account: Account, metadata: dict[str, str]) -> list[Found]:
    """All sandboxes, running or paused, that carry this metadata."""
    found: list[Found] = []
    pages = account.sandboxes.list(query=SandboxQuery(metadata=metadata))
    while pages.has_next:
        found += [_found(item) for item in await pages.next_items()]
    return found


def _found(item: Any) -> Found:
    started_at = item.started_at.isoformat(timespec="seconds").replace("+00:00", "Z")
    state = getattr(item.state, "value", item.state)
    return Found(str(item.sandbox_id), dict(item.metadata or {}), str(state) == "running", started_at)


def find_leftovers(account: Account, session_dirs: Iterable[Path]) -> list[Leftover]:
    """
    Sandboxes of runs of this machine that are over or lost. Removes nothing.

    What was asked for on other machines is left out: whether somebody there still wants it cannot be told from here.

    Raises:
        SandboxError: The account cannot be asked.
    """
    with account.errors("leftovers cannot be looked for"):
        found = PrivateLoop.shared().run(sandboxes_with(account, {APP: APP_VALUE}))
    places = _session_dirs_by_token(session_dirs) if found else {}
    return [
        Leftover(
            adapter="e2b",
            kind="sandbox",
            native_id=item.sandbox_id,
            session_id=item.metadata.get(SESSION, ""),
            session_dir=str(places.get(item.metadata.get(TOKEN, ""), "")),
            owner=item.metadata.get(OWNER, ""),
            created_at=item.started_at,
            is_running=item.is_running,
            remove=partial(_remove, account, item.sandbox_id),
        )
        for item in found
        if _is_nobodys(item.metadata, places)
    ]


def _session_dirs_by_token(session_dirs: Iterable[Path]) -> dict[str, Path]:
    return {
        str(run["token"]): folder
        for folder in session_dirs
        if "token" in (run := read_json(SessionLayout(folder).run_file) or {})
    }


def _is_nobodys(metadata: dict[str, str], places: dict[str, Path]) -> bool:
    owner = Owner.parse(metadata.get(OWNER, ""))
    if owner is None or not owner.is_here:
        return False
    if (folder := places.get(metadata.get(TOKEN, ""))) is not None:
        return not is_owned(SessionLayout(folder))
    return not owner.is_alive


def _remove(account: Account, sandbox_id: str) -> None:
    with account.errors(f"sandbox {sandbox_id} cannot be removed"):
        PrivateLoop.shared().run(account.sandboxes.kill(sandbox_id))
