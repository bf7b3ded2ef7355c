"""The container of a run as the engine's API takes it: pure code, every isolation rule in one place."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from adapters.docker_engine.config import size_bytes
from adapters.docker_engine.volumes import VOLUME_DIR
from osiris_core.context import SURROUNDINGS
from osiris_core.driver import DriverRegistry

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from adapters.docker_engine.config import DockerConfig

WORK_DIR = VOLUME_DIR / "run"
HOME_DIR = VOLUME_DIR / "home"
TEMP_DIR = VOLUME_DIR / "tmp"
INPUTS_DIR = VOLUME_DIR.with_name("osiris-inputs")
WORKSPACE_DIR = "/app/run_id"
"""Where a model's workspace is in its container, whatever its run is called."""
SCRATCH = "/tmp"  # noqa: S108 - in the container, where nobody else is
"""What programs take for granted that they can write to; the image itself cannot be written to."""

HOST_NAME = "host.docker.internal"
DEFAULT_UID = 10001
"""Who a container's processes are when root runs us: nobody that an image or a machine knows."""


@dataclass(frozen=True)
class ContainerSpec:
    """
    What differs between containers; everything else follows from the configuration.

    `environment` is shown by `docker inspect`: nothing secret belongs into it.
    """

    image: str
    argv: Sequence[str]
    user: str
    labels: Mapping[str, str]
    network: str
    mounts: Sequence[Mapping[str, Any]]
    environment: Mapping[str, str] = field(default_factory=dict)
    working_dir: str | None = None
    stdin: bool = True
    stdin_once: bool = False


def container_body(spec: ContainerSpec, config: DockerConfig) -> dict[str, Any]:
    """The body of the request that creates it."""
    host = {
        "Init": True,
        "CapDrop": ["ALL"],
        "CapAdd": list(config.cap_add),
        "SecurityOpt": ["no-new-privileges"],
        "ReadonlyRootfs": config.read_only,
        "NetworkMode": spec.network,
        "PidsLimit": config.pids_limit,
        # json-file was seen to lose what is written fast, and what is attached to needs no file.
        "LogConfig": {"Type": "none", "Config": {}},
        "Mounts": [dict(mount) for mount in spec.mounts],
        "Tmpfs": {path: f"size={size_bytes(size)},mode=1777" for path, size in config.tmpfs.items()},
        # A dump holds what was in memory, secrets too.
        "Ulimits": [{"Name": "core", "Soft": 0, "Hard": 0}],
        "RestartPolicy": {"Name": "no"},
    }
    if spec.network != "none":
        # The engine's machine, by the name that Docker has for it on every system.
        host["ExtraHosts"] = [f"{HOST_NAME}:host-gateway"]
    if config.memory_bytes is not None:
        host |= {"Memory": config.memory_bytes, "MemorySwap": config.memory_bytes}
    if config.cpu is not None:
        host["NanoCpus"] = round(config.cpu * 1e9)
    if config.shm_size is not None:
        host["ShmSize"] = size_bytes(config.shm_size)
    return {
        "Image": spec.image,
        "Entrypoint": list(spec.argv),  # as a whole, so that nothing of the image's own command is added
        "Cmd": [],
        "User": spec.user,
        "Env": [f"{name}={value}" for name, value in spec.environment.items()],
        "WorkingDir": spec.working_dir or "",
        "Labels": dict(spec.labels),
        "OpenStdin": spec.stdin,
        "StdinOnce": spec.stdin_once,
        "Tty": False,
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": host,
    }


def worker_environment() -> dict[str, str]:
    """What the worker's own process is surrounded by; what was declared for the run comes through its stdin."""
    return {"HOME": str(HOME_DIR), "TMPDIR": str(TEMP_DIR), **SURROUNDINGS}


def worker_user(config: DockerConfig) -> str:
    """Who a worker is: `uid:gid`, or what the configuration says."""
    if config.user is not None:
        name, _, gid = config.user.partition(":")
        return f"{name}:{gid or name}" if name.isdigit() else name
    if os.getuid() == 0:
        return f"{DEFAULT_UID}:{DEFAULT_UID}"
    return f"{os.getuid()}:{os.getgid()}"


def network_of(config: DockerConfig, drivers: Iterable[str]) -> str:
    """The network that a run of these drivers gets."""
    if config.network != "auto":
        return config.network
    return "bridge" if any(getattr(DriverRegistry.get(name), "needs_network", False) for name in drivers) else "none"
