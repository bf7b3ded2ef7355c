"""Removes a container and its volume, whatever state they are in, and makes sure that they are gone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from docker import errors as vendor  # type: ignore[import-untyped, unused-ignore]

from adapters.docker_engine.client import knock
from adapters.docker_engine.errors import EngineUnreachable, translate
from remote.sandbox import SandboxError

if TYPE_CHECKING:
    from collections.abc import Callable

    from adapters.docker_engine.client import Client

PATIENCE_S = 30.0
"""How long an engine that is being restarted, or busy removing, is waited for."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.02, 1.0


def remove_container(client: Client, name: str, patience_s: float = PATIENCE_S) -> None:
    """
    The container, its processes and its nameless volumes are gone on return. One that is not there is no error.

    Raises:
        SandboxError: It could not be removed within `patience_s`.
    """

    def remove() -> bool:
        try:
            client.api.remove_container(name, force=True, v=True)
        except vendor.NotFound:
            return True
        except vendor.APIError as exc:
            if exc.status_code != 409:  # 409: it is being removed already
                raise
        return False

    _insist(remove, f"container {name} cannot be removed", patience_s)


def remove_volume(client: Client, name: str, patience_s: float = PATIENCE_S) -> None:
    """The volume is gone on return. One that is not there is no error; raises as `remove_container` does."""

    def remove() -> bool:
        try:
            client.api.remove_volume(name, force=True)
        except vendor.NotFound:
            return True
        except vendor.APIError as exc:
            if exc.status_code != 409:  # 409: a container that is being removed still uses it
                raise
            return False
        return True

    _insist(remove, f"volume {name} cannot be removed", patience_s)


def _insist(remove: Callable[[], bool], what: str, patience_s: float) -> None:
    deadline_s = time.monotonic() + patience_s
    pause_s = 0.0
    while True:
        last: SandboxError | None = None
        try:
            with translate(what):
                knock()
                if remove():
                    return
        except SandboxError as exc:
            if not isinstance(exc, EngineUnreachable) and time.monotonic() >= deadline_s:
                raise
            last = exc
        if time.monotonic() >= deadline_s:
            reason = str(last) if last is not None else f"{what}: the engine is still busy with it"
            raise SandboxError(f"{reason}; it is removed by `osiris runs gc`") from last
        time.sleep(pause_s)  # the first look at what was removed follows at once
        pause_s = min(max(pause_s * 2, FIRST_PAUSE_S), LONGEST_PAUSE_S)
