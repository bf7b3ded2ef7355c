"""Puts the values of variables into a configuration, read as the type of the field that each stands in."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, SecretStr

from osiris_core.configurations.expressions import Expression, ExpressionError, expand, keep_names, parse, secret_in
from osiris_core.configurations.field_types import host_path_of, typed
from osiris_core.errors import PreparationError
from osiris_core.model_types import below, members, model_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from osiris_core.configurations.tree import ConfigurationTree, KeyPath
    from osiris_core.errors import Problem

NAMED_FIELDS = frozenset({"env_vars"})
"""Fields whose `${NAME}` stay names, for a model that does not say so itself with `NAMED_FIELDS`."""


class Filling:
    """
    One pass over one tree for one model. `problems` has everything that is wrong with its expressions afterwards.

    A field in which names stay names (`env_vars`) gets references, so that the value of a secret is in no
    configuration. A variable that is a secret by its name is refused in every other field but a `SecretStr`: those are
    written down, shown, or given to a program as arguments.
    """

    def __init__(self, tree: ConfigurationTree, values: Mapping[str, str]) -> None:
        self.problems: list[Problem] = []
        self._tree = tree
        self._values = values

    def filled(self, model: type[BaseModel] | None = None) -> Any:
        """A copy of the tree's data. Paths that the model marks are then absolute."""
        return self._walk(self._tree.data, (), model or Any, named=False)

    def _walk(self, value: Any, path: KeyPath, annotation: Any, *, named: bool) -> Any:
        if isinstance(value, str):
            return self._text(value, path, annotation, named=named)
        if isinstance(value, list):
            return [
                self._walk(item, (*path, index), below(annotation, index), named=named)
                for index, item in enumerate(value)
            ]
        if not isinstance(value, dict):
            return value
        model = model_of(annotation)
        if model is not None and path and inspect.isabstract(model):
            return self._configured(value, path, model)
        names = getattr(model, "NAMED_FIELDS", NAMED_FIELDS)
        found: dict[Any, Any] = {}
        for key, item in value.items():
            inner = (*path, key)
            name = self._text(key, inner, str, named=False) if isinstance(key, str) else key
            if name in found:
                self.problems.append(self._tree.problem(f"the key {name!r} stands twice", inner))
            is_named = named or (name in names and (model is not None or len(path) == 0))
            found[name] = self._walk(item, inner, below(annotation, name), named=is_named)
        if model is not None:
            self._resolve_paths(found, path, model)
        return found

    def _configured(self, value: dict[Any, Any], path: KeyPath, base: type[BaseModel]) -> Any:
        """A configuration within one, such as a step of a chain: what its `type` names, made on its own."""
        from osiris_core.configurations.kinds import class_named
        from osiris_core.configurations.validation import validated

        tree = self._tree.below(*path)
        try:
            meaning = class_named(tree, base)
            return validated(tree, meaning.model, self._values, drop=meaning.drop)
        except PreparationError as exc:
            place = ".".join(map(str, path))
            self.problems += [
                replace(problem, key=f"{place}.{problem.key}" if problem.key else place) for problem in exc.problems
            ]
            return value

    def _text(self, text: str, path: KeyPath, annotation: Any, *, named: bool) -> Any:
        if "${" not in text:
            return text
        try:
            if named:
                return keep_names(text, self._values)
            parts = parse(text)
            self._refuse_secrets(parts, annotation)
            plain = expand(text, self._values)
        except ExpressionError as exc:
            self.problems.append(self._tree.problem(str(exc), path, exc.hint))
            return text
        return typed(plain, annotation) if any(isinstance(part, Expression) for part in parts) else plain

    @staticmethod
    def _refuse_secrets(parts: tuple[str | Expression, ...], annotation: Any) -> None:
        secret = secret_in(parts)
        if secret is not None and SecretStr not in members(annotation):
            hint = f"give it in env_vars ({secret}: ${{{secret}}}); $${{{secret}}} leaves it to the shell of a command"
            raise ExpressionError(f"{secret} is a secret by its name, and this field is no place for one", hint)

    def _resolve_paths(self, found: dict[Any, Any], path: KeyPath, model: type[BaseModel]) -> None:
        marks = [(name, mark) for name in found if (mark := host_path_of(model, name)) is not None]
        for name, mark in sorted(marks, key=lambda item: item[1].within is not None):
            folder, within = self._tree.folder((*path, name)), found.get(mark.within)
            within = within if isinstance(within, str) else None
            value = found[name]
            if isinstance(value, str):
                found[name] = mark.resolved(value, folder, within)
            elif isinstance(value, list):
                found[name] = [mark.resolved(item, folder, within) if isinstance(item, str) else item for item in value]
