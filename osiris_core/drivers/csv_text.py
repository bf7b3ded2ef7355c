"""Values as CSV text: every Arrow type, quoting, and one text of many rows."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from osiris_core.arrow_constants import int32_scalar, text_array, text_scalar

PLAIN_SCALE = 6
"""Up to this scale Arrow writes every decimal without an exponent."""
Quoting = Literal["minimal", "all", "nonnumeric", "none"]


class Unquotable(ValueError):
    """With `quoting: none`, a text holds a character that would need quotes."""

    def __init__(self, column: str, row: int) -> None:
        super().__init__(f"row {row + 1}, column {column!r}: the text needs quotes, and quoting is none")
        self.column, self.row = column, row


@dataclass(frozen=True)
class Format:
    """How rows are written."""

    delimiter: str
    newline: str
    quoting: Quoting
    quote: str
    null_text: str

    def rows(self, batch: pa.RecordBatch, first_row: int) -> pa.Buffer | bytes:
        """
        The rows of a batch as UTF-8 bytes.

        Raises:
            Unquotable: `quoting: none` and a text that needs quotes; rows are counted from `first_row`.
        """
        if not batch.num_rows:
            return b""
        columns = []
        for field, column in zip(batch.schema, batch.columns, strict=True):
            texts = self._field(field.name, column, first_row)
            if batch.num_columns == 1 and self.null_text == "" and self.quoting != "none":
                # A blank line is no row to most readers.
                texts = pc.fill_null(texts, text_scalar(self.quote * 2))
            columns.append(texts)
        last = pc.binary_join_element_wise(
            columns[-1],
            text_scalar(self.newline),
            text_scalar(""),
            null_handling="replace",
            null_replacement=self.null_text,
        )
        lines: Any = last
        if len(columns) > 1:
            lines = pc.binary_join_element_wise(
                *columns[:-1],
                last,
                text_scalar(self.delimiter),
                null_handling="replace",
                null_replacement=self.null_text,
            )
        # The texts of an Arrow array lie one behind the other: its data buffer is the file.
        _, offsets, data = lines.buffers()
        end = int.from_bytes(offsets.slice(len(lines) * 4, 4).to_pybytes(), "little")
        joined: pa.Buffer = data.slice(0, end)
        return joined

    def header(self, names: list[str]) -> bytes:
        """The header row."""
        texts = self._quoted("header", text_array(names), -1)
        return (self.delimiter.join(texts.to_pylist()) + self.newline).encode()

    def _field(self, name: str, column: Any, first_row: int) -> Any:
        texts = as_text(column)
        if is_bare(column.type):
            return self._wrapped(texts) if self.quoting == "all" else texts
        return self._quoted(name, texts, first_row)

    def _quoted(self, name: str, texts: Any, first_row: int) -> Any:
        if self.quoting == "none":
            special = pc.fill_null(pc.match_substring_regex(texts, self._special), False)
            if pc.any(special).as_py():
                raise Unquotable(name, first_row + pc.index(special, True).as_py())
            return texts
        data = _bytes_of(texts)
        if self.quote.encode() in data:
            quoted = self._wrapped(pc.replace_substring(texts, self.quote, self.quote * 2))
        elif self.quoting == "minimal" and not self._has_special(data) and not _has_empty(texts):
            return self._like_null(texts)
        else:
            quoted = self._wrapped(texts)
        if self.quoting != "minimal":
            return quoted
        needs = pc.or_(
            pc.match_substring_regex(texts, self._special), pc.equal(pc.binary_length(texts), int32_scalar(0))
        )
        return self._like_null(pc.if_else(needs, quoted, texts), quoted)

    def _like_null(self, texts: Any, quoted: Any = None) -> Any:
        """A text that reads like the null text is quoted, so that the two stay apart."""
        if not self.null_text:
            return texts
        same = pc.equal(texts, text_scalar(self.null_text))
        return pc.if_else(same, self._wrapped(texts) if quoted is None else quoted, texts)

    def _wrapped(self, texts: Any) -> Any:
        return pc.binary_join_element_wise(text_scalar(self.quote), texts, text_scalar(self.quote), text_scalar(""))

    def _has_special(self, data: bytes) -> bool:
        return b"\n" in data or b"\r" in data or self.delimiter.encode() in data

    @property
    def _special(self) -> str:
        return "[\\r\\n" + "".join(f"\\x{{{ord(char):x}}}" for char in (self.delimiter, self.quote)) + "]"


def is_bare(kind: pa.DataType) -> bool:
    """Numbers and bools: their text never needs quotes."""
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_null(kind)
    )


def as_text(column: Any) -> Any:
    """
    The values as text that reads back to the same values: floats in their shortest exact form and with a point,
    ISO 8601, base64 for binary, JSON for lists, maps and structs.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        return as_text(column.cast(kind.value_type))
    if pa.types.is_string(kind):
        return column
    if pa.types.is_floating(kind):
        return _float_text(column)
    if pa.types.is_timestamp(kind):
        return _timestamp_text(column)
    if pa.types.is_decimal(kind):
        if 0 <= kind.scale <= PLAIN_SCALE:
            return column.cast(pa.string())
        return pa.array([None if value is None else f"{value:f}" for value in column.to_pylist()], pa.string())
    if pa.types.is_time(kind):
        return pc.replace_substring_regex(column.cast(pa.string()), r"\.0+$", "")
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        encoded = [None if item is None else base64.b64encode(item).decode() for item in column.to_pylist()]
        return pa.array(encoded, pa.string())
    if pa.types.is_nested(kind):
        encoded = [None if item is None else _json(item) for item in column.to_pylist()]
        return pa.array(encoded, pa.string())
    return column.cast(pa.string())


def _float_text(column: Any) -> Any:
    texts = column.cast(pa.string())
    if pc.any(pc.equal(column, pc.trunc(column))).as_py():
        bare = pc.match_substring_regex(texts, r"^-?[0-9]+$")
        texts = pc.if_else(bare, pc.binary_join_element_wise(texts, text_scalar(".0"), text_scalar("")), texts)
    return texts


def _timestamp_text(column: Any) -> Any:
    if column.type.tz:
        column = column.cast(pa.timestamp(column.type.unit, "UTC"))
    texts = pc.replace_substring(column.cast(pa.string()), " ", "T", max_replacements=1)
    if column.type.unit == "s":
        return texts
    return pc.replace_substring_regex(texts, r"\.0+(Z?)$", r"\1")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_plain)


def _plain(value: Any) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _bytes_of(texts: Any) -> bytes:
    _, offsets, data = texts.buffers()
    if data is None:
        return b""
    start, end = (
        int.from_bytes(offsets.slice((texts.offset + index) * 4, 4).to_pybytes(), "little") for index in (0, len(texts))
    )
    found: bytes = data.slice(start, end - start).to_pybytes()
    return found


def _has_empty(texts: Any) -> bool:
    return bool(pc.min(pc.binary_length(texts)).as_py() == 0)
