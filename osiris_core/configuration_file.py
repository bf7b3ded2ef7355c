"""
Configuration files: YAML or JSON, several documents in one, `!include`, `${VAR}` and `${VAR:-default}`.

One way for all of them: of run backends, postprocessors, model runs and pipelines, ours and those of plugins. A value
from a variable is read as the type of the field that it stands in; relative paths of this machine start at the file.
"""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from osiris_core.configurations.filling import Filling
from osiris_core.configurations.includes import with_includes
from osiris_core.documents import parse_documents, read_documents
from osiris_core.errors import ConfigError, ManifestError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import BaseModel

    from osiris_core.configurations.tree import ConfigurationTree

M = TypeVar("M", bound="BaseModel")


def read_configuration(path: str | Path, *, values: Mapping[str, str] | None = None) -> Mapping[str, Any]:
    """
    The mapping in a file of one document, with its includes and the values of variables in.

    Without a model nothing is known of types: what a variable gives is text here. `values` are the variables; those
    of this process without it.

    Raises:
        FileNotFoundError: There is no such file.
        ManifestError: It cannot be read, or holds no mapping, or several.
        ConfigError: Expressions in it cannot be read, or have no value.
    """
    trees = read_trees(_existing(path), values=values)
    if len(trees) > 1:
        raise ManifestError([trees[1].problem("a second document starts here; a file of one is expected")])
    if not isinstance(trees[0].data, dict):
        raise ManifestError([trees[0].problem("a configuration is a mapping of keys to values")])
    filling = Filling(trees[0], _variables(values))
    data: Mapping[str, Any] = filling.filled()
    if filling.problems:
        raise ConfigError(filling.problems)
    return data


def load_as(
    model: type[M], path: str | Path, *, drop: Sequence[str] = (), values: Mapping[str, str] | None = None
) -> M:
    """
    The configuration in a file as a `model`; of several documents, the one whose `type` is the model's.

    An abstract model stands for the class that `type` names. Keys in `drop` are left out.

    Raises:
        FileNotFoundError: There is no such file.
        ManifestError: It cannot be read, or holds no mapping.
        ConfigError: It does not fit the model, for every reason given, each with its line.
    """
    from osiris_core.configurations.kinds import class_named, meant
    from osiris_core.configurations.validation import validated

    tree = meant(read_trees(_existing(path), values=values), _type_of(model))
    if inspect.isabstract(model):
        meaning = class_named(tree, model)
        model, drop = cast("type[M]", meaning.model), (*drop, *meaning.drop)
    return validated(tree, model, _variables(values), drop=drop)


def read_trees(path: str | Path, *, values: Mapping[str, str] | None = None) -> list[ConfigurationTree]:
    """
    Every document of a file, includes in, variables not yet.

    Raises:
        ManifestError: It is missing or cannot be read, or what it includes is, or cannot be.
    """
    return [with_includes(document, _variables(values)) for document in read_documents(Path(path))]


def parse_trees(text: str, name: str, *, values: Mapping[str, str] | None = None) -> list[ConfigurationTree]:
    """The same of a text, which problems call `name`; its relative paths start at the working directory."""
    return [with_includes(document, _variables(values)) for document in parse_documents(text, name)]


def _variables(values: Mapping[str, str] | None) -> Mapping[str, str]:
    return os.environ if values is None else values


def _existing(path: str | Path) -> Path:
    found = Path(path)
    if not found.exists():
        raise FileNotFoundError(f"Configuration file not found: {path}")
    return found


def _type_of(model: type[BaseModel]) -> str | None:
    info = model.model_fields.get("type")
    return info.default if info is not None and isinstance(info.default, str) else None
