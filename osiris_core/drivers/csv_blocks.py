"""Cuts a stream of UTF-8 into blocks of whole records, so that blocks can be parsed side by side."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from osiris_core.drivers.csv_encoding import ByteStream

BLOCK_BYTES = 2 << 20
MAX_RECORD_BYTES = 64 << 20
SURE_CUT_TRIES = 64


class BrokenRecord(ValueError):
    """Records that cannot be told apart. `offset_bytes` counts from the start of `data`, the text at fault."""

    def __init__(self, message: str, data: bytes, offset_bytes: int) -> None:
        super().__init__(message)
        self.data = data
        self.offset_bytes = offset_bytes


@dataclass(frozen=True)
class Dialect:
    """The characters that give a CSV its structure, and what is dropped from it."""

    delimiter: str = ","
    quote: str | None = '"'
    escape: str | None = None
    comment: str | None = None
    skip_blank_lines: bool = True

    def tokens(self) -> re.Pattern[bytes] | None:
        """Quoted fields (group 1) and comments; None when there can be neither."""
        parts = [self._quoted()] if self.quote else []
        if self.comment:
            mark = re.escape(self.comment.encode())
            whole_line = b"" if self.skip_blank_lines else rb"(?<![^\r\n])" + mark + rb"[^\r\n]*(?:\r?\n)?|"
            parts.append(whole_line + mark + rb"[^\r\n]*")
        return re.compile(b"|".join(parts)) if parts else None

    def quoted_spans(self, data: bytes) -> list[tuple[int, int]]:
        """Where its quoted fields begin and end, in data that begins with a record."""
        marks = [mark.encode() for mark in (self.quote, self.comment) if mark]
        pattern = self.tokens() if any(mark in data for mark in marks) else None
        return [match.span(1) for match in pattern.finditer(data) if match[1] is not None] if pattern else []

    def _quoted(self) -> bytes:
        quote = re.escape((self.quote or "").encode())
        before = rb"(?<![^\r\n" + re.escape(self.delimiter.encode()) + rb"]" + quote + rb")"
        if not self.escape or self.escape == self.quote:
            return (
                rb"("
                + quote
                + before
                + rb"[^"
                + quote
                + rb"]*(?:"
                + quote * 2
                + rb"[^"
                + quote
                + rb"]*)*"
                + rb"(?:"
                + quote
                + rb"|\Z))"
            )
        escape = re.escape(self.escape.encode())
        plain = rb"[^" + quote + escape + rb"]*"
        return (
            rb"("
            + quote
            + before
            + plain
            + rb"(?:(?:"
            + quote * 2
            + rb"|"
            + escape
            + rb"[\s\S])"
            + plain
            + rb")*(?:"
            + quote
            + rb"|\Z))"
        )


class BlockCutter:
    """Blocks of whole records, each but the last with its line end, from a stream that is at the start of one."""

    def __init__(
        self, stream: ByteStream, dialect: Dialect, first: bytes = b"", block_bytes: int = BLOCK_BYTES
    ) -> None:
        self._stream, self._pending = stream, first
        self._block_bytes = block_bytes
        self._dialect = dialect
        self._quote = (dialect.quote or "\0").encode()
        self._newline: bytes | None = None
        self._openers = {dialect.delimiter.encode(), self._quote, b"\r", b"\n"}
        self._plain = not dialect.comment and dialect.escape in (None, dialect.quote)

    def __iter__(self) -> Iterator[bytes]:
        wanted_bytes = self._block_bytes
        while True:
            ended = self._fill(wanted_bytes)
            data = self._pending
            if not data:
                return
            if self._newline is None:
                self._newline = b"\n" if b"\n" in data else b"\r"
            cut = len(data) if ended else self._cut(data)
            if ended:
                check_closed(data, self._dialect)
            if cut == 0:
                wanted_bytes = 2 * len(data)
                if len(data) >= MAX_RECORD_BYTES:
                    raise BrokenRecord(
                        f"a record is longer than {MAX_RECORD_BYTES >> 20} MiB; is a quote left open?", data, 0
                    )
                continue
            wanted_bytes, self._pending = self._block_bytes, data[cut:]
            yield data[:cut]

    def _fill(self, wanted_bytes: int) -> bool:
        """Read until that much is pending; True at the end of the stream."""
        parts, size = [self._pending], len(self._pending)
        while size < wanted_bytes:
            part = self._stream.read(wanted_bytes - size)
            if not part:
                self._pending = b"".join(parts)
                return True
            parts.append(part)
            size += len(part)
        self._pending = b"".join(parts)
        return False

    def _cut(self, data: bytes) -> int:
        """Behind the last line end that is not quoted; 0 if there is none."""
        if self._quote in data and (end := self._sure_cut(data)):
            return end
        spans = self._dialect.quoted_spans(data)
        end = data.rfind(self._newline or b"\n") + 1
        while end and spans:
            start, stop = spans[-1]
            if end <= start:
                spans.pop()
            elif end > stop:
                break
            else:
                end = data.rfind(self._newline or b"\n", 0, start) + 1
        return end

    def _sure_cut(self, data: bytes) -> int:
        """
        Behind a line end that ends a record whatever stands before it, found without a scan; 0 if none is near.

        A single quote before a line end closes its field, or belongs to an unquoted one, unless it opens a field.
        """
        end = len(data)
        for _ in range(SURE_CUT_TRIES if self._plain else 0):
            end = data.rfind(self._newline or b"\n", 0, end)
            before = end - 1 if data[end - 1 : end] != b"\r" else end - 2
            if before < 1:
                return 0
            if data[before : before + 1] == self._quote and data[before - 1 : before] not in self._openers:
                return end + 1
        return 0


def check_closed(data: bytes, dialect: Dialect) -> None:
    """
    Data that begins with a record and ends with the text.

    Raises:
        BrokenRecord: Its last quoted field is never closed.
    """
    spans = dialect.quoted_spans(data)
    if spans and spans[-1][1] == len(data):
        quote = (dialect.quote or "").encode()
        start, stop = spans[-1]
        body = data[start + 1 : stop]
        if not body.endswith(quote) or (len(body) - len(body.rstrip(quote))) % 2 == 0:
            raise BrokenRecord("a quoted field is opened and never closed", data, start)


def drop_comments_and_mark_blanks(data: bytes, dialect: Dialect, columns: int) -> bytes:
    """A block without comments; with `skip_blank_lines: false` its blank lines become rows of nulls."""
    pattern = dialect.tokens() if dialect.comment else None
    if pattern is not None and (dialect.comment or "").encode() in data:
        data = pattern.sub(lambda match: match[1] or b"", data)
    if not dialect.skip_blank_lines and columns > 1:
        quoted = dialect._quoted() if dialect.quote else rb"(\Z.)"
        row = dialect.delimiter.encode() * (columns - 1) + b"\n"
        data = re.sub(quoted + rb"|(?<![^\n])\r?\n", lambda match: match[1] or row, data)
    return data
