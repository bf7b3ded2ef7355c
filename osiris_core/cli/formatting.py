"""Numbers, times and tables as people read them."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def visible(text: str) -> str:
    r"""
    Text that moves no cursor and clears no screen: control characters as `\x1b`, all but newline and tab.

    What a command prints and how a manifest calls itself was written by others, and a terminal obeys it.
    """
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def json_text(document: Any, indent: int | None = None, default: Callable[[Any], Any] | None = None) -> str:
    """JSON in readable letters and without one control character; a number that JSON does not have is null."""
    try:
        text = json.dumps(document, ensure_ascii=False, indent=indent, allow_nan=False, default=default)
    except ValueError:
        plain = json.loads(json.dumps(document, default=default), parse_constant=lambda _: None)
        text = json.dumps(plain, ensure_ascii=False, indent=indent)
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def size(size_bytes: int) -> str:
    """`812 B`, `1.2 MB`: powers of 1000, as disks are sold and `ls --si` prints."""
    amount = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if amount < 1000 or unit == "TB":
            break
        amount /= 1000
    return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"


def count(number: float, unit: str = "rows") -> str:
    """`3,000 rows`, `1 row`."""
    text = f"{number:,.0f}" if float(number).is_integer() else f"{number:,.1f}"
    return f"{text} {unit.removesuffix('s') if number == 1 else unit}"


def duration(seconds: float) -> str:
    """`0.12 s`, `2 min 05 s`, `3 h 04 min`."""
    if seconds < 59.995:
        return f"{seconds:.2f} s"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min {seconds % 60:02.0f} s"
    return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:02.0f} min"


def clock(timestamp: str) -> str:
    """The local time of day of an ISO timestamp."""
    return _local(timestamp).strftime("%H:%M:%S")


def when(timestamp: str) -> str:
    """The local date and time of an ISO timestamp; what is none is handed back."""
    try:
        return _local(timestamp).strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return timestamp


def _local(timestamp: str) -> datetime:
    return datetime.fromisoformat(timestamp).astimezone()


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of columns that start below each other; nothing for no rows."""
    lines = [list(header), *(list(row) for row in rows)]
    if len(lines) == 1:
        return []
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def first_line(text: str, limit: int = 200) -> str:
    """The first line that says something, cut to `limit` characters."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
