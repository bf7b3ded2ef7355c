"""
Secrets travel by name. `${VAR}` stays as it is in everything that is written down; values are put in at the
last moment, in the memory of the process that needs them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

REFERENCE = re.compile(
    r"\$(?P<escaped>\$\{)"
    r"|\$\{(?P<name>@[^}]+|[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>(?:\$\{@[^}]*\}|[^}])*))?\}"
)
"""`${NAME}`, `${NAME:-default}`, `${@lifted.name}`, `${NAME:-${@lifted.name}}`; `$${` is a literal `${`."""


class SecretValues(Mapping[str, str]):
    """Values by name, in memory only: never shown by repr; a pickled or deep-copied one is empty."""

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        self._values = dict(values or {})

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"SecretValues({', '.join(sorted(self._values))})"

    def __reduce__(self) -> tuple[type[SecretValues], tuple[()]]:
        return SecretValues, ()


def escape(text: str) -> str:
    """`text` so that `substitute` gives it back as it is."""
    return text.replace("${", "$${")


def references(value: Any) -> Iterator[tuple[str, str | None]]:
    """Every (name, default) that a JSON-like value refers to, in defaults too; the default is None for none."""
    if isinstance(value, str):
        if "${" in value:
            for match in REFERENCE.finditer(value):
                if match["name"]:
                    yield match["name"], match["default"]
                    yield from references(match["default"])
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from references(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from references(item)


def substitute(value: Any, values: Mapping[str, str]) -> Any:
    """
    A copy of a JSON-like value with every reference replaced.

    An empty variable counts as unset where a default is given (as in a shell's `:-`).

    Raises:
        KeyError: A name is neither in `values` nor has a default.
    """
    if isinstance(value, str):
        return REFERENCE.sub(lambda match: _one(match, values), value) if "${" in value else value
    if isinstance(value, Mapping):
        return {key: substitute(item, values) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [substitute(item, values) for item in value]
    return value


def _one(match: re.Match[str], values: Mapping[str, str]) -> str:
    if match["escaped"]:
        return "${"
    name, default = match["name"], match["default"]
    found = values.get(name)
    if found is None or (found == "" and default is not None):
        if default is None:
            raise KeyError(name)
        return str(substitute(default, values))
    return found
