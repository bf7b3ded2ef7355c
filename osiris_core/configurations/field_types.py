"""What type a value in a file is read as: the annotation of the field that it stands in, however deep."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr

from osiris_core.documents import parse_document
from osiris_core.errors import ManifestError
from osiris_core.host_paths import HostPath


def members(annotation: Any) -> Iterator[Any]:
    """The types that an annotation allows: a union's members, without what only annotates them."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from members(member)
    else:
        yield annotation


def model_of(annotation: Any) -> type[BaseModel] | None:
    """The first model among the members."""
    return next((item for item in members(annotation) if isinstance(item, type) and issubclass(item, BaseModel)), None)


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


def host_path_of(model: type[BaseModel] | None, key: str | int) -> HostPath | None:
    """How the model marks a field of its own as a path of this machine."""
    if model is None or key not in model.model_fields:
        return None
    info = model.model_fields[str(key)]
    return next((mark for mark in info.metadata if isinstance(mark, HostPath)), None)


def typed(text: str, annotation: Any) -> Any:
    """
    A text that stands for a value as pydantic can read it into the field.

    Pydantic reads numbers, booleans and times from text by itself, and leaves a text where one is meant. What it
    cannot read so: an empty text for null, and a list or mapping (`[a, b]`, `{a: 1}`), where no text is meant.
    """
    allowed = set()
    for member in members(annotation):
        kind = type(get_args(member)[0]) if get_origin(member) is Literal else get_origin(member) or member
        if kind in (Any, str, SecretStr):
            return text
        allowed.add(kind)
    if not text.strip() and type(None) in allowed:
        return None
    if text.lstrip()[:1] in ("[", "{"):
        try:
            return parse_document(text).data
        except ManifestError:
            return text
    return text
