"""Fields of a configuration that name files: what is read travels with the run, what is written is an artifact."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pydantic import BaseModel


MAX_NAME_BYTES = 255
"""What the file systems of Linux take as one name."""


@dataclass(frozen=True, slots=True)
class PathRole:
    """Marks a string field as a path of a local file."""

    role: Literal["input", "output"]


InputPath = Annotated[str, PathRole("input")]
"""A file that the step reads: relative to the manifest's folder there, an absolute path that exists in `run`."""

OutputPath = Annotated[str, PathRole("output")]
"""A file that the step writes: a relative path in a manifest, an absolute one in its artifacts directory in `run`."""


class PathEscapes(ValueError):
    """A path that leaves the place it must stay in."""


def safe_relative(path: str) -> PurePosixPath:
    """
    `path` as a relative path without `.` and `..` parts.

    Raises:
        PathEscapes: It is empty, absolute, contains `..`, a backslash or a NUL, or is percent-encoded (however often)
            to hide one; or a part of it is longer than a file name can be.
    """
    decoded = path
    while (further := unquote(decoded)) != decoded:
        decoded = further
    if not path or "\0" in decoded or "\\" in decoded:
        raise PathEscapes(f"{path!r} is not a plain relative path")
    pure, hidden = PurePosixPath(path), PurePosixPath(decoded)
    if any(len(part.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES for part in pure.parts):
        raise PathEscapes(f"a part of '{path[:40]}…' is longer than {MAX_NAME_BYTES} bytes")
    if pure.is_absolute() or hidden.is_absolute() or ".." in hidden.parts or path.startswith("~"):
        raise PathEscapes(f"{path!r} leaves the artifacts directory")
    if not pure.parts:
        raise PathEscapes(f"{path!r} names no file")
    return pure


def stays_inside(link: str, target: str) -> bool:
    """
    Whether a symbolic link at the relative path `link` leads to something in the same tree, by what it says.

    That is not where it ends when a folder on its way is a link itself.
    """
    if not target or "\0" in target or target.startswith("/"):
        return False
    return not posixpath.normpath(posixpath.join(posixpath.dirname(link), target)).startswith("..")


def path_fields(model: type[BaseModel]) -> Iterator[tuple[str, PathRole]]:
    """The path fields of a configuration model: plain ones, optional ones, lists and mappings of paths."""
    return iter(_path_fields(model))


@lru_cache(maxsize=256)  # a model does not change, and every step asks several times
def _path_fields(model: type[BaseModel]) -> tuple[tuple[str, PathRole], ...]:
    found = []
    for name, field in model.model_fields.items():
        role = next((item for item in field.metadata if isinstance(item, PathRole)), None)
        role = role or _role_within(field.annotation)
        if role is not None:
            found.append((name, role))
    return tuple(found)


def with_path_defaults(model: type[BaseModel], config: Mapping[str, Any]) -> dict[str, Any]:
    """`config` with the defaults of path fields that it leaves out: those are paths like any other."""
    filled = dict(config)
    for name, _ in path_fields(model):
        if name not in filled and model.model_fields[name].default_factory not in (list, dict):
            default = model.model_fields[name].get_default(call_default_factory=True, validated_data=filled)
            if isinstance(default, (str, list, dict)) and default:
                filled[name] = default
    return filled


@lru_cache(maxsize=256)
def hidden_path_fields(model: type[BaseModel]) -> list[str]:
    """Path fields that nobody would find: under an alias, or inside a nested model."""
    found = [
        f"{name} (it has an alias)"
        for name, _ in path_fields(model)
        if model.model_fields[name].validation_alias or model.model_fields[name].alias
    ]
    for name, field in model.model_fields.items():
        nested = [
            kind for kind in _types_within(field.annotation) if hasattr(kind, "model_fields") and kind is not model
        ]
        found.extend(f"{name}.{inner}" for kind in nested for inner, _ in path_fields(kind))
    return found


def _types_within(annotation: Any) -> Iterator[type[Any]]:
    if isinstance(annotation, type):
        yield annotation
    for argument in get_args(annotation):
        yield from _types_within(argument)


def _role_within(annotation: Any) -> PathRole | None:
    for item in getattr(annotation, "__metadata__", ()):
        if isinstance(item, PathRole):
            return item
    for argument in get_args(annotation):
        if (role := _role_within(argument)) is not None:
            return role
    return None


def map_paths(value: Any, change: Callable[[str], str]) -> Any:
    """`value` of a path field with every path in it changed: a string, a list or a mapping to strings."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [map_paths(item, change) for item in value]
    if isinstance(value, dict):
        return {key: map_paths(item, change) for key, item in value.items()}
    return value
