"""An adapter as a configuration file describes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel

from osiris_core.configuration_file import read_trees
from osiris_core.configurations.filling import Filling
from osiris_core.configurations.kinds import meant, type_of
from osiris_core.configurations.validation import validated
from osiris_core.errors import ConfigError
from osiris_core.factory import AdapterFactory

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from osiris_core.adapter import ExecutionAdapter


def adapter_of_file(path: str | Path, name: str | None, values: Mapping[str, str]) -> ExecutionAdapter:
    """
    The adapter that the file configures: the one called `name`, or else its `type`. Of several documents, its own.

    Raises:
        PreparationError: The file cannot be read or does not fit, with every problem.
        OsirisError: The adapter cannot be had, as the factory says.
    """
    tree = meant(read_trees(path, values=values), name, "name the one that is meant: --adapter NAME")
    if tree.data is None:
        tree.data = {}
    if not isinstance(tree.data, dict):
        raise ConfigError([tree.problem("a configuration is a mapping")])
    found = type_of(tree)
    key, kind = found if found is not None else ("type", name or "local")
    name = name or kind
    if kind != name:
        raise ConfigError([tree.problem(f"this is a configuration of adapter '{kind}', not of '{name}'", (key,))])
    model = getattr(AdapterFactory.load(name), "Config", None)
    if isinstance(model, type) and issubclass(model, BaseModel):
        return AdapterFactory.create(name, validated(tree, model, values, drop=_dropped(model, key)))
    filling = Filling(tree, values)
    filled = filling.filled()
    if filling.problems:
        raise ConfigError(filling.problems)
    return AdapterFactory.create(name, **{item: value for item, value in filled.items() if item != key})


def _dropped(model: type[BaseModel], key: str) -> tuple[str, ...]:
    """What only tells the file's reader: the type of a model that has no such field."""
    return () if key in model.model_fields else (key,)
