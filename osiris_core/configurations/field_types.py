"""What type a value in a file is read as: the annotation of the field that it stands in, however deep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from pydantic import SecretStr

from osiris_core.documents import parse_document
from osiris_core.errors import ManifestError
from osiris_core.host_paths import HostPath
from osiris_core.model_types import members

if TYPE_CHECKING:
    from pydantic import BaseModel


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
