"""Sandboxes of a run that were made before: found by their id or by the run's token, taken over or killed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adapters.e2b_cloud.errors import SandboxGone
from adapters.e2b_cloud.line import LAST_WAIT_S
from adapters.e2b_cloud.metadata import TOKEN
from adapters.e2b_cloud.sweep import sandboxes_with

if TYPE_CHECKING:
    from adapters.e2b_cloud.creation import Wanted
    from adapters.e2b_cloud.line import Line


def adopted(line: Line, wanted: Wanted, native_id: str | None) -> Any:
    """
    The sandbox of that id, else the one that carries the token, as the SDK's object; one that is paused is woken up.

    None when there is none.

    Raises:
        SandboxError: E2B cannot be asked.
    """
    if native_id is None:
        looked = sandboxes_with(line.account, {TOKEN: wanted.token})
        found = line.ask("list", "the sandbox cannot be looked for", looked, of_account=True)
        if not found:
            return None
        native_id = found[0].sandbox_id
    connecting = line.account.sandboxes.connect(native_id, timeout=wanted.lifetime.asked_s)
    try:
        return line.ask("connect", "the sandbox cannot be connected to", connecting, of_account=True)
    except SandboxGone:
        return None


def kill(line: Line, sandbox_id: str) -> None:
    """It is gone on return, if it was there. Raises SandboxError when E2B does not say so soon."""
    killing = line.account.sandboxes.kill(sandbox_id)
    line.ask("kill", "the sandbox cannot be killed", killing, limit_s=LAST_WAIT_S, of_account=True)


def kill_all(line: Line, token: str) -> int:
    """Every sandbox that carries the token is gone on return; how many that were. Raises as `kill` does."""
    looked = sandboxes_with(line.account, {TOKEN: token})
    found = line.ask("list", "the sandbox cannot be looked for", looked, limit_s=LAST_WAIT_S, of_account=True)
    for item in found:
        kill(line, item.sandbox_id)
    return len(found)
