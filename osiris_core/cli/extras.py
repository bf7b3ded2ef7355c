"""The optional packages of this distribution, by the extra that brings them."""

from __future__ import annotations

import re
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, requires, version

DISTRIBUTION = "osiris-core"
_REQUIREMENT = re.compile(r"""^(?P<name>[A-Za-z0-9._-]+)[^;]*(?:;.*extra == ['"](?P<extra>[^'"]+)['"])?""")


@lru_cache
def requirements() -> dict[str | None, list[str]]:
    """The packages that this distribution asks for, by extra; None for those it always needs."""
    found: dict[str | None, list[str]] = {}
    try:
        stated = requires(DISTRIBUTION) or []
    except PackageNotFoundError:
        stated = []
    for line in stated:
        if match := _REQUIREMENT.match(line):
            found.setdefault(match["extra"], []).append(match["name"])
    return found


def installed(name: str) -> str | None:
    """The version of a package; None where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def missing_extra(extra: str) -> str | None:
    """What the extra of that name lacks here, with what to do about it; None for nothing, or no such extra."""
    missing = [name for name in requirements().get(extra, []) if installed(name) is None]
    return f"{extra!r} needs {', '.join(missing)}: pip install '{DISTRIBUTION}[{extra}]'" if missing else None
