"""What stands before the first row of a CSV: skipped lines, the names of the columns, and where the rows start."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Self

from osiris_core.drivers.csv_blocks import MAX_RECORD_BYTES, BrokenRecord, check_closed
from osiris_core.drivers.csv_encoding import UnreadableText

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from osiris_core.drivers.csv_blocks import Dialect
    from osiris_core.drivers.csv_encoding import ByteStream

READ_BYTES = 256 << 10
_LINE = re.compile(rb"[^\r\n]*(?:\r\n|\n|\r)|[^\r\n]+\Z")


@dataclass(frozen=True)
class Header:
    """The column names; `rest` is what was read of the rows already, `line` is the number of their first line."""

    names: list[str]
    rest: bytes
    line: int


def read_header(stream: ByteStream, dialect: Dialect, header: bool | int, skip_rows: int) -> Header:
    """
    Read up to the first row, however far that is. Without a header the columns are called "0", "1", and so on.

    Raises:
        UnreadableText: There is no header row and no row to count columns in, or it cannot be read as one.
    """
    lines = _Lines(stream)
    for _ in range(skip_rows):
        next(lines, None)
    _pass_blank_lines_and_comments(lines, dialect)
    for _ in range(0 if isinstance(header, bool) else header):
        next(lines, None)
        _pass_blank_lines_and_comments(lines, dialect)
    if lines.peek() is None:
        empty = lines.number == 1
        raise UnreadableText("the file is empty: it has no header row and no row" if empty else "no header row")
    start = lines.number
    fields, read = _record(lines, dialect)
    if header is False:
        return Header([str(index) for index in range(len(fields))], read + lines.rest, start)
    if lines.peek() is None:
        _check_closed(read, dialect, start)
    return Header(unique_names(fields), lines.rest, lines.number)


class _Lines:
    """The lines of a stream, each with its end; `number` is that of the next one, `rest` what was read beyond."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream, self._ended = stream, False
        self._data, self._at = b"", 0
        self.number = 1

    @property
    def rest(self) -> bytes:
        return self._data[self._at :]

    def peek(self) -> bytes | None:
        """The next line, which stays the next one; None behind the last."""
        while True:
            found = _LINE.match(self._data, self._at)
            if self._ended:
                return found[0] if found else None
            if found and found.end() < len(self._data):
                return found[0]
            self._read_on()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        line = self.peek()
        if line is None:
            raise StopIteration
        self._at += len(line)
        self.number += 1
        return line

    def _read_on(self) -> None:
        """Twice as much as is pending, so that a long line is not copied once for each part of it."""
        parts = [self.rest]
        size = len(parts[0])
        if size > MAX_RECORD_BYTES:
            raise UnreadableText(f"line {self.number} is longer than {MAX_RECORD_BYTES >> 20} MiB")
        wanted = max(READ_BYTES, 2 * size)
        while size < wanted:
            part = self._stream.read(wanted - size)
            if not part:
                self._ended = True
                break
            parts.append(part)
            size += len(part)
        self._data, self._at = b"".join(parts), 0


def _pass_blank_lines_and_comments(lines: _Lines, dialect: Dialect) -> None:
    """Up to the first line that is neither blank (if these are skipped) nor a comment."""
    comment = dialect.comment.encode() if dialect.comment else None
    while (line := lines.peek()) is not None:
        blank = dialect.skip_blank_lines and not line.strip(b"\r\n")
        if not blank and not (comment and line.startswith(comment)):
            break
        next(lines)


def _record(lines: _Lines, dialect: Dialect) -> tuple[list[str], bytes]:
    """The fields of the next record, and its bytes."""
    read: list[bytes] = []

    def texts() -> Iterator[str]:
        for line in lines:
            read.append(line)
            yield line.decode("utf-8")

    try:
        fields = next(python_reader(texts(), dialect))
    except UnicodeDecodeError as exc:
        raise UnreadableText("the header row is not UTF-8; check `encoding`") from exc
    except _own_csv().Error as exc:
        raise UnreadableText(f"the header row cannot be read: {exc}") from exc
    if dialect.comment and fields and dialect.comment in fields[-1]:
        fields[-1] = fields[-1].partition(dialect.comment)[0]
    return fields or [""], b"".join(read)


def _check_closed(read: bytes, dialect: Dialect, line: int) -> None:
    try:
        check_closed(read, dialect)
    except BrokenRecord as exc:
        before = _LINE.findall(exc.data[: exc.offset_bytes] + b"x")
        raise UnreadableText(f"line {line + len(before) - 1}: {exc}") from exc


def python_reader(lines: Iterable[str], dialect: Dialect) -> Any:
    """Python's own reader for this dialect: slow, it knows the line that it is on, and takes fields of any length."""
    module = _own_csv()
    return module.reader(
        lines,
        delimiter=dialect.delimiter,
        quotechar=dialect.quote,
        quoting=module.QUOTE_MINIMAL if dialect.quote else module.QUOTE_NONE,
        escapechar=dialect.escape if dialect.escape != dialect.quote else None,
    )


@cache
def _own_csv() -> Any:
    """A module `_csv` of our own: the greatest length of a field is one setting for all who share the module."""
    spec = importlib.util.find_spec("_csv")
    assert spec
    assert spec.loader
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.field_size_limit(2 * MAX_RECORD_BYTES)
    return module


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
