"""Where in an answer the records are: `data.items`, `edges[*].node`, `results[0].rows`. Does no I/O."""

from __future__ import annotations

import re
from typing import Any

from osiris_core.suggestion import did_you_mean

_STEP = re.compile(r"\.?(?:(?P<key>[^.\[\]]+)|\[(?:'(?P<quoted>[^']*)'|(?P<index>\d+)|(?P<all>\*))\])")

Step = str | int | None
"""A key, an index, or None for every item."""


class NoSuchPath(LookupError):
    """The answer has nothing at that path."""


def parse_path(path: str) -> list[Step]:
    """
    The steps of a path; `$` or nothing is the answer itself. A key with dots in it is written `['a.b']`.

    Raises:
        ValueError: It is no path.
    """
    rest = path.strip().removeprefix("$")
    steps: list[Step] = []
    position = 0
    while position < len(rest):
        match = _STEP.match(rest, position)
        if match is None or (position == 0 and rest.startswith(".") and path.strip()[0] != "$"):
            raise ValueError(f"{path!r} is no path; write data.items, edges[*].node or results[0]")
        position = match.end()
        if match["all"]:
            steps.append(None)
        elif match["index"] is not None:
            steps.append(int(match["index"]))
        else:
            steps.append(match["key"] if match["key"] is not None else match["quoted"])
    return steps


def find(value: Any, steps: list[Step]) -> Any:
    """
    What is at a path. Behind `[*]` it is a list; null on the way is null.

    Raises:
        NoSuchPath: With what is there instead.
    """
    for number, step in enumerate(steps):
        if value is None:
            return None
        if step is None:
            if not isinstance(value, list):
                raise NoSuchPath(f"{_shown(steps[:number])} is {_kind(value)}, and no list")
            found = [find(item, steps[number + 1 :]) for item in value]
            # A second `[*]` gives one list, not a list of lists.
            nested = None in steps[number + 1 :]
            return [inner for item in found if item is not None for inner in item] if nested else found
        value = _step(value, step, steps[:number])
    return value


def find_or_none(value: Any, steps: list[Step]) -> Any:
    """What is at a path, None where there is nothing."""
    try:
        return find(value, steps)
    except NoSuchPath:
        return None


def _step(value: Any, step: str | int, before: list[Step]) -> Any:
    if isinstance(step, int):
        if not isinstance(value, list):
            raise NoSuchPath(f"{_shown(before)} is {_kind(value)}, and no list")
        if step >= len(value):
            raise NoSuchPath(f"{_shown(before)} has only {len(value)} items")
        return value[step]
    if not isinstance(value, dict):
        hint = f"; did you mean {_shown([*before, None, step])}?" if isinstance(value, list) else ""
        raise NoSuchPath(f"{_shown(before)} is {_kind(value)}, and no object{hint}")
    if step not in value:
        hint = did_you_mean(step, value) or f"it has: {', '.join(list(value)[:20]) or 'nothing'}"
        raise NoSuchPath(f"{_shown(before)} has no {step!r} ({hint})")
    return value[step]


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _shown(steps: list[Step]) -> str:
    text = ""
    for step in steps:
        if isinstance(step, str):
            text += f".{step}" if text else step
        else:
            text += "[*]" if step is None else f"[{step}]"
    return text or "the answer"
