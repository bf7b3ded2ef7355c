"""What the annotations of a model allow at a place, however deep."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel


def members(annotation: Any) -> Iterator[Any]:
    """The types that an annotation allows: a union's members, without what only annotates them."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from members(member)
    else:
        yield annotation


def models_of(annotation: Any) -> list[type[BaseModel]]:
    """The models among the members."""
    return [item for item in members(annotation) if isinstance(item, type) and issubclass(item, BaseModel)]


def model_of(annotation: Any) -> type[BaseModel] | None:
    """The first model among the members."""
    return next(iter(models_of(annotation)), None)


def below(annotation: Any, key: str | int) -> Any:
    """The annotation of what stands under `key`; Any where none is known."""
    for member in members(annotation):
        if isinstance(member, type) and issubclass(member, BaseModel):
            if key in member.model_fields:
                return member.model_fields[str(key)].annotation
            continue
        origin, arguments = get_origin(member), get_args(member)
        if not isinstance(origin, type) or not arguments:
            continue
        if isinstance(key, str) and issubclass(origin, Mapping):
            return arguments[1]
        if isinstance(key, int) and not issubclass(origin, Mapping):
            several = origin is tuple and len(arguments) > 1 and arguments[1] is not Ellipsis
            return arguments[key] if several and key < len(arguments) else arguments[0]
    return Any
