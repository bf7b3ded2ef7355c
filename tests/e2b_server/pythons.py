"""Pythons for templates and sandboxes: environments that stand on a layer below them and cost a few files each."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
NOT_HERE = """#!/bin/sh
echo "E: the test server has no system packages to give" >&2
exit 100
"""


def installed_packages() -> Path:
    """Where the packages of this interpreter are, pydantic, pyarrow and duckdb among them."""
    return Path(sysconfig.get_paths()["purelib"])


def make_python(folder: Path, layers: Sequence[Path]) -> Path:
    """
    An environment with pip whose packages are those of the layers and what is installed into it; pip reads the same
    settings as here. Packages that are installed editable in a layer are not seen: our own code has to travel.

    Returns:
        Its folder of packages, for whoever builds on it.
    """
    packages, scripts = folder / "lib" / VERSION / "site-packages", folder / "bin"
    packages.mkdir(parents=True)
    scripts.mkdir()
    (folder / "pyvenv.cfg").write_text(
        f"home = {Path(sys.base_prefix) / 'bin'}\ninclude-system-site-packages = false\n"
    )
    (folder / "pip.conf").write_text(_pip_settings())
    for name in ("python", "python3", VERSION):
        (scripts / name).symlink_to(_base_python())
    for name in ("pip", "pip3"):
        _script(scripts / name, f'#!/bin/sh\nexec "{scripts / "python3"}" -m pip "$@"\n')
    for name in ("apt-get", "apt", "dpkg"):
        _script(scripts / name, NOT_HERE)
    for found in installed_packages().glob("pip*"):
        if found.name == "pip" or (found.name.startswith("pip-") and found.name.endswith(".dist-info")):
            (packages / found.name).symlink_to(found)
    (packages / "layers.pth").write_text("".join(f"{layer}\n" for layer in layers))
    return packages


def _script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


@cache
def _base_python() -> str:
    return str(Path(sys._base_executable).resolve())  # type: ignore[attr-defined]


@cache
def _pip_settings() -> str:
    """What pip is told here by files and the environment, as a file."""
    settings = {"disable-pip-version-check": "true"}
    for line in _pip("config", "list").splitlines():
        name, _, value = line.partition("=")
        if name.startswith(("global.", ":env:.")):
            settings[name.rpartition(".")[2]] = value.strip("'")
    settings["cache-dir"] = _pip("cache", "dir").strip()
    return "[global]\n" + "".join(f"{name} = {value}\n" for name, value in settings.items())


def _pip(*arguments: str) -> str:
    argv = [sys.executable, "-m", "pip", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout
