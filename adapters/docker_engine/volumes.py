"""`host:container[:ro|rw]`, parsed strictly: what of this machine is seen in a container."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from osiris_core.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable

VOLUME_DIR = PurePosixPath("/osiris")
"""Where a run's own volume is mounted; its folders are below it."""

_RESERVED = tuple(map(PurePosixPath, ("/proc", "/sys", "/dev", "/opt/osiris", str(VOLUME_DIR))))
_SOCKETS = tuple(map(Path, ("/run/docker.sock", "/var/run/docker.sock", "/run/containerd/containerd.sock")))


@dataclass(frozen=True)
class Volume:
    """One bind mount; `host` is absolute, and need not exist."""

    host: Path
    container: PurePosixPath
    read_only: bool

    def to_mount(self) -> dict[str, Any]:
        """The mount as the engine's API takes it. It refuses a host path that is not there, and makes none."""
        return {"Type": "bind", "Source": str(self.host), "Target": str(self.container), "ReadOnly": self.read_only}

    def problem(self) -> Problem | None:
        """Why it cannot be mounted, as this machine is now."""
        key = "docker.volumes"
        try:
            mode = self.host.stat().st_mode
        except OSError as exc:
            hint = "give a path of this machine; volumes of the engine's own are not mounted"
            return Problem(f"{self.host} cannot be mounted: {exc.strerror}", key=key, hint=hint)
        real = self.host.resolve()
        if stat.S_ISSOCK(mode) or any(socket.resolve().is_relative_to(real) for socket in _SOCKETS if socket.exists()):
            message = f"{self.host} would hand the container a socket of this machine's"
            return Problem(message, key=key, hint="who has the engine's socket is root here; mount what is needed only")
        return None


def parse_volumes(texts: Iterable[str]) -> list[Volume]:
    """
    The mounts, in order. One host path may be mounted in several places.

    Raises:
        ValueError: One is not of that form, or two meet in the container.
    """
    volumes: list[Volume] = []
    for text in texts:
        volume = _parse(text)
        for other in volumes:
            if other.container == volume.container:
                raise ValueError(f"{text!r}: {volume.container} is taken by another volume")
        volumes.append(volume)
    return volumes


def _parse(text: str) -> Volume:
    rest, _, last = text.rpartition(":")
    mode = "rw"
    if last in ("ro", "rw"):
        mode, (rest, _, last) = last, rest.rpartition(":")
    if not rest or not last or "\0" in text:
        raise ValueError(f"{text!r}: write it as host:container or host:container:ro")
    if not last.startswith("/"):
        raise ValueError(f"{text!r}: {last!r} must be an absolute path in the container, or the mode ro or rw")
    container = PurePosixPath(last)
    if ".." in container.parts:
        raise ValueError(f"{text!r}: the path in the container must not contain '..'")
    if container == PurePosixPath("/") or any(
        container.is_relative_to(place) or place.is_relative_to(container) for place in _RESERVED
    ):
        raise ValueError(f"{text!r}: {container} belongs to the container itself; take another path")
    return Volume(Path(rest).expanduser().absolute(), container, mode == "ro")
