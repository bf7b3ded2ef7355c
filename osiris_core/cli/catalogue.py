"""The drivers and adapters of this installation: where each comes from, what it says of itself, what is wrong."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from osiris_core.driver import DriverRegistry
from osiris_core.errors import AdapterNotInstalled, OsirisError
from osiris_core.factory import AdapterFactory

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class Entry:
    """One name. `cls` is None when it cannot be loaded, and `problem` then says why; `missing` asks for an extra."""

    name: str
    source: str
    cls: type[Any] | None = None
    problem: str | None = None
    missing: bool = False
    config: type[Any] | None = field(default=None)

    @property
    def description(self) -> str:
        """The class's own docstring; not one that it inherits."""
        return inspect.cleandoc((self.cls.__dict__.get("__doc__") if self.cls else None) or "")

    @property
    def summary(self) -> str:
        return " ".join(self.description.split("\n\n")[0].split())

    def to_json(self) -> dict[str, Any]:
        state = "ok" if self.cls is not None else "not installed" if self.missing else "broken"
        found = {"name": self.name, "source": self.source, "state": state, "summary": self.summary}
        return {**found, "problem": self.problem} if self.problem else found


def driver_entries() -> list[Entry]:
    """Every driver, loaded; a broken one is an entry with its problem."""
    return [_entry(name, DriverRegistry.get, DriverRegistry.source) for name in DriverRegistry.names()]


def adapter_entries() -> list[Entry]:
    """Every adapter, loaded; a broken one is an entry with its problem."""
    return [_entry(name, AdapterFactory.load, AdapterFactory.source) for name in AdapterFactory.available()]


def driver_entry(name: str) -> Entry:
    """One driver. Raises UnknownDriver as the registry does."""
    return _loaded(name, DriverRegistry.get, DriverRegistry.source)


def adapter_entry(name: str) -> Entry:
    """One adapter. Raises as the factory does."""
    return _loaded(name, AdapterFactory.load, AdapterFactory.source)


def config_schema(entry: Entry) -> dict[str, Any]:
    """The JSON Schema of the configuration; of one without a model, any object."""
    if entry.config is None:
        return {"title": f"{entry.name} configuration", "type": "object"}
    schema: dict[str, Any] = entry.config.model_json_schema()
    return schema


def _loaded(name: str, load: Callable[[str], type[Any]], source: Callable[[str], str]) -> Entry:
    cls = load(name)
    return Entry(name, source(name), cls, config=getattr(cls, "Config", None))


def _entry(name: str, load: Callable[[str], type[Any]], source: Callable[[str], str]) -> Entry:
    try:
        return _loaded(name, load, source)
    except AdapterNotInstalled as exc:
        return Entry(name, source(name), problem=str(exc), missing=True)
    except OsirisError as exc:
        return Entry(name, source(name), problem=str(exc))
    except Exception as exc:  # noqa: BLE001 - one that cannot be loaded must not hide the others
        return Entry(name, source(name), problem=f"{name!r} cannot be loaded: {exc!r}")
