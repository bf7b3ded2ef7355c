"""What is wrong with the data of a manifest, in words: each problem with its step, key, line and nearest known name."""

from __future__ import annotations

import math
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from osiris_core.errors import Problem
from osiris_core.manifest import InputReference, Manifest, Step
from osiris_core.pydantic_words import findings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import ValidationError

    from osiris_core.documents import Document

Path = list[str | int]


def validation_problems(error: ValidationError, data: dict[str, Any], document: Document) -> list[Problem]:
    """The findings of pydantic, each once."""
    return [
        _problem(finding.message, list(finding.path), data, document, finding.hint)
        for finding in findings(error, data, Manifest)
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


def _problem(message: str, path: Path, data: dict[str, Any], document: Document, hint: str | None = None) -> Problem:
    step_id, rest = None, path
    if path[:1] == ["steps"] and len(path) > 1 and isinstance(path[1], int):
        step = data["steps"][path[1]]
        named = isinstance(step, dict) and isinstance(step.get("id"), (str, int))
        step_id, rest = str(step["id"]) if named else f"#{path[1] + 1}", path[2:]
    key = ".".join(map(str, rest)) or None
    return Problem(message, step_id, key, document.file, document.line_of(path), hint)


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
