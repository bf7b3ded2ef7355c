"""The third-party packages that drivers ask for beyond those that every run has."""

from __future__ import annotations

import re
from importlib import metadata
from typing import TYPE_CHECKING, Any

from osiris_core.driver import DriverRegistry
from osiris_core.errors import UnknownDriver

if TYPE_CHECKING:
    from collections.abc import Iterable

DISTRIBUTION = "osiris-core"
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_EXTRA = re.compile(r"""extra\s*==\s*['"]([^'"]+)['"]""")


def packages_of(drivers: Iterable[str]) -> list[str]:
    """The requirements of these drivers, each once, sorted; a driver that cannot be loaded here has none."""
    found: set[str] = set()
    for name in set(drivers):
        try:
            found.update(getattr(DriverRegistry.get(name), "packages", ()))
        except UnknownDriver:
            continue
    return sorted(found)


def missing_packages(driver: type[Any]) -> list[str]:
    """The requirements of a driver that are not installed here."""
    return [requirement for requirement in getattr(driver, "packages", ()) if not _is_installed(requirement)]


def remedy(requirements: Iterable[str]) -> str:
    """What installs them: the smallest extras of ours that have them, the rest by name."""
    wanted = {_normal(requirement): requirement for requirement in requirements}
    members: dict[str, set[str]] = {}
    for line in _stated():
        if (extra := _EXTRA.search(line)) and extra[1] not in ("dev", "all"):
            members.setdefault(extra[1], set()).add(_normal(line))
    extras: dict[str, str] = {}
    for name, packages in sorted(members.items(), key=lambda item: len(item[1])):
        for package in packages & wanted.keys():
            extras.setdefault(package, name)
    ours = ",".join(sorted(set(extras.values())))
    others = [f"'{requirement}'" for name, requirement in wanted.items() if name not in extras]
    return " ".join(["pip install", *([f"'{DISTRIBUTION}[{ours}]'"] if ours else []), *others])


def _stated() -> list[str]:
    try:
        return metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return []


def _is_installed(requirement: str) -> bool:
    try:
        metadata.version(_normal(requirement))
    except metadata.PackageNotFoundError:
        return False
    return True


def _normal(requirement: str) -> str:
    match = _NAME.match(requirement.strip())
    return re.sub(r"[-_.]+", "-", match[0]).lower() if match else requirement
