"""The settings that reading and writing a CSV share, and what they must be to work."""

from __future__ import annotations

import codecs
from typing import Annotated

from pydantic import AfterValidator, Field


def _check_mark(value: str) -> str:
    if not value.isascii() or value in "\r\n\0":
        raise ValueError("must be one ASCII character, and no line end")
    return value


def _check_codec(name: str) -> str:
    try:
        "".encode(name)
        codecs.getincrementaldecoder(name)
    except (LookupError, UnicodeError) as exc:
        raise ValueError("unknown encoding; any Python codec for text will do, for example cp1250") from exc
    return name


Mark = Annotated[str, Field(min_length=1, max_length=1), AfterValidator(_check_mark)]
"""A character that gives a CSV its structure."""
TextCodec = Annotated[str, AfterValidator(_check_codec)]
"""The name of a Python codec between text and bytes; rot13 and base64 are none."""


def check_different(marks: dict[str, str | None]) -> None:
    """Raise ValueError if two settings are the same character."""
    by_mark: dict[str, str] = {}
    for name, mark in marks.items():
        if mark and (other := by_mark.setdefault(mark, name)) != name:
            raise ValueError(f"{other} and {name} must be different characters, both are {mark!r}")
