"""Adapters by name: built in, registered, or from the entry-point group `osiris.adapters`; loaded on use."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, ClassVar

from osiris_core.errors import AdapterClash, AdapterNotInstalled, UnknownAdapter
from osiris_core.plugins import PluginError, PluginGroup
from osiris_core.suggestion import did_you_mean

if TYPE_CHECKING:
    from osiris_core.adapter import ExecutionAdapter

ENTRY_POINT_GROUP = "osiris.adapters"

BUILTIN = {
    "docker": "adapters.docker:DockerAdapter",
    "e2b": "adapters.e2b:E2BAdapter",
    "fallback": "adapters.fallback:FallbackAdapter",
    "local": "adapters.local:LocalAdapter",
    "process": "adapters.process:ProcessAdapter",
    "slurm": "adapters.slurm:SlurmAdapter",
}


class AdapterFactory:
    """Makes adapters. Thread-safe; asking for one loads nothing of the others."""

    _registered: ClassVar[dict[str, type[Any]]] = {}
    _plugins: ClassVar[PluginGroup] = PluginGroup(ENTRY_POINT_GROUP, "adapter", BUILTIN)
    _lock: ClassVar[threading.Lock] = threading.Lock()

    @classmethod
    def register(cls, name: str, adapter: type[Any]) -> None:
        """
        Make `adapter` known as `name` in this process. Registering the same class again does nothing.

        Raises:
            TypeError: It is not a class with `prepare`, `execute` and `collect`.
            AdapterClash: The name is built in, or taken by another class.
        """
        if not _is_adapter(adapter):
            raise TypeError(f"an adapter is a class with prepare, execute and collect, got {adapter!r}")
        with cls._lock:
            if name in BUILTIN:
                raise AdapterClash(f"the adapter name {name!r} is built in ({BUILTIN[name]}); take another")
            taken = cls._registered.get(name, adapter)
            if taken is not adapter:
                raise AdapterClash(
                    f"the adapter name {name!r} is taken by {_named(taken)}; {_named(adapter)} wants it too"
                )
            cls._registered[name] = adapter

    @classmethod
    def unregister(cls, name: str) -> None:
        """Forget a registered adapter; an unknown name is no error."""
        with cls._lock:
            cls._registered.pop(name, None)

    @classmethod
    def create(cls, name: str, config: Any = None, /, **settings: Any) -> ExecutionAdapter:
        """
        An adapter of that name, with a configuration object or with settings by keyword.

        Raises:
            UnknownAdapter: Nothing has that name (with the nearest that exists).
            AdapterNotInstalled: It needs an optional package that is not installed, with what to install.
            AdapterClash: Two distributions claim the name.
            ConfigError: The settings do not fit, each with its key.
        """
        adapter = cls.load(name)
        model = getattr(adapter, "Config", None)
        if config is not None and settings:
            raise TypeError("give a configuration object or settings, not both")
        if model is None:
            made: ExecutionAdapter = adapter(config) if config is not None else adapter(**settings)
            return made
        if config is None:
            config = _configured(model, name, settings)
        elif not isinstance(config, model):
            raise TypeError(f"adapter {name!r} takes a {model.__name__}, got {type(config).__name__}")
        configured: ExecutionAdapter = adapter(config)
        return configured

    @classmethod
    def load(cls, name: str) -> type[Any]:
        """The adapter class of that name; raises as `create` does."""
        if name in BUILTIN:
            return _load_builtin(name)
        if name in cls._registered:
            return cls._registered[name]
        try:
            found: type[Any] | None = cls._plugins.load(name)
        except PluginError as exc:
            raise (AdapterClash if exc.clash else UnknownAdapter)(str(exc)) from exc
        if found is None:
            hint = did_you_mean(name, cls.available()) or f"known: {', '.join(cls.available())}"
            raise UnknownAdapter(f"no adapter {name!r}; {hint}")
        if not _is_adapter(found):
            raise UnknownAdapter(f"adapter {name!r}: {found!r} is not a class with prepare, execute and collect")
        return found

    @classmethod
    def available(cls) -> list[str]:
        """Every name that can be asked for, sorted; loads no adapter. A broken plugin is listed until it is loaded."""
        return sorted({*BUILTIN, *cls._registered, *cls._plugins.names()})

    @classmethod
    def source(cls, name: str) -> str:
        """Where a name comes from: `built in`, `registered`, or the distribution that brings it."""
        if name in BUILTIN:
            return "built in"
        return "registered" if name in cls._registered else cls._plugins.origin(name)

    @classmethod
    def problems(cls) -> list[str]:
        """What is wrong with installed plugins, in words: broken ones, clashes, reserved names. Loads each plugin."""
        return cls._plugins.problems()


def _is_adapter(found: object) -> bool:
    phases = ("prepare", "execute", "collect")
    return isinstance(found, type) and all(callable(getattr(found, phase, None)) for phase in phases)


def _load_builtin(name: str) -> type[Any]:
    from osiris_core.rooms import load

    module, _, attribute = BUILTIN[name].partition(":")
    try:
        found: type[Any] = getattr(load(module), attribute)
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] in {"adapters", "remote", "osiris_core"}:
            raise  # our own mistake, not a missing extra
        message = f"adapter {name!r} needs {exc.name!r}: pip install 'osiris-core[{name}]'"
        raise AdapterNotInstalled(message) from exc
    return found


def _configured(model: type[Any], name: str, settings: dict[str, Any]) -> Any:
    from osiris_core.models.settings import configured

    return configured(model, name, settings)


def _named(adapter: type[Any]) -> str:
    return f"{adapter.__module__}:{adapter.__qualname__}"
