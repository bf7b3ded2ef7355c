"""Whether this process is in a container, where `localhost` is the container itself."""

from __future__ import annotations

from pathlib import Path

_MARKS = (Path("/.dockerenv"), Path("/run/.containerenv"))


def in_container() -> bool:
    return any(path.exists() for path in _MARKS)
