"""What a run left at E2B, asked of the account itself: the same for a server here and for the cloud."""

from __future__ import annotations

from typing import Any


def living_sandboxes(options: dict[str, Any], session_id: str) -> list[str]:
    """The ids of the sandboxes, running or paused, that carry a session's name."""
    from adapters.e2b_cloud.account import Account
    from adapters.e2b_cloud.config import E2BConfig
    from adapters.e2b_cloud.loop import PrivateLoop
    from adapters.e2b_cloud.metadata import SESSION
    from adapters.e2b_cloud.sweep import sandboxes_with

    account = Account(E2BConfig(**options), options["api_key"])
    found = PrivateLoop.shared().run(sandboxes_with(account, {SESSION: session_id}))
    return [item.sandbox_id for item in found]
