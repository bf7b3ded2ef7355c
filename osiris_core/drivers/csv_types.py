"""What type the texts of a column are, widened as rows come, so that no value is lost or changed."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa
import pyarrow.compute as pc

from osiris_core.arrow_constants import float64_scalar, int32_scalar, null_scalar, text_array

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

NA_TOKENS = (
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "nan", "null",
)  # fmt: skip
EXACT_FLOAT = float(1 << 53)
_TRUE, _FALSE = ("true", "True", "TRUE"), ("false", "False", "FALSE")
_BOOLS = text_array([*_TRUE, *_FALSE])
_TRUE_COUNT = int32_scalar(len(_TRUE))
_ONE = int32_scalar(1)
_EXACT_FLOAT = float64_scalar(EXACT_FLOAT)


class Kind(StrEnum):
    """The types a column can turn out to have."""

    EMPTY = "empty"
    MISSING = "only tokens of a missing value"
    INT = "int64"
    FLOAT = "float64"
    BOOL = "bool"
    DATE = "date"
    TIMESTAMP = "timestamp"
    TIMESTAMP_UTC = "timestamp with time zone"
    TEXT = "text"

    @property
    def arrow(self) -> Any:
        return _ARROW[self]


_ARROW: dict[Kind, pa.DataType] = {
    Kind.EMPTY: pa.string(),
    Kind.MISSING: pa.string(),
    Kind.INT: pa.int64(),
    Kind.FLOAT: pa.float64(),
    Kind.BOOL: pa.bool_(),
    Kind.DATE: pa.date32(),
    Kind.TIMESTAMP: pa.timestamp("us"),
    Kind.TIMESTAMP_UTC: pa.timestamp("us", "UTC"),
    Kind.TEXT: pa.string(),
}
_NUMBERS = (Kind.INT, Kind.FLOAT, Kind.BOOL)
_DATES = (Kind.DATE, Kind.TIMESTAMP, Kind.TIMESTAMP_UTC)
_WIDER: dict[Kind, tuple[Kind, ...]] = {
    Kind.INT: (Kind.INT, Kind.FLOAT),
    Kind.FLOAT: (Kind.FLOAT,),
    Kind.BOOL: (Kind.BOOL,),
    Kind.DATE: (Kind.DATE, Kind.TIMESTAMP),
    Kind.TIMESTAMP: (Kind.TIMESTAMP,),
    Kind.TIMESTAMP_UTC: (Kind.TIMESTAMP_UTC,),
    Kind.TEXT: (),
}


def join(kinds: Iterable[Kind]) -> Kind:
    """The narrowest kind that holds all of these."""
    found = set(kinds)
    for undecided in (Kind.EMPTY, Kind.MISSING):
        if len(found) > 1:
            found.discard(undecided)
    if len(found) == 1:
        return found.pop()
    if found == {Kind.INT, Kind.FLOAT}:
        return Kind.FLOAT
    return Kind.TIMESTAMP if found == {Kind.DATE, Kind.TIMESTAMP} else Kind.TEXT


class ColumnTyper:
    """Turns the texts of one column into the narrowest type that keeps every value as it was written."""

    def __init__(self, *, numbers: bool, dates: bool, extra_na: Sequence[str] = ()) -> None:
        self._first = (_NUMBERS if numbers else ()) + (_DATES if dates else ())
        self._tokens = text_array(sorted({*NA_TOKENS, *extra_na}))
        self._extra = text_array(extra_na) if extra_na else None

    def convert(self, texts: Any, known: Kind) -> tuple[Kind, Any]:
        """The array, and its kind: `known`, or a wider one when a text does not fit it."""
        if self._extra is not None:
            texts = nulled(texts, self._extra)
        if texts.null_count == len(texts):
            return known, pa.nulls(len(texts), known.arrow)
        undecided = known in (Kind.EMPTY, Kind.MISSING)
        candidates = self._first if undecided else _WIDER[known]
        found = _narrowest(texts, candidates)
        if found is None and candidates:
            cleaned = nulled(pc.ascii_trim_whitespace(texts), self._tokens)
            if cleaned.null_count == len(cleaned):
                return (Kind.MISSING, texts) if undecided else (known, pa.nulls(len(texts), known.arrow))
            found = _narrowest(cleaned, candidates)
        return found or (Kind.TEXT, texts)


def _narrowest(texts: Any, candidates: Iterable[Kind]) -> tuple[Kind, Any] | None:
    for kind in candidates:
        array = _exact(texts, kind)
        if array is not None:
            return kind, array
    return None


def nulled(texts: Any, tokens: Any) -> Any:
    """`texts` with every text that is one of `tokens` as null."""
    found = pc.is_in(texts, value_set=tokens)
    return pc.if_else(found, null_scalar(texts.type), texts) if pc.any(found).as_py() else texts


def _exact(texts: Any, kind: Kind) -> Any:
    """`texts` as `kind`, or None when one does not fit or would not keep its value."""
    if kind is Kind.BOOL:
        index = pc.index_in(texts, value_set=_BOOLS)
        return pc.less(index, _TRUE_COUNT) if index.null_count == texts.null_count else None
    try:
        array = texts.cast(kind.arrow)
    except pa.ArrowInvalid:
        return None
    if kind is Kind.INT:
        return None if _has_zero_prefix(texts) else array
    return None if kind is Kind.FLOAT and not _keeps_digits(texts, array) else array


def _has_zero_prefix(texts: Any) -> bool:
    """`007`, `-0` and `0x1f`: numbers to Arrow, but a code or another notation to whoever wrote them."""
    zero = pc.starts_with(texts, "0")
    if pc.any(zero).as_py() and pc.any(pc.and_(zero, pc.greater(pc.binary_length(texts), _ONE))).as_py():
        return True
    return bool(pc.any(pc.starts_with(texts, "-0")).as_py())


def _keeps_digits(texts: Any, floats: Any) -> bool:
    if pc.any(pc.match_substring_regex(texts, r"^(?:\+|-?0[0-9])")).as_py() or pc.any(pc.is_nan(floats)).as_py():
        return False
    large = pc.greater_equal(pc.abs(floats), _EXACT_FLOAT)
    if not pc.any(large).as_py():
        return True
    for text in texts.filter(large).to_pylist():
        digits = text.lstrip("-")
        number = float(text)
        if digits.isdigit() and (number in (float("inf"), float("-inf")) or int(text) != int(number)):
            return False
        if number in (float("inf"), float("-inf")) and "inf" not in text.lower():
            return False
    return True


_NAMED: dict[str, Any] = {
    **{name: pa.string() for name in ("str", "string", "object", "text", "category", "varchar")},
    **{name: pa.int64() for name in ("int", "integer", "bigint", "Int64")},
    **{name: pa.float64() for name in ("float", "double", "Float64")},
    **{name: pa.bool_() for name in ("boolean",)},
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", "UTC"),
    "datetime": pa.timestamp("us"),
    "datetime64": pa.timestamp("us"),
    "datetime64[ns]": pa.timestamp("ns"),
    "datetime64[us]": pa.timestamp("us"),
}
DTYPE_NAMES = sorted(
    {
        *_NAMED,
        "bool",
        "date32",
        *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
        "float32",
        "float64",
    }
)


def named_type(name: str) -> Any:
    """
    The type that `dtype` names: a name of pandas, numpy or Arrow, or `decimal(precision, scale)`.

    Raises:
        ValueError: There is no such type.
    """
    if name.startswith("decimal(") and name.endswith(")"):
        precision, _, scale = name[len("decimal(") : -1].partition(",")
        return pa.decimal128(int(precision), int(scale or 0))
    if name in _NAMED:
        return _NAMED[name]
    if name not in DTYPE_NAMES and name.lower() not in DTYPE_NAMES:
        raise ValueError(f"unknown type {name!r}; known: {', '.join(DTYPE_NAMES)}, decimal(p, s)")
    return _NAMED.get(name.lower()) or pa.type_for_alias(cast("Any", name.lower()))


class FixedTyper:
    """Turns the texts of one column into the type that the user asked for."""

    def __init__(self, wanted: Any, extra_na: Sequence[str] = ()) -> None:
        self.wanted = wanted
        text = pa.types.is_string(wanted)
        self._tokens = text_array(sorted(set(extra_na) if text else {*NA_TOKENS, *extra_na}))

    def convert(self, texts: Any) -> Any:
        """
        The array.

        Raises:
            ArrowInvalid: A text does not fit.
        """
        if pa.types.is_string(self.wanted):
            return nulled(texts, self._tokens) if len(self._tokens) else texts
        return nulled(pc.ascii_trim_whitespace(texts), self._tokens).cast(self.wanted)

    def first_bad(self, texts: Any) -> int:
        """The index of the first text that does not fit."""
        for index in range(len(texts)):
            try:
                self.convert(texts.slice(index, 1))
            except pa.ArrowInvalid:
                return index
        return 0
