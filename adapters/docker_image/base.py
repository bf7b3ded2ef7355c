"""What kind of Python a base image has, found by running it once."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from docker import errors as docker_errors  # type: ignore[import-untyped, unused-ignore]

from adapters.docker_image.errors import ImageError, translated
from remote.protocol import MIN_PYTHON

if TYPE_CHECKING:
    from collections.abc import Sequence

PROBE_TIMEOUT_S = 60
_OLDEST_GLIBC_MINOR = {"x86_64": 5, "i686": 5}
_PROBE = """
import glob, importlib.util, json, platform, shutil, sys
print(json.dumps({
    "version": list(sys.version_info[:3]),
    "implementation": sys.implementation.name,
    "machine": platform.machine(),
    "glibc": platform.libc_ver()[1] if platform.libc_ver()[0] == "glibc" else "",
    "musl": bool(glob.glob("/lib/ld-musl-*")),
    "venv": all(importlib.util.find_spec(name) for name in ("venv", "ensurepip")),
    "apt": shutil.which("apt-get") is not None,
}))
"""


@dataclass(frozen=True)
class BasePython:
    """The Python of an image, and the wheels it takes: `platforms` are pip's names, best first."""

    version: str
    platforms: tuple[str, ...]


def probe_base(client: Any, name: str, image_id: str, *, needs_apt: bool = False) -> BasePython:
    """
    Ask the Python of an image what it is. Leaves no container.

    Raises:
        ImageError: It has no `python3`, one too old or another kind, cannot make environments, or lacks `apt-get`
            where `needs_apt`.
    """
    found = _asked(client, name, image_id)
    if tuple(found["version"][:2]) < MIN_PYTHON:
        wanted, has = ".".join(map(str, MIN_PYTHON)), ".".join(map(str, found["version"]))
        raise ImageError(f"base image '{name}' has Python {has}; {wanted} or later is needed, as in python:3.12-slim")
    if found["implementation"] != "cpython":
        raise ImageError(f"base image '{name}' has {found['implementation']}; CPython is needed")
    if not found["venv"]:
        raise ImageError(
            f"base image '{name}' has a Python that cannot make environments; "
            "on Debian and Ubuntu install python3-venv in it, or take python:3.12-slim"
        )
    if needs_apt and not found["apt"]:
        raise ImageError(f"base image '{name}' has no apt-get, which `apt_packages` needs; take one made from Debian")
    platforms = tuple(_platforms(found["machine"], found["glibc"], found["musl"]))
    return BasePython(".".join(map(str, found["version"])), platforms)


def _asked(client: Any, name: str, image_id: str) -> dict[str, Any]:
    missing = ImageError(f"base image '{name}' has no python3; take one that has, such as python:3.12-slim")
    with translated(f"base image '{name}' cannot be started"):
        container = client.containers.create(
            image_id,
            ["python3", "-I", "-c", _PROBE],
            entrypoint=[],
            user="0",
            network_mode="none",
            cap_drop=["ALL"],
            labels={"osiris.probe": "1"},
            # The engine's own default may be a driver that cannot be read back.
            log_config={"Type": "json-file", "Config": {}},
        )
        try:
            container.start()
            exit_code = container.wait(timeout=PROBE_TIMEOUT_S)["StatusCode"]
            said = container.logs(stdout=True, stderr=False).decode("utf-8", "replace")
            errors = container.logs(stdout=False, stderr=True).decode("utf-8", "replace")
        except docker_errors.APIError as exc:
            if "executable file not found" in str(exc) or "no such file or directory" in str(exc):
                raise missing from exc
            raise
        finally:
            container.remove(force=True, v=True)
    if exit_code == 127:
        raise missing
    if exit_code != 0:
        raise ImageError(f"the python3 of base image '{name}' does not work (exit code {exit_code}): {errors.strip()}")
    found: dict[str, Any] = json.loads(said)
    return found


def _platforms(machine: str, glibc: str, musl: bool) -> Sequence[str]:
    if musl:
        return [f"musllinux_1_2_{machine}", f"musllinux_1_1_{machine}", f"linux_{machine}"]
    minor = int(glibc.split(".")[1]) if glibc.startswith("2.") else 17
    names = [f"manylinux_2_{number}_{machine}" for number in range(minor, _OLDEST_GLIBC_MINOR.get(machine, 17) - 1, -1)]
    old = ["manylinux2014", "manylinux2010", "manylinux1"] if machine in _OLDEST_GLIBC_MINOR else ["manylinux2014"]
    return [*names, *(f"{name}_{machine}" for name in old), f"linux_{machine}"]
