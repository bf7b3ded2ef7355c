"""What is wrong with the data of a manifest, in words: each problem with its step, key, line and nearest known name."""

from __future__ import annotations

import math
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from osiris_core.errors import Problem
from osiris_core.manifest import InputReference, Manifest, Param, Pipeline, RetryPolicy, Step
from osiris_core.suggestion import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel, ValidationError

    from osiris_core.documents import Document

Path = list[str | int]

WORDS = {
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


def validation_problems(error: ValidationError, data: dict[str, Any], document: Document) -> list[Problem]:
    """The findings of pydantic in our words, each once."""
    found: dict[tuple[str | int, ...], Problem] = {}
    for item in error.errors(include_url=False):
        path = path_in(data, item["loc"])
        message = WORDS.get(item["type"], item["msg"].removeprefix("Value error, "))
        hint = did_you_mean(str(path[-1]), _known_keys(path)) if item["type"] == "extra_forbidden" else None
        found.setdefault(tuple(path), _problem(message, path, data, document, hint))
    # A member of a union that was not meant complains about the whole value beside the one that was.
    paths = list(found)
    return [
        problem
        for path, problem in found.items()
        if not any(len(other) > len(path) and other[: len(path)] == path for other in paths)
    ]


def value_problems(data: dict[str, Any], document: Document) -> Iterator[Problem]:
    """What in the configurations JSON cannot hold, so that no run could be written down."""
    for index, step in enumerate(_steps(data)):
        if isinstance(step, dict):
            for path, message in _not_json(step.get("config"), []):
                yield _problem(message, ["steps", index, "config", *path], data, document)


def wiring_problems(data: dict[str, Any], document: Document) -> list[Problem]:
    """Duplicate ids, unknown references and cycles of a manifest that has other problems too."""
    from osiris_core.plan import plan_steps

    steps = []
    for index, step in enumerate(_steps(data)):
        step = step if isinstance(step, dict) else {}
        step_id = step.get("id") if isinstance(step.get("id"), str) else f"#{index + 1}"
        needs: Any = step.get("needs") if isinstance(step.get("needs"), list) else []
        inputs: Any = step.get("inputs") if isinstance(step.get("inputs"), dict) else {}
        wired = {name: reference for name, item in inputs.items() if (reference := _reference(item)) is not None}
        plain = [need for need in needs if isinstance(need, str)]
        steps.append(Step.model_construct(id=step_id, driver="", config={}, inputs=wired, needs=plain))
    manifest = Manifest.model_construct(steps=steps)
    manifest._document = document
    return plan_steps(manifest, {})[1]


def _steps(data: dict[str, Any]) -> list[Any]:
    steps = data.get("steps")
    return steps if isinstance(steps, list) else []


def _reference(item: Any) -> str | InputReference | None:
    if isinstance(item, dict) and isinstance(item.get("from_step"), str):
        key = item.get("key")
        return InputReference(from_step=item["from_step"], key=key if isinstance(key, str) else None)
    return item if isinstance(item, (str, InputReference)) else None


def path_in(data: Any, loc: tuple[str | int, ...]) -> Path:
    """`loc` without what the data does not have: pydantic also names the member of a union that it tried."""
    path: Path = []
    node = data
    for position, part in enumerate(loc):
        if _holds(node, part):
            node = node[part]
        elif not (isinstance(node, dict) and position == len(loc) - 1 and part not in _UNION_MEMBERS):
            continue
        path.append(part)
    return path


def _holds(node: Any, part: str | int) -> bool:
    if isinstance(node, dict):
        return part in node
    return isinstance(node, list) and isinstance(part, int) and part < len(node)


_UNION_MEMBERS = {"Pipeline", "Param", "InputReference", "str", "int", "float", "bool", "none", "[key]"}


def _problem(message: str, path: Path, data: dict[str, Any], document: Document, hint: str | None = None) -> Problem:
    step_id, rest = None, path
    if path[:1] == ["steps"] and len(path) > 1 and isinstance(path[1], int):
        step = data["steps"][path[1]]
        named = isinstance(step, dict) and isinstance(step.get("id"), (str, int))
        step_id, rest = str(step["id"]) if named else f"#{path[1] + 1}", path[2:]
    key = ".".join(map(str, rest)) or None
    return Problem(message, step_id, key, document.file, document.line_of(path), hint)


def _known_keys(path: Path) -> list[str]:
    parents: dict[str, type[BaseModel]] = {"retry": RetryPolicy, "pipeline": Pipeline}
    if len(path) == 1:
        return list(Manifest.model_fields)
    if path[0] == "steps" and len(path) == 3:
        return list(Step.model_fields)
    if path[0] == "steps" and len(path) > 3 and path[2] == "inputs":
        return list(InputReference.model_fields)
    parent = parents.get(str(path[-2]), Param)
    return list(parent.model_fields)


def _not_json(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                yield [*path, str(key)], f"the key {key!r} is not a text; write it in quotes"
            yield from _not_json(item, [*path, str(key)])
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _not_json(item, [*path, index])
    elif isinstance(value, float) and not math.isfinite(value):
        yield path, "must be a finite number"
    elif not (value is None or isinstance(value, (str, int, float, bool, PurePath))):
        yield path, f"a {type(value).__name__} cannot stand in a configuration; write it as a text"
