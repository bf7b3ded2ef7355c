"""What a driver is, and the registry in which drivers are found by name."""

from __future__ import annotations

import threading
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from osiris_core.errors import DriverNotInstalled, UnknownDriver
from osiris_core.plugins import PluginError, PluginGroup
from osiris_core.suggestion import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel

    from osiris_core.step_context import StepContext

ENTRY_POINT_GROUP = "osiris.drivers"


@runtime_checkable
class Driver(Protocol):
    """
    What runs one step. Any class with this `run`; a fresh instance is made for every attempt.

    Optional class attributes, with what holds when one is missing:

    - `Config`: a pydantic model. `run` then gets an instance of it as `config`; without it, a plain dict.
    - `version` ("1"): raise it when the same configuration gives another result; part of the resume key.
    - `deterministic` (False): the same inputs give the same bytes.
    - `repeatable` (False): it changes nothing outside of the run, so that it may be run again after its place was lost.
    - `needs_network` (False): the step reaches outside; adapters that isolate give it a network.
    - `takes_inputs` ("any"): "none" or "one" when the driver reads no input or just one; prepare then says so.
    - `output_names(config)`: a class method giving the names of the outputs; without it they are known afterwards.
    - `example` (""): a step in YAML, shown by `osiris drivers show`.
    """

    def run(self, step_id: str, config: Any, inputs: Mapping[str, Any], ctx: StepContext) -> Mapping[str, Any] | None:
        """
        Do the step's work. Called by position or by keyword.

        `inputs` maps names to `pyarrow.Table`, to `SpilledTable` (the same methods, scanned from disk) or to
        JSON values. Returns named outputs: anything with `__arrow_c_stream__` (consumed before the step
        ends), or JSON values; None for none.
        """
        ...


BUILTIN: dict[str, str] = {
    "command": "osiris_core.drivers.command:CommandDriver",
    "duckdb.processor": "osiris_core.drivers.duckdb_processor:DuckDBProcessor",
    "filesystem.csv_extractor": "osiris_core.drivers.csv_extractor:CsvExtractor",
    "filesystem.csv_writer": "osiris_core.drivers.csv_writer:CsvWriter",
    "filesystem.parquet_extractor": "osiris_core.drivers.parquet:ParquetExtractor",
    "filesystem.parquet_writer": "osiris_core.drivers.parquet:ParquetWriter",
}


class DriverRegistry:
    """
    Drivers by name: built in, registered here, from the entry-point group `osiris.drivers`, or by place
    (`module:Class`, importable here).

    A class is loaded when it is first asked for. What `register` says wins over an entry point of the same
    name, and a built-in name can be taken by nobody.
    """

    _registered: ClassVar[dict[str, type[Any]]] = {}
    _plugins: ClassVar[PluginGroup] = PluginGroup(ENTRY_POINT_GROUP, "driver", BUILTIN)
    _lock: ClassVar[threading.Lock] = threading.Lock()

    @classmethod
    def register(cls, name: str, driver: type[Any]) -> None:
        """
        Make `driver` known as `name` in this process. Registering the same class again does nothing.

        Raises:
            TypeError: `driver` is not a class with a `run` method.
            ValueError: The name is taken by a built-in driver or by another class.
        """
        if not isinstance(driver, type) or not callable(getattr(driver, "run", None)):
            raise TypeError(f"a driver is a class with a run method, got {driver!r}")
        with cls._lock:
            taken = BUILTIN.get(name) or cls._registered.get(name, driver)
            if taken is not driver:
                raise ValueError(f"driver name {name!r} is taken by {taken}")
            cls._registered[name] = driver

    @classmethod
    def unregister(cls, name: str) -> None:
        """Forget a registered driver; an unknown name is no error."""
        with cls._lock:
            cls._registered.pop(name, None)

    @classmethod
    def names(cls) -> list[str]:
        """Every name that `get` knows, sorted; loads no driver."""
        return sorted({*BUILTIN, *cls._registered, *cls._plugins.names()})

    @classmethod
    def get(cls, name: str) -> type[Any]:
        """
        The driver class of that name.

        Raises:
            UnknownDriver: Nothing has that name (with the nearest one that exists), or its plugin is broken.
        """
        if name in BUILTIN:
            module, _, attribute = BUILTIN[name].partition(":")
            found: type[Any] = getattr(import_module(module), attribute)
            return found
        if name in cls._registered:
            return cls._registered[name]
        if ":" in name:
            return _load_named(name)
        try:
            loaded: Any = cls._plugins.load(name)
        except PluginError as exc:
            raise UnknownDriver(str(exc)) from exc
        if loaded is None:
            hint = did_you_mean(name, cls.names()) or f"known: {', '.join(cls.names())}"
            raise UnknownDriver(f"no driver {name!r}; {hint}")
        if not isinstance(loaded, type) or not callable(getattr(loaded, "run", None)):
            raise UnknownDriver(f"driver {name!r}: {loaded!r} is not a class with a run method")
        return loaded

    @classmethod
    def source(cls, name: str) -> str:
        """Where a name comes from: `built in`, `registered`, or the distribution that brings it."""
        if name in BUILTIN:
            return "built in"
        return "registered" if name in cls._registered else cls._plugins.origin(name)

    @classmethod
    def problems(cls) -> list[str]:
        """What is wrong with installed driver plugins, a sentence each. Loads every one."""
        return cls._plugins.problems()


def _load_named(name: str) -> type[Any]:
    """The driver class that a manifest names by its place, `module:Class`."""
    module, _, attribute = name.partition(":")
    try:
        found: Any = getattr(import_module(module), attribute)
    except (Exception, SystemExit) as exc:  # a module may also leave
        message = f"driver {name!r} cannot be loaded: {exc!r}"
        missing = exc.name if isinstance(exc, ModuleNotFoundError) else None
        if missing is not None and not f"{module}.".startswith(f"{missing}."):
            raise DriverNotInstalled(f"{message}; install {missing!r}") from exc
        hint = " (name its file or folder in the configuration's `code`)" if missing is not None else ""
        raise UnknownDriver(message + hint) from exc
    if not isinstance(found, type) or not callable(getattr(found, "run", None)):
        raise UnknownDriver(f"driver {name!r}: {found!r} is not a class with a run method")
    return found


def config_model(driver: type[Any]) -> type[BaseModel] | None:
    """The driver's configuration model, or None when it takes a plain dict."""
    return getattr(driver, "Config", None)


def is_repeatable(driver_name: str, config: Mapping[str, Any]) -> bool:
    """Whether a step may run twice without harm, by its driver's own word."""
    driver = DriverRegistry.get(driver_name)
    judge = getattr(driver, "is_repeatable", None)
    if judge is not None:
        try:
            return bool(judge(config))
        except Exception:  # noqa: BLE001 - a user's judge may raise anything; only its word is a promise
            return False
    return bool(getattr(driver, "repeatable", False))
