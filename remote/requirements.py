"""The third-party packages of the place that a worker runs in: which ones, and in which versions."""

from __future__ import annotations

import re
from importlib import metadata
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator

from osiris_core.driver_packages import packages_of
from remote.protocol import WORKER_PACKAGES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_REQUIREMENT = re.compile(
    r"\s*(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*"
    r"(?:\[[A-Za-z0-9._,\s-]*\]\s*)?"
    r"(?:(?:===?|~=|!=|<=?|>=?)\s*[^;@\s/\\,]+\s*(?:,\s*|(?=;|$)))*"
    r"(?:;[^@\\]*)?"
)
_APT_PACKAGE = re.compile(r"[a-z0-9][a-z0-9.+-]+(:[a-z0-9]+)?(=[A-Za-z0-9.+~:-]+)?")
_RELEASE = re.compile(r"\d+(\.\d+)*((a|b|rc|\.post)\d+)?")


def requirement_problem(requirement: str) -> str | None:
    """
    Why a requirement cannot be used, or None.

    It must be a name with versions: a path or URL means nothing inside the build, and may hold a password that would
    end up in the image.
    """
    if "\n" not in requirement and _REQUIREMENT.fullmatch(requirement):
        return None
    return "a requirement is a name with versions, as in 'polars>=1.20'; a wheel of your own goes into wheels_dir"


def _check_requirements(items: tuple[str, ...]) -> tuple[str, ...]:
    wrong = [f"{item!r}: {problem}" for item in items if (problem := requirement_problem(item)) is not None]
    if wrong:
        raise ValueError("; ".join(wrong))
    return items


def _check_apt_packages(names: tuple[str, ...]) -> tuple[str, ...]:
    wrong = [name for name in names if not _APT_PACKAGE.fullmatch(name)]
    if wrong:
        raise ValueError(f"{', '.join(map(repr, wrong))} cannot be the name of a Debian package")
    return names


Requirements = Annotated[tuple[str, ...], AfterValidator(_check_requirements)]
"""Packages of Python, as a setting: names with versions."""
AptPackages = Annotated[tuple[str, ...], AfterValidator(_check_apt_packages)]
"""Packages of Debian, as a setting: names, perhaps with an architecture and a version."""


def requirement_name(requirement: str) -> str:
    """The name in a requirement, as indexes compare names."""
    match = _REQUIREMENT.fullmatch(requirement)
    return _normal(match["name"]) if match is not None else requirement


def required_packages(extra: Sequence[str], *, pinned: bool = True) -> list[str]:
    """
    What is installed, sorted: the worker's packages, in the versions of this host when `pinned`, and `extra`.

    A package that `extra` names is pinned by it alone, within what the worker can work with.

    Raises:
        ValueError: A requirement cannot be used.
    """
    wrong = [f"'{item}': {problem}" for item in extra if (problem := requirement_problem(item))]
    if wrong:
        raise ValueError("; ".join(wrong))
    named = {_normal(match["name"]) for item in extra if (match := _REQUIREMENT.fullmatch(item))}
    own = [
        f"{name}{_pin(name, versions) if pinned and name not in named else versions}"
        for name, versions in WORKER_PACKAGES.items()
    ]
    return sorted({*own, *(item.strip() for item in extra)})


def with_driver_packages(requirements: Sequence[str], drivers: Iterable[str], *, pinned: bool) -> tuple[str, ...]:
    """
    `requirements`, and the packages that these drivers ask for, in the versions of this host when `pinned`.

    What `requirements` names stays as it is.
    """
    named = {requirement_name(item) for item in requirements}
    further = {name: item for item in packages_of(drivers) if (name := requirement_name(item)) not in named}
    return (
        *requirements,
        *(f"{name}{_pin(name, item[len(name) :])}" if pinned else item for name, item in further.items()),
    )


def _pin(name: str, versions: str) -> str:
    try:
        installed = metadata.version(name)
    except metadata.PackageNotFoundError:
        return versions
    # A local or development version is on no index.
    return f"=={installed}" if _RELEASE.fullmatch(installed) else versions


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
