"""What of a configuration the engine that is there cannot do, found before anything is made."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.docker_engine.client import is_local
from adapters.docker_engine.errors import NotThere, translate
from adapters.docker_engine.spec import worker_user
from osiris_core.errors import Problem
from remote.sandbox import SandboxError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from adapters.docker_engine.client import Client
    from adapters.docker_engine.config import DockerConfig
    from osiris_core.prepared import PreparedRun

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386", "ppc64le": "ppc64le"}
_EMULATORS = {"amd64": "x86_64", "arm64": "aarch64", "386": "i386"}
_BINFMT = Path("/proc/sys/fs/binfmt_misc")
_BUILT_IN_NETWORKS = ("auto", "none", "bridge")

_CONTROLS = {
    "memory": ("MemoryLimit", "memory"),
    "cpu": ("CpuCfsQuota", "processor"),
    "pids_limit": ("PidsLimit", "process count"),
}


def engine_info(client: Client) -> dict[str, Any]:
    """What the engine says of itself. It takes its time for that."""
    with translate("Docker Engine cannot be asked what it can do"):
        info: dict[str, Any] = client.api.info()
    return info


def site_of(info: Mapping[str, Any]) -> str | None:
    """Which engine it is; None for one that has no name of its own."""
    return f"Docker Engine {info['ID']}" if info.get("ID") else None


def engine_problems(client: Client, config: DockerConfig, info: Mapping[str, Any]) -> Iterator[Problem]:
    """What the engine, which says `info` of itself, cannot enforce or does not have. Makes nothing."""
    if info.get("OSType") != "linux":
        yield _problem("the engine runs no Linux containers", "type", "switch Docker to Linux containers")
        return
    for key, (control, what) in _CONTROLS.items():
        if getattr(config, key) is not None and info.get(control) is False:
            hint = "enable the control group of its kernel" + ("" if key == "pids_limit" else ", or leave it out")
            yield _problem(f"the engine cannot enforce a {what} limit", key, hint)
    cpus = info.get("NCPU") or 0
    if config.cpu is not None and cpus and config.cpu > cpus:
        yield _problem(f"the engine has {cpus} processors, not {config.cpu:g}", "cpu", f"at most {cpus}")
    yield from _platform_problems(client, config, str(info.get("Architecture")))
    if config.network not in _BUILT_IN_NETWORKS:
        yield from _network_problems(client, config.network)


def host_problems(client: Client, config: DockerConfig, prepared: PreparedRun) -> Iterator[Problem]:
    """What cannot be mounted into a container of this engine."""
    if config.working_dir is not None and config.engine != "host":
        yield _problem("in a worker each step has a directory of its own", "working_dir", "set engine: host")
    if config.engine == "host" and config.user is not None:
        yield from _user_problems(config, prepared)
    if is_local(client):
        yield from (problem for volume in config.mounts if (problem := volume.problem()) is not None)
        if config.mount_inputs:
            yield from _unreadable_inputs(config, prepared)
        return
    if config.mount_inputs:
        yield _problem("the engine is on another machine and cannot mount files of this one", "mount_inputs")
    if config.engine == "host":
        hint = "set engine: worker"
        yield _problem("the engine is on another machine and cannot see the folders of the steps", "engine", hint)


def _user_problems(config: DockerConfig, prepared: PreparedRun) -> Iterator[Problem]:
    """With `engine: host` files are on this machine: they must belong to who runs this, or be lent and taken back."""
    user, me = str(config.user).partition(":")[0], os.getuid()
    if any(not step.config.get("workspace") for step in prepared.steps):
        hint = "leave user out, or set engine: worker"
        yield _problem("with engine: host the files of a step must belong to who runs this", "user", hint)
    elif me != 0 and user != str(me):
        hint = f"leave it out (it is then {me}), or let root run this"
        yield _problem(f"files of user {user} in the workspace could not be taken back", "user", hint)


def _platform_problems(client: Client, config: DockerConfig, machine: str) -> Iterator[Problem]:
    if config.platform is None:
        return
    wanted, has = config.platform.split("/")[1], _MACHINES.get(machine, machine)
    if wanted == has or (wanted, has) == ("386", "amd64"):
        return
    if is_local(client) and platform.machine() == machine:
        emulator = _EMULATORS.get(wanted, wanted)
        if not (_BINFMT / f"qemu-{emulator}").exists():
            hint = f"install an emulator (qemu-user-static), or use linux/{has}"
            yield _problem(f"the engine runs linux/{has} and has no emulator for {config.platform}", "platform", hint)


def _network_problems(client: Client, name: str) -> Iterator[Problem]:
    try:
        with translate(f"network {name!r} cannot be looked up"):
            found = client.api.inspect_network(name)
    except (NotThere, SandboxError) as exc:
        if getattr(exc.__cause__, "status_code", None) != 404:
            raise
        hint = f"docker network create {name}, or set bridge, none or auto"
        yield _problem(f"the engine has no network {name!r}", "network", hint)
        return
    if found.get("Driver") == "host":
        yield _problem(f"network {name!r} is the host's own", "network", "use bridge, or a network of the engine's")


def _unreadable_inputs(config: DockerConfig, prepared: PreparedRun) -> Iterator[Problem]:
    uid, _, _ = worker_user(config).partition(":")
    for source in dict.fromkeys(file.source for file in prepared.input_files):
        try:
            state = Path(source).stat()
        except OSError:
            continue  # reported where input files are sealed
        if str(state.st_uid) != uid and not state.st_mode & 0o004:
            hint = f"chmod o+r {source}, set user, or let files be copied"
            yield _problem(f"{source} cannot be read by user {uid} in the container", "mount_inputs", hint)
        if ":" in source or not os.path.isabs(source):  # noqa: PTH117 - as text, as the engine takes it
            yield _problem(f"{source} cannot be mounted under this name", "mount_inputs")


def _problem(message: str, key: str, hint: str | None = None) -> Problem:
    return Problem(message, key=f"docker.{key}", hint=hint)
