"""
A pipeline in a file: a model run, where it runs and what is done afterwards, each a configuration of its own or an
`!include` of one. A file that only has a model run is a pipeline with everything else left to the caller.
"""

from __future__ import annotations

import inspect
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from osiris_core.configuration_file import read_trees
from osiris_core.configurations.kinds import Meaning, kind_of_tree
from osiris_core.configurations.tree import ConfigurationTree
from osiris_core.configurations.validation import validated
from osiris_core.errors import ConfigError, ManifestError, PreparationError, Problem
from osiris_core.models.model_run import ModelRun
from osiris_core.models.registries import CONFIGS, PIPELINES, POSTPROCESSOR_CONFIGS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SECTIONS = {"config": "the model run", "backend": "where it runs", "postprocessor": "what is done afterwards"}


class PipelineOptions(BaseModel):
    """What a pipeline's file says beside its sections."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    pipeline_backend: str = Field(default="local", description="Which pipeline backend goes through the stages.")
    cleanup_on_failure: bool = Field(default=False, description="Remove the model's folder when the run failed.")
    validate_stages: bool = Field(default=True, description="Check what a stage left before the next one begins.")
    postprocess_failure: Literal["fail", "warn"] = Field(
        default="fail", description="warn: a pipeline whose postprocessing failed still counts as a success."
    )
    settings: dict[str, Any] = Field(
        default_factory=dict,
        description="Further settings of the pipeline backend, by name.",
        examples=[{"service": "http://jobs.example.org"}],
    )


@dataclass
class PipelineFile:
    """What a file says; a section that it has not is None."""

    model_run: ModelRun
    backend: Any = None
    postprocessor: Any = None
    options: PipelineOptions = field(default_factory=PipelineOptions)

    @classmethod
    def from_file(cls, path: str | Path, *, values: Mapping[str, str] | None = None) -> PipelineFile:
        """
        The pipeline in a YAML or JSON file.

        Raises:
            ManifestError: It is missing or cannot be read.
            ConfigError: With every problem of every section, each with its file and line.
        """
        trees = read_trees(path, values=values)
        if len(trees) > 1:
            raise ManifestError([trees[1].problem("a second document starts here; a pipeline is one")])
        return read_pipeline(trees[0], os.environ if values is None else values)


def is_pipeline(tree: ConfigurationTree) -> bool:
    """Whether a document has the sections of a pipeline, and is not a model run with a `config` of its own."""
    return isinstance(tree.data, dict) and "run_id" not in tree.data and any(name in tree.data for name in SECTIONS)


def read_pipeline(tree: ConfigurationTree, values: Mapping[str, str]) -> PipelineFile:
    """The pipeline that a document is. Raises ConfigError with every problem."""
    if not isinstance(tree.data, dict):
        raise ConfigError([tree.problem("a configuration is a mapping of keys to values")])
    if not is_pipeline(tree):
        return PipelineFile(validated(tree, ModelRun, values))
    problems: list[Problem] = []
    found: dict[str, Any] = {}
    for name in SECTIONS:
        if tree.data.get(name) is not None:
            try:
                found[name] = _section(tree.below(name), name, values)
            except PreparationError as exc:
                problems += [_within(problem, name) for problem in exc.problems]
    if tree.data.get("config") is None:
        hint = "write it as `config: {run_id: …}` or `config: !include model.yaml`"
        problems.append(tree.problem(f"is missing: it is {SECTIONS['config']}", ("config",), hint))
    rest = ConfigurationTree({key: item for key, item in tree.data.items() if key not in SECTIONS}, tree.origins)
    try:
        options = validated(rest, PipelineOptions, values)
    except ConfigError as exc:
        problems += exc.problems
    else:
        if options.pipeline_backend not in PIPELINES.names():
            problems.append(tree.problem(PIPELINES.unknown(options.pipeline_backend), ("pipeline_backend",)))
    if problems:
        raise ConfigError(sorted(problems, key=lambda problem: (problem.file or "", problem.line or 0)))
    return PipelineFile(found["config"], found.get("backend"), found.get("postprocessor"), options)


def pipeline_schema() -> dict[str, Any]:
    """The JSON Schema of a pipeline's file, with the configurations that are installed here."""
    schema = PipelineOptions.model_json_schema()
    definitions: dict[str, Any] = {}
    schema["properties"]["config"] = _defined(ModelRun, definitions)
    for section, registry in (("backend", CONFIGS), ("postprocessor", POSTPROCESSOR_CONFIGS)):
        members = [_defined(registry.load(name), definitions) for name in registry.names()]
        schema["properties"][section] = {"description": SECTIONS[section], "anyOf": members}
    found = {**schema, "title": "pipeline", "required": ["config"], "$defs": definitions}
    return {**found, "examples": [pipeline_example()]}


def pipeline_example(pipeline_backend: str = "local") -> dict[str, Any]:
    """A pipeline that is valid, of that pipeline backend; what it must be told by `settings` is there by name."""
    shown = ModelRun.model_json_schema()["examples"][0]
    model = {name: shown[name] for name in ModelRun.model_fields if name in shown}
    found = {"config": model, "backend": {"type": "local"}, "postprocessor": {"type": "noop"}}
    if pipeline_backend == "local":
        return found
    settings = {name: "" for name, item in settings_of(pipeline_backend).items() if "default" not in item}
    return {**found, "pipeline_backend": pipeline_backend, **({"settings": settings} if settings else {})}


def settings_of(pipeline_backend: str) -> dict[str, dict[str, Any]]:
    """What a pipeline backend takes beside the model run, by name: its `type` in words, its `default` if it has one."""
    found: dict[str, dict[str, Any]] = {}
    for parameter in _parameters(pipeline_backend):
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        item = found[parameter.name] = {}
        if parameter.annotation is not parameter.empty:
            item["type"] = str(parameter.annotation)
        if parameter.default is not parameter.empty:
            item["default"] = parameter.default
    return found


def takes_any_setting(pipeline_backend: str) -> bool:
    """Whether a pipeline backend takes settings that it has no parameter for."""
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in _parameters(pipeline_backend))


def _parameters(pipeline_backend: str) -> list[inspect.Parameter]:
    execute = inspect.signature(PIPELINES.load(pipeline_backend).execute)
    return list(execute.parameters.values())[2:]  # without self and the model run


def _defined(model: type[BaseModel], definitions: dict[str, Any]) -> dict[str, str]:
    schema = model.model_json_schema(ref_template="#/$defs/{model}")
    definitions.update(schema.pop("$defs", {}))
    definitions[model.__name__] = schema
    return {"$ref": f"#/$defs/{model.__name__}"}


def _section(tree: ConfigurationTree, name: str, values: Mapping[str, str]) -> Any:
    if not isinstance(tree.data, dict):
        raise ConfigError([tree.problem("a configuration is a mapping of keys to values")])
    if name == "config":
        return validated(tree, ModelRun, values)
    meaning: Meaning = kind_of_tree(tree)
    if (meaning.kind == "postprocessor") != (name == "postprocessor"):
        raise ConfigError([tree.problem(f"{meaning.kind} '{meaning.name}' is no {name}", ("type",))])
    return validated(tree, meaning.model, values, drop=meaning.drop)


def _within(problem: Problem, section: str) -> Problem:
    from dataclasses import replace

    return replace(problem, key=f"{section}.{problem.key}" if problem.key else section)
