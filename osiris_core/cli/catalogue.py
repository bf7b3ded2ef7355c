"""What is installed, of every kind: where each comes from, what it says of itself, what is wrong with it."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from osiris_core.cli.source_docs import docstring
from osiris_core.errors import AdapterNotInstalled, OsirisError

if TYPE_CHECKING:
    from collections.abc import Callable

    from osiris_core.models.registry import PluginRegistry


@dataclass
class Entry:
    """One name. `cls` is None when it is not, or cannot be, loaded; `problem` says why it cannot."""

    name: str
    source: str
    cls: type[Any] | None = None
    problem: str | None = None
    missing: bool = False
    config: type[Any] | None = field(default=None)
    kind: str = ""
    text: str = ""

    @property
    def description(self) -> str:
        """The class's own docstring; not one that it inherits."""
        return self.text or inspect.cleandoc((self.cls.__dict__.get("__doc__") if self.cls else None) or "")

    @property
    def summary(self) -> str:
        return " ".join(self.description.split("\n\n")[0].split())

    @property
    def state(self) -> str:
        return "not installed" if self.missing else "broken" if self.problem else "ok"

    def to_json(self) -> dict[str, Any]:
        found = {"name": self.name, "source": self.source, "state": self.state, "summary": self.summary}
        found |= {"kind": self.kind} if self.kind else {}
        return {**found, "problem": self.problem} if self.problem else found


@dataclass(frozen=True)
class Kind:
    """
    Names of one kind and how they are loaded; `place` is where the source of a built-in one is, `config` the model of
    its configuration where the class does not name it itself.
    """

    name: str
    names: Callable[[], list[str]]
    load: Callable[[str], type[Any]]
    source: Callable[[str], str]
    problems: Callable[[], list[str]]
    place: Callable[[str], str | None]
    config: Callable[[str], type[Any] | None] = lambda _: None

    def entries(self) -> list[Entry]:
        """Every one, loaded; a broken one is an entry with its problem."""
        return [self._entry(name) for name in self.names()]

    def listed(self) -> list[Entry]:
        """Every one; those of ours, which cannot be broken, are not imported."""
        from osiris_core.cli.extras import missing_extra

        found = []
        for name in self.names():
            place = self.place(name)
            text = docstring(place) if place is not None else None
            if text is None:
                found.append(self._entry(name))
                continue
            problem = missing_extra(name)
            found.append(Entry(name, self.source(name), None, problem, problem is not None, None, self.name, text))
        return found

    def entry(self, name: str) -> Entry:
        """One, loaded. Raises as its registry does."""
        cls = self.load(name)
        config = self.config(name) or getattr(cls, "Config", None)
        return Entry(name, self.source(name), cls, config=config, kind=self.name)

    def _entry(self, name: str) -> Entry:
        try:
            return self.entry(name)
        except AdapterNotInstalled as exc:
            return Entry(name, self.source(name), problem=str(exc), missing=True, kind=self.name)
        except (OsirisError, ValueError) as exc:
            return Entry(name, self.source(name), problem=str(exc), kind=self.name)
        except Exception as exc:  # noqa: BLE001 - one that cannot be loaded must not hide the others
            return Entry(name, self.source(name), problem=f"{name!r} cannot be loaded: {exc!r}", kind=self.name)


def drivers() -> Kind:
    from osiris_core.driver import BUILTIN
    from osiris_core.driver import DriverRegistry as Registry

    return Kind("driver", Registry.names, Registry.get, Registry.source, Registry.problems, BUILTIN.get)


def adapters() -> Kind:
    from osiris_core.factory import BUILTIN
    from osiris_core.factory import AdapterFactory as Factory

    return Kind("adapter", Factory.available, Factory.load, Factory.source, Factory.problems, BUILTIN.get)


def run_backends() -> Kind:
    """Run backends and configurations of them; a plugin may bring one without the other."""
    from osiris_core.models.registries import CONFIGS, RUN_BACKENDS

    return _paired("backend", RUN_BACKENDS, CONFIGS)


def postprocessors() -> Kind:
    from osiris_core.models.registries import POSTPROCESSOR_CONFIGS, POSTPROCESSORS

    return _paired("postprocessor", POSTPROCESSORS, POSTPROCESSOR_CONFIGS)


def pipelines() -> Kind:
    from osiris_core.models.registries import PIPELINES as REGISTRY

    return Kind("pipeline", REGISTRY.names, REGISTRY.load, REGISTRY.source, REGISTRY.problems, REGISTRY.place)


def _paired(kind: str, classes: PluginRegistry, configs: PluginRegistry) -> Kind:
    def registry_of(name: str) -> PluginRegistry:
        return classes if name in classes.names() or name not in configs.names() else configs

    return Kind(
        kind,
        lambda: sorted({*classes.names(), *configs.names()}),
        lambda name: registry_of(name).load(name),
        lambda name: registry_of(name).source(name),
        lambda: [*classes.problems(), *configs.problems()],
        lambda name: registry_of(name).place(name),
        lambda name: configs.load(name) if name in configs.names() else None,
    )


def every_kind() -> list[Kind]:
    """All that `osiris doctor` looks at."""
    return [adapters(), drivers(), run_backends(), postprocessors(), pipelines()]


def places() -> list[Kind]:
    """What `osiris backends` speaks of: where a run can happen, and what can be done around it."""
    return [adapters(), run_backends(), postprocessors(), pipelines()]


def shown_schema(entry: Entry) -> dict[str, Any]:
    """The same for people: of a pipeline, its file in short, and what its backend takes as settings."""
    if entry.kind != "pipeline":
        return config_schema(entry)
    from osiris_core.models.pipeline_file import SECTIONS, PipelineOptions, settings_of

    sections = {name: {"type": "object", "description": f"{text}; a configuration"} for name, text in SECTIONS.items()}
    options = PipelineOptions.model_json_schema()["properties"]
    known = {*options, "run_backend", "backend_config", "processor", "processor_config"}  # by the file's own keys
    settings = {f"settings.{name}": item for name, item in settings_of(entry.name).items() if name not in known}
    return {"properties": {**sections, **options, **settings}, "required": ["config"]}


def config_schema(entry: Entry) -> dict[str, Any]:
    """The JSON Schema of the configuration; of one without a model, any object."""
    if entry.kind == "pipeline":
        from osiris_core.models.pipeline_file import pipeline_schema

        return pipeline_schema()
    if entry.config is None:
        return {"title": f"{entry.name} configuration", "type": "object"}
    schema: dict[str, Any] = entry.config.model_json_schema()
    return schema
