"""Adapters and their configurations by name, loaded on use: `from osiris_core.backends import LocalConfig`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adapters.local import LocalAdapter, LocalConfig
else:
    _PLACES = {"LocalAdapter": "adapters.local", "LocalConfig": "adapters.local"}

    def __getattr__(name):
        if name not in _PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from osiris_core.rooms import load

        return getattr(load(_PLACES[name]), name)


__all__ = ["LocalAdapter", "LocalConfig"]
