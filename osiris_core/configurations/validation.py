"""What a model finds wrong with a configuration, in words: each problem with key, file, line and did-you-mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from osiris_core.configurations.field_types import below, model_of
from osiris_core.configurations.filling import Filling
from osiris_core.errors import ConfigError, Problem
from osiris_core.manifest_problems import WORDS, path_in
from osiris_core.suggestion import did_you_mean

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
        found = model_problems(exc, model, data, tree)
        problems += [problem for problem in found if not any(key.startswith(f"{problem.key}.") for key in told)]
    if problems:
        raise ConfigError(sorted(problems, key=lambda problem: (problem.file or "", problem.line or 0)))
    return made


def model_problems(
    error: ValidationError, model: type[BaseModel], data: dict[str, Any], tree: ConfigurationTree
) -> list[Problem]:
    """The findings of pydantic in our words, each place once."""
    found: dict[tuple[str | int, ...], Problem] = {}
    for item in error.errors(include_url=False, include_input=False):
        path = path_in(data, item["loc"])
        message = WORDS.get(item["type"], item["msg"].removeprefix("Value error, "))
        hint = None
        if item["type"] == "extra_forbidden":
            owner: Any = model
            for part in path[:-1]:
                owner = below(owner, part)
            inner = model_of(owner)
            hint = did_you_mean(str(path[-1]), inner.model_fields) if inner is not None else None
        found.setdefault(tuple(path), tree.problem(message, path, hint))
    # A member of a union that was not meant complains about the whole value beside the one that was.
    paths = list(found)
    return [
        problem
        for path, problem in found.items()
        if not path or not any(len(other) > len(path) and other[: len(path)] == path for other in paths)
    ]
