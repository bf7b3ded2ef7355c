"""
Finds long encoded texts that a program broke into lines: `base64` does so after 76 characters, `xxd -p` after 60.

The breaks are taken out, the rest is searched, and what was found is told where it stands with its breaks.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

SHORTEST_LINE_CHARS = 60
"""Shorter texts are not broken by anybody."""
_HELD_FROM = 4
"""
How much of one must stand at the end of a line to be masked there: else each line whose last character is the first
one of a form would have to wait for the next line.
"""
_BREAKS = b"\r\n"


class WrappedForms:
    """Searches for those of `forms`, all of ASCII, that are longer than a line."""

    def __init__(self, forms: Iterable[str]) -> None:
        self._forms = sorted({form.encode() for form in forms if len(form) > SHORTEST_LINE_CHARS})
        self._beginnings = sorted({form[skipped:] for form in self._forms for skipped in range(_HELD_FROM)})
        self._heads = frozenset(form[:_HELD_FROM] for form in self._beginnings)
        self.first_bytes = frozenset(form[0] for form in self._beginnings)
        # With a break of two bytes after every 16 characters: nobody has shorter lines.
        self.longest_bytes = max((len(form) + len(form) // 8 + 2 for form in self._forms), default=0)

    def spans(self, data: bytes) -> list[tuple[int, int]]:
        """
        Where one stands, from its first to behind its last byte, in their order. Of one that begins with the last three
        characters of a line, or fewer, only what is on the next lines.
        """
        if not self._forms or b"\n" not in data:
            return []
        bare = data.translate(None, _BREAKS)
        hits = [(form, at) for form in self._forms for at in _places(bare, form[_HELD_FROM - 1 :])]
        if not hits:
            return []
        # How many bytes of `bare` stand before each break.
        breaks = [match.start() - number for number, match in enumerate(re.finditer(rb"[\r\n]", data))]
        found = []
        for form, at in hits:
            begin = at
            for char in reversed(form[: _HELD_FROM - 1]):  # what stands before it on the same line
                if begin == 0 or bare[begin - 1] != char or begin in breaks:
                    break
                begin -= 1
            last = at + len(form) - _HELD_FROM
            found.append((begin + bisect_right(breaks, begin), last + bisect_right(breaks, last) + 1))
        return _merged(found)

    def text(self, text: str, mask: str) -> str:
        """`text` with `mask` for each."""
        if self._forms and "\n" in text:
            # One byte for each character, so that places stay the same.
            for start, end in reversed(self.spans(text.encode("ascii", "replace"))):
                text = text[:start] + mask + text[end:]
        return text

    def data(self, data: bytes, mask: bytes) -> bytes:
        """`data` with `mask` for each."""
        for start, end in reversed(self.spans(data)):
            data = data[:start] + mask + data[end:]
        return data

    def may_begin(self, data: bytes) -> bool:
        """Whether `data` may be the beginning of one, with breaks in it."""
        if len(data) < _HELD_FROM:
            bare = data
        elif data[:_HELD_FROM] in self._heads:
            bare = data.translate(None, _BREAKS)
        else:
            return False
        nearest = bisect_left(self._beginnings, bare)
        return nearest < len(self._beginnings) and self._beginnings[nearest].startswith(bare)


def _places(data: bytes, part: bytes) -> Iterable[int]:
    at = data.find(part)
    while at >= 0:
        yield at
        at = data.find(part, at + 1)


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged
