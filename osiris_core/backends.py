"""Adapters and their configurations by name, loaded on use: `from osiris_core.backends import LocalConfig`."""

from __future__ import annotations

from typing import Any

_PLACES = {"LocalAdapter": "adapters.local", "LocalConfig": "adapters.local"}

__all__ = ["LocalAdapter", "LocalConfig"]  # noqa: F822 - given by __getattr__


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from osiris_core.rooms import load

    return getattr(load(_PLACES[name]), name)
