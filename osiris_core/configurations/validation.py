"""What a model finds wrong with a configuration, in words: each problem with key, file, line and did-you-mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError

from osiris_core.configurations.filling import Filling
from osiris_core.errors import ConfigError
from osiris_core.pydantic_words import findings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from osiris_core.configurations.tree import ConfigurationTree

M = TypeVar("M", bound=BaseModel)


def validated(tree: ConfigurationTree, model: type[M], values: Mapping[str, str], *, drop: Sequence[str] = ()) -> M:
    """
    The configuration as the model has it, variables put in, paths resolved. Keys in `drop` are left out.

    Raises:
        ConfigError: With every problem, those of expressions and those of the model.
    """
    if not isinstance(tree.data, dict):
        raise ConfigError([tree.problem("a configuration is a mapping")])
    filling = Filling(tree, values)
    filled = filling.filled(model)
    problems = list(filling.problems)
    data = {key: item for key, item in filled.items() if key not in drop}
    if odd := [key for key in data if not isinstance(key, str)]:
        problems += [tree.problem(f"the key {key!r} is not a text; write it in quotes", (key,)) for key in odd]
        raise ConfigError(problems)
    try:
        made = model.model_validate(data)
    except ValidationError as exc:
        told = tuple(f"{problem.key}." for problem in problems)
        # What has no value yet, or not the right one, is told once, and by who knows more.
        found = [tree.problem(item.message, item.path, item.hint) for item in findings(exc, data, model)]
        problems += [problem for problem in found if not any(key.startswith(f"{problem.key}.") for key in told)]
    if problems:
        raise ConfigError(sorted(problems, key=lambda problem: (problem.file or "", problem.line or 0)))
    return made
