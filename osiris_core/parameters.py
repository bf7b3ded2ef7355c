"""A manifest's parameters: their defaults, the values given for a run, and `${params.NAME}` in configurations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from osiris_core.manifest import Param
from osiris_core.suggestion import did_you_mean

_REFERENCE = re.compile(r"\$(?P<escaped>\$\{)|\$\{params\.(?P<name>[A-Za-z_][A-Za-z0-9_\-]*)\}")


class ParameterError(ValueError):
    """Every (name, message, hint) that is wrong with the parameters."""

    def __init__(self, found: list[tuple[str, str, str | None]]) -> None:
        super().__init__("; ".join(message for _, message, _ in found))
        self.found = found


def parameter_values(declared: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """
    The value of every declared parameter: as given, else its default.

    A given text is read as the declared type, or as the default's.

    Raises:
        ParameterError: A given one is not declared or not of its type, or a required one is not given.
    """
    found = [
        (name, "there is no such parameter", did_you_mean(name, declared)) for name in given if name not in declared
    ]
    values: dict[str, Any] = {}
    for name, entry in declared.items():
        param = entry if isinstance(entry, Param) else Param(default=entry)
        if name in given:
            try:
                values[name] = _typed(given[name], param)
            except ValueError as exc:
                found.append((name, str(exc), None))
        elif param.required:
            found.append((name, "must be given", f"--param {name}=VALUE"))
        else:
            values[name] = param.default
    if found:
        raise ParameterError(found)
    return values


def _typed(value: Any, param: Param) -> Any:
    kind = param.type or {bool: "boolean", int: "integer", float: "number"}.get(type(param.default))
    if kind is None or not isinstance(value, str):
        return value
    try:
        if kind == "integer":
            return int(value)
        if kind == "number":
            return float(value)
        if kind == "boolean":
            return {"true": True, "false": False}[value.lower()]
    except (ValueError, KeyError):
        raise ValueError(f"{value!r} is not {'an' if kind == 'integer' else 'a'} {kind}") from None
    return value


def put_in_parameters(value: Any, params: Mapping[str, Any]) -> Any:
    """
    A copy of `value` with each `${params.NAME}` replaced. A text that is one reference and nothing else takes the
    parameter's type; within a text it becomes text.

    Raises:
        ParameterError: A name is not declared.
    """
    if isinstance(value, str):
        if "${params." not in value:
            return value
        for match in _REFERENCE.finditer(value):
            name = match["name"]
            if name is not None and name not in params:
                raise ParameterError([(name, "there is no such parameter", did_you_mean(name, params))])
        whole = _REFERENCE.fullmatch(value)
        if whole is not None and whole["name"]:
            return params[whole["name"]]
        return _REFERENCE.sub(lambda match: match[0] if match["escaped"] else str(params[match["name"]]), value)
    if isinstance(value, Mapping):
        return {key: put_in_parameters(item, params) for key, item in value.items()}
    if isinstance(value, list):
        return [put_in_parameters(item, params) for item in value]
    return value
