"""Classes by name: built in, registered here, or from an entry-point group; loaded on use, and one at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from typing import Any

from osiris_core.errors import OsirisError
from osiris_core.plugins import PluginError, PluginGroup
from osiris_core.suggestion import did_you_mean


class UnknownPlugin(OsirisError, ValueError):
    """Nothing has that name, or what has it cannot be loaded."""


class PluginRegistry:
    """
    The classes of one kind. Thread-safe; asking for one loads nothing of the others.

    What `register` says wins over an entry point of the same name, and a built-in name can be taken by nobody.

    Args:
        group: The entry-point group, `osiris.postprocessors`.
        what: What its members are called in messages, `postprocessor`.
        builtin: The built-in ones, `module:Class` by name.
        method: What a member must have, to be one.
    """

    def __init__(self, group: str, what: str, builtin: Mapping[str, str], method: str) -> None:
        self.group = group
        self.what = what
        self._builtin = dict(builtin)
        self._method = method
        self._registered: dict[str, type[Any]] = {}
        self._plugins = PluginGroup(group, what, self._builtin)
        self._lock = threading.Lock()

    def register(self, name: str, member: type[Any]) -> None:
        """
        Make a class known as `name` in this process. Registering the same class again does nothing.

        Raises:
            TypeError: It is no class of this kind.
            ValueError: The name is built in, or taken by another class.
        """
        self._check(name, member, TypeError)
        with self._lock:
            taken = self._builtin.get(name) or self._registered.get(name, member)
            if taken is not member:
                raise ValueError(f"the {self.what} name {name!r} is taken by {taken}")
            self._registered[name] = member

    def unregister(self, name: str) -> None:
        """Forget a registered class; an unknown name is no error."""
        with self._lock:
            self._registered.pop(name, None)

    def names(self) -> list[str]:
        """Every name that can be asked for, sorted; loads none. A broken plugin is listed until it is loaded."""
        return sorted({*self._builtin, *self._registered, *self._plugins.names()})

    def load(self, name: str) -> type[Any]:
        """
        The class of that name.

        Raises:
            UnknownPlugin: Nothing has that name, several distributions claim it, or it does not load.
        """
        if name in self._builtin:
            return _load_builtin(self._builtin[name])
        if name in self._registered:
            return self._registered[name]
        try:
            found: Any = self._plugins.load(name)
        except PluginError as exc:
            raise UnknownPlugin(str(exc)) from exc
        if found is None:
            raise UnknownPlugin(self.unknown(name))
        self._check(name, found, UnknownPlugin)
        loaded: type[Any] = found
        return loaded

    def unknown(self, name: str, known: Iterable[str] | None = None) -> str:
        """That nothing has this name, and what there is."""
        known = self.names() if known is None else list(known)
        hint = did_you_mean(name, known)
        there = f"Available {self.what}s: {', '.join(known)}"
        return f"Unknown {self.what}: {name}. {there}" + (f" ({hint})" if hint else "")

    def source(self, name: str) -> str:
        """Where a name comes from: `built in`, `registered`, or the distribution that brings it."""
        if name in self._builtin:
            return "built in"
        return "registered" if name in self._registered else self._plugins.origin(name)

    def place(self, name: str) -> str | None:
        """`module:Class` of a built-in one; None for any other."""
        return self._builtin.get(name)

    def problems(self) -> list[str]:
        """What is wrong with installed plugins, a sentence each: broken ones, clashes, reserved names. Loads each."""
        found = self._plugins.problems()
        for name in self._plugins.names():
            try:
                self.load(name)
            except UnknownPlugin as exc:
                found.append(str(exc))
        return list(dict.fromkeys(found))

    def classes(self) -> Mapping[str, type[Any]]:
        """Name to class, loaded when it is asked for."""
        return _Classes(self)

    def _check(self, name: str, member: object, error: type[Exception]) -> None:
        if not isinstance(member, type) or not callable(getattr(member, self._method, None)):
            raise error(f"{self.what} {name!r}: {member!r} is not a class with {self._method}")


class _Classes(Mapping[str, type[Any]]):
    """A view of a registry. One that cannot be loaded raises `UnknownPlugin` when it is asked for, and only then."""

    def __init__(self, registry: PluginRegistry) -> None:
        self._registry = registry

    def __getitem__(self, name: str) -> type[Any]:
        if name not in self._registry.names():
            raise KeyError(name)
        return self._registry.load(name)

    def __contains__(self, name: object) -> bool:
        return name in self._registry.names()

    def __iter__(self) -> Iterator[str]:
        return iter(self._registry.names())

    def __len__(self) -> int:
        return len(self._registry.names())

    def __repr__(self) -> str:
        return f"<{self._registry.what}s: {', '.join(self)}>"


def _load_builtin(place: str) -> type[Any]:
    from osiris_core.rooms import load

    module, _, attribute = place.partition(":")
    found: type[Any] = getattr(
        load(module) if not module.startswith("osiris_core.") else import_module(module), attribute
    )
    return found
