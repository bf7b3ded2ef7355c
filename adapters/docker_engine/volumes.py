"""`host:container[:ro|rw]`, parsed strictly: what of this machine is seen in a container."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.docker_engine.values import VOLUME_DIR, container_path, refuse
from osiris_core.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import PurePosixPath

__all__ = ["VOLUME_DIR", "Volume", "parse_volumes"]

_SOCKETS = (
    "/run/docker.sock",
    "/var/run/docker.sock",
    "/run/containerd/containerd.sock",
    "/run/podman/podman.sock",
    "/run/crio/crio.sock",
)
_USERS_SOCKETS = ("docker.sock", "podman/podman.sock")
"""Where engines without root listen, below a user's runtime folder."""

_DESKTOP_SOCKETS = (".docker/run/docker.sock", ".docker/desktop/docker.sock")
_SOCKET_URL = re.compile(r"(?:http\+)?unix:/*(.+)")


@dataclass(frozen=True)
class Volume:
    """One bind mount; `host` is absolute, and need not exist."""

    host: Path
    container: PurePosixPath
    read_only: bool

    def to_mount(self) -> dict[str, Any]:
        """The mount as the engine's API takes it. It refuses a host path that is not there, and makes none."""
        return {"Type": "bind", "Source": str(self.host), "Target": str(self.container), "ReadOnly": self.read_only}

    def missing(self) -> str | None:
        """Why nothing can be there to mount; None also where the engine is on a machine whose files we cannot see."""
        if not _engine_is_here() or self.host.exists():
            return None
        return f"Host path does not exist: {self.host}"

    def problem(self) -> Problem | None:
        """Why it cannot be mounted, as this machine is now."""
        key = "docker.volumes"
        try:
            mode = self.host.stat().st_mode
        except OSError as exc:
            hint = "give a path of this machine; volumes of the engine's own are not mounted"
            return Problem(f"{self.host} cannot be mounted: {exc.strerror}", key=key, hint=hint)
        real = self.host.resolve()
        if stat.S_ISSOCK(mode) or any(socket.resolve().is_relative_to(real) for socket in _sockets()):
            message = f"{self.host} would hand the container a socket of this machine's"
            return Problem(message, key=key, hint="who has the engine's socket is root here; mount what is needed only")
        return None


def parse_volumes(texts: Iterable[str]) -> list[Volume]:
    """
    The mounts, in order. One host path may be mounted in several places.

    Raises:
        ValueError: Some are not of that form, or meet in the container; it names them all.
    """
    volumes: list[Volume] = []
    problems = []
    for text in texts:
        try:
            volume = _parse(text)
        except ValueError as exc:
            problems.append(f"{text!r}: {exc}")
            continue
        if any(other.container == volume.container for other in volumes):
            problems.append(f"{text!r}: {volume.container} is taken by another volume")
        volumes.append(volume)
    refuse(problems)
    return volumes


def _parse(text: str) -> Volume:
    rest, _, last = text.rpartition(":")
    mode = "rw"
    if last in ("ro", "rw"):
        mode, (rest, _, last) = last, rest.rpartition(":")
    if not rest or not last or "\0" in text:
        raise ValueError("write it as host:container or host:container:ro")
    if not last.startswith("/"):
        raise ValueError(f"{last!r} must be an absolute path in the container, or the mode ro or rw")
    return Volume(Path(rest).expanduser().absolute(), container_path(last), mode == "ro")


def _engine_is_here() -> bool:
    host = os.environ.get("DOCKER_HOST", "")
    return not host or _SOCKET_URL.fullmatch(host) is not None


def _sockets() -> Iterator[Path]:
    """The engines' sockets that are there now: those that are named in the environment, and the usual ones."""
    places = [Path(place) for place in _SOCKETS]
    for name in ("DOCKER_HOST", "CONTAINER_HOST"):
        match = _SOCKET_URL.fullmatch(os.environ.get(name, ""))
        if match is not None:
            places.append(Path("/" + match[1]))
    folders = {Path(f"/run/user/{os.getuid()}"), Path(os.environ.get("XDG_RUNTIME_DIR") or "/run")}
    places += [folder / name for folder in sorted(folders) for name in _USERS_SOCKETS]
    places += [Path(os.path.expanduser("~")) / name for name in _DESKTOP_SOCKETS]  # noqa: PTH111 - never raises
    return (place for place in places if _may_be_there(place))


def _may_be_there(place: Path) -> bool:
    try:
        place.stat()
    except PermissionError:
        return True  # we may not look; who is root in a container may
    except OSError:
        return False
    return True
