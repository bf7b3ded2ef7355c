"""What type the values of a column are, over all pages: the narrowest that changes none of them. Does no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any

import pyarrow as pa

from osiris_core.drivers.json_exact import plain_text

_MIN_INT64, _MAX_INT64 = -(1 << 63), (1 << 63) - 1
_EXACT_FLOAT = 1 << 53
_MAX_DIGITS = 76
"""Of Arrow's widest decimal."""


class Kind(StrEnum):
    """The types a column can turn out to have."""

    EMPTY = "empty"
    BOOL = "bool"
    INT = "int64"
    BIG = "integers beyond 64 bits"
    FLOAT = "float64"
    DECIMAL = "decimal"
    TEXT = "text"


_HELD: dict[Kind, pa.DataType] = {
    Kind.EMPTY: pa.string(),
    Kind.BOOL: pa.bool_(),
    Kind.INT: pa.int64(),
    Kind.FLOAT: pa.float64(),
}
"""How a page's column is held until the types of all pages are known; the others are held as texts."""
_BY_TYPE: dict[type, Kind] = {bool: Kind.BOOL, float: Kind.FLOAT, Decimal: Kind.DECIMAL, str: Kind.TEXT}


@dataclass(frozen=True)
class Shape:
    """
    What is known of a column's values: their kind, and what decides how wide a common type must be.

    Attributes:
        exact: Every integer is one that a float holds exactly.
        whole_digits: The most digits before the point, `scale` the most behind it.
    """

    kind: Kind = Kind.EMPTY
    exact: bool = True
    whole_digits: int = 0
    scale: int = 0

    def join(self, other: Shape) -> Shape:
        """The shape of a column that has the values of both."""
        kinds = {self.kind, other.kind} - {Kind.EMPTY}
        exact = self.exact and other.exact
        whole_digits, scale = max(self.whole_digits, other.whole_digits), max(self.scale, other.scale)
        return Shape(_common(kinds, exact=exact), exact, whole_digits, scale)

    @property
    def arrow(self) -> pa.DataType:
        """The type of the column. One without any value is text."""
        if self.kind is Kind.DECIMAL:
            digits = max(self.whole_digits + self.scale, 1)
            if digits > _MAX_DIGITS:
                return pa.string()
            return pa.decimal128(digits, self.scale) if digits <= 38 else pa.decimal256(digits, self.scale)
        return _HELD.get(self.kind, pa.string())


def _common(kinds: set[Kind], *, exact: bool) -> Kind:
    if not kinds:
        return Kind.EMPTY
    if len(kinds) == 1:
        return next(iter(kinds))
    if kinds <= {Kind.INT, Kind.BIG}:
        return Kind.BIG
    if kinds == {Kind.INT, Kind.FLOAT} and exact:
        return Kind.FLOAT
    if kinds <= {Kind.INT, Kind.BIG, Kind.DECIMAL}:
        return Kind.DECIMAL
    return Kind.TEXT


def shape_of(values: list[Any]) -> Shape:
    """The shape of one page's column."""
    types = set(map(type, values)) - {type(None)}
    exact, whole_digits, scale = True, 0, 0
    kinds = {_BY_TYPE[kind] for kind in types if kind is not int}
    if int in types:
        numbers = [value for value in values if type(value) is int]
        low, high = min(numbers), max(numbers)
        kinds.add(Kind.INT if low >= _MIN_INT64 and high <= _MAX_INT64 else Kind.BIG)
        exact = low >= -_EXACT_FLOAT and high <= _EXACT_FLOAT
        whole_digits = max(len(str(abs(low))), len(str(abs(high))))
    if Decimal in types:
        for value in values:
            if type(value) is Decimal:
                whole, fraction = _digits(value)
                whole_digits, scale = max(whole_digits, whole), max(scale, fraction)
    return Shape(_common(kinds, exact=exact), exact, whole_digits, scale)


def _digits(value: Decimal) -> tuple[int, int]:
    """How many digits stand before and behind the point when a number is written out."""
    _, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    return max(len(digits) + exponent, 0), max(-exponent, 0)


def held(values: list[Any], shape: Shape) -> Any:
    """
    One page's column as it waits for the others.

    Raises:
        UnicodeEncodeError: A text is none (half of a surrogate pair).
    """
    # Integers among fractions keep the form that they have as texts, should the column become one: as floats they would
    # show on which page they stood.
    if shape.kind in _HELD and not (shape.kind is Kind.FLOAT and int in set(map(type, values))):
        return pa.array(values, _HELD[shape.kind])
    return pa.array([None if v is None else v if type(v) is str else plain_text(v) for v in values], pa.string())


def nulls(count: int, kind: Any) -> Any:
    """A column of nothing."""
    return pa.nulls(count, kind)


def final(array: Any, wanted: Any) -> Any:
    """
    A page's column in the type of the whole column.

    Raises:
        pa.ArrowInvalid: A value does not fit a type that was asked for.
    """
    if array.type == wanted or array.null_count == len(array):
        return array if array.type == wanted else nulls(len(array), wanted)
    if pa.types.is_floating(array.type) and not pa.types.is_floating(wanted):
        # Arrow writes floats in another way than JSON does, and a page's size must not show.
        array = pa.array([None if v is None else plain_text(v) for v in array.to_pylist()], pa.string())
    if (pa.types.is_decimal(wanted) or pa.types.is_temporal(wanted)) and not pa.types.is_string(array.type):
        array = array.cast(pa.string())  # an integer is no time: nobody says since when, and in what
    return array.cast(wanted)
