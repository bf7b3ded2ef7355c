"""Values as a column of a database holds them: cast so that nothing is lost, or refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from osiris_core.arrow_constants import int64_scalar, null_scalar
from osiris_core.drivers.csv_text import as_text
from osiris_core.drivers.sql_errors import DatabaseFailed

if TYPE_CHECKING:
    from collections.abc import Callable

CLOCK = r"\d\d:\d\d(:\d\d(\.\d+)?)?"
"""How a text says a time of a day; DAY: a date."""
DAY = r"\d{4,}-\d\d-\d\d"
MICROSECOND_PLACES = 6


class Inexact(ValueError):
    """A value would become another one."""


def refusing(convert: Callable[[Any], Any], name: str, sql_type: str) -> Callable[[Any], Any]:
    """
    `convert`, whose errors are those of a column.

    What is made raises:
        DatabaseFailed: A value does not fit.
    """

    def checked(values: Any) -> Any:
        try:
            return convert(values)
        except (Inexact, pa.ArrowInvalid, pa.ArrowNotImplementedError, OverflowError) as exc:
            raise DatabaseFailed(
                f"column {name!r}: a value does not fit {sql_type}: {exc}",
                remedy="change it before it is written; nothing is rounded or cut off here",
                details={"column": name},
            ) from None

    return checked


def refused(kind: pa.DataType, name: str, sql_type: str) -> DatabaseFailed:
    """The error for a type of values that a type of columns does not take at all."""
    return DatabaseFailed(
        f"column {name!r} is {sql_type}, which takes no values of {kind}",
        remedy="cast them before they are written",
        details={"column": name},
    )


def is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def as_floats(values: Any, kind: pa.DataType) -> Any:
    """Numbers as floating-point ones: of shorter ones the nearest, of exact numbers the same."""
    if values.type == kind:
        return values
    if pa.types.is_decimal(values.type):
        floats = values.cast(pa.float64()).cast(kind)
        if not as_text(floats).cast(values.type).equals(values):
            raise Inexact(f"a number has more digits than {kind}")
        return floats
    floats = values.cast(kind)
    if pa.types.is_floating(values.type) and not pc.is_inf(floats).equals(pc.is_inf(values)):
        raise Inexact(f"a number is beyond {kind}")
    return floats


def as_dates(values: Any) -> Any:
    """Timestamps at midnight, in UTC where they have a zone, as dates."""
    values = without_zone(values)
    days = values.cast(pa.date32())
    if not days.cast(values.type).equals(values):
        raise Inexact("a time of the day would be lost")
    return days


def without_zone(values: Any) -> Any:
    """Timestamps with a zone as what a clock shows in UTC."""
    unit, zone = values.type.unit, values.type.tz
    return values if zone is None else values.cast(pa.timestamp(unit, "UTC")).cast(pa.timestamp(unit))


def in_microseconds(values: Any, places: int = MICROSECOND_PLACES) -> Any:
    """Timestamps, times or durations in microseconds, whose seconds have at most so many places."""
    kind = values.type
    if pa.types.is_timestamp(kind):
        wanted: pa.DataType = pa.timestamp("us", kind.tz)
    else:
        wanted = pa.duration("us") if pa.types.is_duration(kind) else pa.time64("us")
    values = values if kind == wanted else values.cast(wanted)
    if places < MICROSECOND_PLACES:
        check_multiple(values.cast(pa.int64()), 10 ** (MICROSECOND_PLACES - places))
    return values


def check_multiple(numbers: Any, step: int) -> None:
    """
    Raises:
        Inexact: One of the integers is no multiple of `step`.
    """
    rest = pc.subtract(numbers, pc.multiply(pc.divide(numbers, int64_scalar(step)), int64_scalar(step)))
    if pc.any(pc.not_equal(rest, int64_scalar(0))).as_py():
        raise Inexact("a part of a second would be lost")


def rounded(values: Any, places: int) -> Any:
    """Floating-point numbers with so many places, halves away from zero; those that have no more are left alone."""
    more = pc.match_substring_regex(as_text(values), rf"\.\d{{{places}}}\d*[1-9]|e-")
    nearest = pc.round(pc.if_else(more, values, null_scalar(values.type)), places, "half_towards_infinity")
    return pc.if_else(more, nearest, values)


def check_texts(texts: Any, pattern: str, what: str) -> Any:
    """
    The texts.

    Raises:
        Inexact: One of them is not written so.
    """
    wrong = pc.invert(pc.match_substring_regex(texts, rf"^(?:{pattern})$"))
    if pc.any(wrong).as_py():
        raise Inexact(f"{texts.filter(wrong)[0].as_py()!r} is not {what}")
    return texts


def check_places(texts: Any, places: int) -> Any:
    """
    The texts of numbers or times.

    `places` below zero: so many digits before the point are zeros.

    Raises:
        Inexact: One of them has a digit beyond these places.
    """
    lost = rf"\.\d{{{places}}}\d*[1-9]" if places >= 0 else rf"[1-9]\d{{0,{-places - 1}}}(\.\d*)?$|\.\d*[1-9]"
    beyond = pc.match_substring_regex(texts, lost)
    if pc.any(beyond).as_py():
        raise Inexact(f"{texts.filter(beyond)[0].as_py()!r} has digits that would be lost")
    return texts
