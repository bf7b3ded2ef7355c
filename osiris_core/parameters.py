"""A manifest's parameters: their defaults, the values given for a run, and `${params.NAME}` in configurations."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from osiris_core.manifest import PARAM_NAME, Param
from osiris_core.suggestion import did_you_mean

_REFERENCE = re.compile(rf"\$(?P<escaped>\$\{{)|\$\{{params\.(?P<name>{PARAM_NAME})\}}")


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
        ParameterError: A given one is not declared or not of its type, a default is not of the declared type, or
            a required one is not given. All of it at once.
    """
    found = [
        (name, "there is no such parameter", did_you_mean(name, declared)) for name in given if name not in declared
    ]
    values: dict[str, Any] = {}
    for name, entry in declared.items():
        param = entry if isinstance(entry, Param) else Param(default=entry)
        if name not in given and (param.required or "default" not in param.model_fields_set):
            found.append((name, "must be given", f"--param {name}=VALUE"))
            continue
        try:
            values[name] = _typed(given[name], param) if name in given else _checked(param.default, param.type)
        except ValueError as exc:
            found.append((name, str(exc), None))
    if found:
        raise ParameterError(found)
    return values


def _typed(value: Any, param: Param) -> Any:
    kind = param.type or {bool: "boolean", int: "integer", float: "number"}.get(type(param.default))
    if not isinstance(value, str):
        return _checked(value, kind)
    try:
        if kind == "integer":
            return int(value)
        if kind == "number":
            return _checked(float(value), kind)
        if kind == "boolean":
            return {"true": True, "false": False}[value.strip().lower()]
    except (ValueError, KeyError):
        raise ValueError(f"{value!r} is not {'an' if kind == 'integer' else 'a'} {kind}") from None
    return value


_TYPES: dict[str, tuple[type, ...]] = {
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "string": (str,),
}


def _checked(value: Any, kind: str | None) -> Any:
    """A value that is no text to be read, if it fits."""
    if isinstance(value, (list, tuple)):
        for item in value:
            _checked(item, None)
        fits = kind is None
    else:
        fits = value is None or (kind is None and isinstance(value, (str, int, float)))
        fits = fits or (
            kind is not None and isinstance(value, _TYPES[kind]) and isinstance(value, bool) == (kind == "boolean")
        )
    if not fits or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(
            f"{value!r} is not {f'of type {kind}' if kind else 'a text, number, boolean or list of these'}"
        )
    return list(value) if isinstance(value, tuple) else value


def put_in_parameters(value: Any, params: Mapping[str, Any]) -> Any:
    """
    A copy of `value` with each `${params.NAME}` replaced. A text that is one reference and nothing else takes the
    parameter's type; within a text it becomes text, as JSON has it (`true`, `null`, `[1, 2]`).

    Raises:
        ParameterError: Names are not declared, or a reference is not well formed; all of them at once.
    """
    found = list(dict.fromkeys(_wrong_references(value, params)))
    if found:
        raise ParameterError(found)
    return _put_in(value, params)


def _wrong_references(value: Any, params: Mapping[str, Any]) -> Iterator[tuple[str, str, str | None]]:
    if isinstance(value, str) and "${params." in value:
        for match in _REFERENCE.finditer(value):
            if match["name"] is not None and match["name"] not in params:
                yield match["name"], "there is no such parameter", did_you_mean(match["name"], params)
        for rest in re.findall(r"\$\{params\.([^}]*)", _REFERENCE.sub("", value)):
            yield rest, "is not the name of a parameter; defaults stand in `params`", None
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _wrong_references(item, params)
    elif isinstance(value, list):
        for item in value:
            yield from _wrong_references(item, params)


def _put_in(value: Any, params: Mapping[str, Any]) -> Any:
    if isinstance(value, str):
        if "${params." not in value:
            return value
        whole = _REFERENCE.fullmatch(value)
        if whole is not None and whole["name"]:
            return params[whole["name"]]
        return _REFERENCE.sub(lambda match: match[0] if match["escaped"] else _as_text(params[match["name"]]), value)
    if isinstance(value, Mapping):
        return {key: _put_in(item, params) for key, item in value.items()}
    if isinstance(value, list):
        return [_put_in(item, params) for item in value]
    return value


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
