"""What pydantic finds wrong, in our words: the same ones wherever a model is checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from osiris_core.model_types import below, models_of
from osiris_core.suggestion import did_you_mean

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

_WORDS = {
    "missing": "is missing",
    "extra_forbidden": "there is no such key",
    "string_type": "must be a text",
    "dict_type": "must be a mapping",
    "list_type": "must be a list",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
    "finite_number": "must be a finite number",
}


class Finding(NamedTuple):
    """What is wrong at `path` in the data, and what was probably meant."""

    path: tuple[str | int, ...]
    message: str
    hint: str | None = None

    @property
    def key(self) -> str:
        """The path as it is written."""
        return ".".join(map(str, self.path))


def findings(error: ValidationError, data: Any, model: type[BaseModel] | None) -> list[Finding]:
    """
    What `model` found wrong with `data`, each place once, in its order. No value is in it but what a validator's own
    message has.
    """
    found: dict[tuple[str | int, ...], Finding] = {}
    for item in error.errors(include_url=False, include_input=False):
        path, owner = _place(data, item["loc"], model, missing=item["type"] == "missing")
        said = item["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
        hint = did_you_mean(str(path[-1]), _fields(owner)) if item["type"] == "extra_forbidden" and path else None
        found.setdefault(path, Finding(path, _WORDS.get(item["type"], said), hint))
    # A member of a union that was not meant complains about the whole value beside the one that was.
    return [
        finding
        for path, finding in found.items()
        if not path or not any(len(other) > len(path) and other[: len(path)] == path for other in found)
    ]


def _place(
    data: Any, loc: tuple[str | int, ...], model: type[BaseModel] | None, *, missing: bool
) -> tuple[tuple[str | int, ...], Any]:
    """
    `loc` without what the data does not have, for pydantic also names the member of a union that it tried; and what
    allows the last part.
    """
    path: list[str | int] = []
    node, owner, inner = data, model, model
    for position, part in enumerate(loc):
        if _holds(node, part):
            node = node[part]
        elif position < len(loc) - 1 or not isinstance(node, dict) or not (missing or part in _fields(inner)):
            continue
        path.append(part)
        owner, inner = inner, below(inner, part)
    return tuple(path), owner


def _holds(node: Any, part: str | int) -> bool:
    if isinstance(node, dict):
        return part in node
    return isinstance(node, (list, tuple)) and isinstance(part, int) and part < len(node)


def _fields(annotation: Any) -> list[str]:
    return [name for model in models_of(annotation) for name in model.model_fields]
