"""Finds what runs left at the engine, by its labels: containers and volumes that nobody owns any more."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.docker_engine.client import connect
from adapters.docker_engine.errors import translate
from adapters.docker_engine.labels import OWNER, SESSION, SESSION_DIR
from adapters.docker_engine.removal import remove_container, remove_volume
from osiris_core.leftovers import Leftover
from osiris_core.session import SessionLayout, is_owned
from remote.owner import Owner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from adapters.docker_engine.client import Client

ADAPTER = "docker"


def find_leftovers(client: Client) -> list[Leftover]:
    """
    Containers, then volumes, of runs of this machine that are over or lost. Removes nothing.

    What was made on other machines is left out: whether somebody there still wants it cannot be told from here.

    Raises:
        SandboxError: The engine cannot be asked.
    """
    wanted = {"label": SESSION}
    with translate("leftovers cannot be looked for"):
        containers = client.api.containers(all=True, filters=wanted)
        volumes = client.api.volumes(filters=wanted)["Volumes"] or []
    return [
        *(_of_container(item) for item in containers if _is_nobodys(item["Labels"])),
        *(_of_volume(item) for item in volumes if _is_nobodys(item["Labels"])),
    ]


def remove_commands(client: Client, session_dir: str) -> None:
    """
    No container of a command of this session's is there on return, whoever owns the session by now.

    Raises:
        SandboxError: The engine cannot be asked.
    """
    with translate("the containers of its commands cannot be looked for"):
        found = client.api.containers(all=True, filters={"label": f"{SESSION_DIR}={session_dir}"})
    for item in found:
        owner = Owner.parse(item["Labels"].get(OWNER, ""))
        if owner is not None and owner.is_here:
            remove_container(client, item["Id"])


def remove(leftovers: Iterable[Leftover]) -> None:
    """They are gone on return; in the given order, because a volume is only free without its container."""
    for leftover in leftovers:
        leftover.remove()


def _is_nobodys(labels: Mapping[str, str]) -> bool:
    owner = Owner.parse(labels.get(OWNER, ""))
    if owner is None or not owner.is_here:
        return False
    layout = SessionLayout(Path(labels.get(SESSION_DIR, "")))
    if layout.lock_file.exists():
        return not is_owned(layout)
    return not owner.is_alive


def _of_container(item: Mapping[str, Any]) -> Leftover:
    name = item["Names"][0].removeprefix("/") if item.get("Names") else item["Id"]
    running = item.get("State") in ("running", "paused", "restarting")
    return _leftover("container", name, item, running, partial(_remove, remove_container, item["Id"]))


def _of_volume(item: Mapping[str, Any]) -> Leftover:
    return _leftover(
        "volume", item["Name"], item, is_running=False, remove=partial(_remove, remove_volume, item["Name"])
    )


def _remove(how: Callable[[Client, str], None], name: str) -> None:
    with closing(connect()) as client:
        how(client, name)


def _leftover(kind: str, name: str, item: Mapping[str, Any], is_running: bool, remove: Callable[[], None]) -> Leftover:
    labels = item["Labels"]
    return Leftover(
        adapter=ADAPTER,
        kind=kind,
        native_id=name,
        session_id=labels[SESSION],
        session_dir=labels.get(SESSION_DIR, ""),
        owner=labels[OWNER],
        created_at=_created_at(item),
        is_running=is_running,
        remove=remove,
    )


def _created_at(item: Mapping[str, Any]) -> str:
    if "CreatedAt" in item:
        return str(item["CreatedAt"])
    return datetime.fromtimestamp(int(item["Created"]), UTC).isoformat().replace("+00:00", "Z")
