"""What stands before the first row of a CSV: skipped lines, the names of the columns, and where the rows start."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from osiris_core.drivers.csv_encoding import UnreadableText

if TYPE_CHECKING:
    from collections.abc import Iterator

    from osiris_core.drivers.csv_blocks import Dialect
    from osiris_core.drivers.csv_encoding import ByteStream

HEAD_BYTES = 256 << 10
_LINE = re.compile(rb"[^\r\n]*(?:\r\n|\n|\r)|[^\r\n]+\Z")


@dataclass(frozen=True)
class Header:
    """The column names; `rest` is what was read of the rows already, `line` is the number of their first line."""

    names: list[str]
    rest: bytes
    line: int


def read_header(stream: ByteStream, dialect: Dialect, header: bool | int, skip_rows: int) -> Header:
    """
    Read up to the first row. Without a header the columns are called "0", "1", and so on.

    Raises:
        UnreadableText: There is no header row and no row to count columns in.
    """
    head = _head(stream)
    lines = _LINE.findall(head)
    at = min(skip_rows, len(lines))
    at = _next_record(lines, at, dialect)
    for _ in range(0 if isinstance(header, bool) else header):
        at = _next_record(lines, at + 1, dialect)
    if at >= len(lines):
        raise UnreadableText("the file is empty: it has no header row and no row" if not lines else "no header row")
    fields, count = _record(lines[at:], dialect)
    start = at if header is False else at + count
    names = [str(index) for index in range(len(fields))] if header is False else unique_names(fields)
    return Header(names, b"".join(lines[start:]), start + 1)


def _head(stream: ByteStream) -> bytes:
    parts, size = [], 0
    while size < HEAD_BYTES and (part := stream.read(HEAD_BYTES - size)):
        parts.append(part)
        size += len(part)
    return b"".join(parts)


def _next_record(lines: list[bytes], at: int, dialect: Dialect) -> int:
    """The first line from `at` on that is neither blank (if these are skipped) nor a comment."""
    comment = dialect.comment.encode() if dialect.comment else None
    while at < len(lines):
        blank = dialect.skip_blank_lines and not lines[at].strip(b"\r\n")
        if not blank and not (comment and lines[at].startswith(comment)):
            break
        at += 1
    return at


def _record(lines: list[bytes], dialect: Dialect) -> tuple[list[str], int]:
    try:
        reader = python_reader((line.decode("utf-8") for line in lines), dialect)
        fields = next(reader)
    except UnicodeDecodeError as exc:
        raise UnreadableText("the header row is not UTF-8; check `encoding`") from exc
    except csv.Error as exc:
        raise UnreadableText(f"the header row cannot be read: {exc}") from exc
    if dialect.comment and fields and dialect.comment in fields[-1]:
        fields[-1] = fields[-1].partition(dialect.comment)[0]
    return fields or [""], reader.line_num


def python_reader(lines: Iterator[str], dialect: Dialect) -> Any:
    """Python's own reader for this dialect: slow, and it knows the line that it is on."""
    return csv.reader(
        lines,
        delimiter=dialect.delimiter,
        quotechar=dialect.quote,
        quoting=csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE,
        escapechar=dialect.escape if dialect.escape != dialect.quote else None,
    )


def unique_names(names: list[str]) -> list[str]:
    """As pandas does: `a, a` become `a, a.1`; a column without a name becomes `Unnamed: <position>`."""
    found: list[str] = []
    taken = set(names)
    seen: set[str] = set()
    for index, given in enumerate(names):
        name = given or f"Unnamed: {index}"
        if name in seen:
            number = 1
            while f"{name}.{number}" in seen or f"{name}.{number}" in taken:
                number += 1
            name = f"{name}.{number}"
        seen.add(name)
        found.append(name)
    return found
