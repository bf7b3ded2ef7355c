"""Makes of the options of `run --model-run`, `pipeline` and `postprocess` what they ask for, every problem at once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from osiris_core.configuration_file import parse_trees, read_trees
from osiris_core.configurations.kinds import kind_of_tree, meant
from osiris_core.configurations.validation import validated
from osiris_core.errors import ConfigError, ManifestError, OsirisError, PreparationError, Problem
from osiris_core.models.pipeline_file import PipelineFile, read_pipeline
from osiris_core.secrets import escape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from osiris_core.configurations.tree import ConfigurationTree

CONFIG_VARIABLE = "OSIRIS_CONFIG"
"""The variable that holds a configuration, for places where no file can be put."""


class Requested:
    """Collects what is wrong with several options, so that all of it is told at once."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def get(self, make: Callable[[], Any]) -> Any:
        """What `make` returns; None where there are problems, which are kept."""
        try:
            return make()
        except PreparationError as exc:
            self.problems += exc.problems
        except OsirisError as exc:
            self.problems.append(Problem(str(exc)))
        return None

    def check(self) -> None:
        """Raises PreparationError if anything was wrong."""
        if self.problems:
            raise PreparationError(self.problems)


def model_tree(file: str | None, *, from_env: bool) -> ConfigurationTree:
    """
    The one document of the file, or of the variable OSIRIS_CONFIG.

    Raises:
        UsageError: Both are asked for, or neither.
        ManifestError: It cannot be read, or there are several.
    """
    if from_env == (file is not None):
        raise click.UsageError(f"give a FILE, or --config-from-env to read ${CONFIG_VARIABLE}; one of them")
    if file is not None:
        trees = read_trees(file)
    elif text := os.environ.get(CONFIG_VARIABLE):
        trees = parse_trees(text, f"${CONFIG_VARIABLE}")
    else:
        raise ManifestError([Problem(f"the variable {CONFIG_VARIABLE} is not set", key="--config-from-env")])
    if len(trees) > 1:
        raise ManifestError([trees[1].problem("a second document starts here; one is expected")])
    return trees[0]


def pipeline_of(tree: ConfigurationTree) -> PipelineFile:
    """A pipeline, or a model run alone. Raises ConfigError with every problem."""
    return read_pipeline(tree, os.environ)


def backend_of(name: str | None, config: str | None, env: tuple[str, ...], described: PipelineFile | None) -> Any:
    """
    The configuration of a run backend, or the name of one that has none: as the options say, or else the model's file.

    None where neither asks for one. Variables are added to whichever it is.

    Raises:
        PreparationError: The file or a setting does not fit, or what is named runs no models.
    """
    found = described.backend if described is not None else None
    if config is not None:
        found = _of_file(config, "backend", name)
        if not hasattr(found, "get_backend_class"):
            raise ConfigError([Problem("this is a configuration of an adapter that runs no models", file=config)])
    elif name is not None or (env and found is None):
        from osiris_core.models.execution import resolve

        found = resolve(name or "local", {})[0] or name
    return _with_variables(found, env) if env else found


def processor_of(name: str | None, config: str | None) -> Any:
    """The configuration of a postprocessor, or the name of one; None where nothing is asked for. Raises as above."""
    if config is None:
        if name is not None:
            from osiris_core.cli.choice import kind_of

            kind_of(name, "postprocessor")
        return name
    return _of_file(config, "postprocessor", name)


def _of_file(path: str, kind: str, name: str | None) -> Any:
    tree = meant(read_trees(path), name, "name the one that is meant")
    if not isinstance(tree.data, dict):
        raise ConfigError([tree.problem("a configuration is a mapping of keys to values")])
    meaning = kind_of_tree(tree, (kind, name) if name is not None else None)
    if (meaning.kind == "postprocessor") != (kind == "postprocessor"):
        raise ConfigError([tree.problem(f"'{meaning.name}' is no {kind}", ("type",))])
    return validated(tree, meaning.model, os.environ, drop=meaning.drop)


def _with_variables(config: Any, given: tuple[str, ...]) -> Any:
    if isinstance(config, str):
        raise ConfigError([Problem(f"backend '{config}' has no configuration that could take variables", key="--env")])
    variables = {**config.env_vars, **dict(_variables(given))}
    return type(config).model_validate({**config.model_dump(exclude_unset=True), "env_vars": variables})


def _variables(given: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """`NAME=V` as it is, `NAME` by its name: its value is then in no configuration."""
    problems = []
    for entry in given:
        name, equals, value = entry.partition("=")
        if not name:
            problems.append(Problem("--env takes NAME or NAME=VALUE"))
        elif not equals and name not in os.environ:
            hint = f"export it or write {name}=VALUE"
            problems.append(Problem(f"the variable {name} is not set", key="--env", hint=hint))
        else:
            yield name, escape(value) if equals else f"${{{name}}}"
    if problems:
        raise PreparationError(problems)


def workspace_of(model_run: Any) -> Path:
    """The workspace of a run that generates nothing. Raises PreparationError where it is missing or empty."""
    workspace = Path(model_run.staging_dir)
    hint = "leave --skip-generate out to make it"
    if not workspace.is_dir():
        raise PreparationError([Problem(f"there is no workspace {workspace}", key="--skip-generate", hint=hint)])
    if not any(workspace.iterdir()):
        raise PreparationError([Problem(f"the workspace {workspace} is empty", key="--skip-generate", hint=hint)])
    return workspace
