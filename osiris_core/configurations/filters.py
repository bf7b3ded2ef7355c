"""What an expression may do to its value: read a time, shift it, write it in another form."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_SHIFT = re.compile(r"(?P<amount>[+-]?\d+(?:\.\d+)?)(?P<unit>[dhms])")
_UNITS_S = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}


class FilterError(ValueError):
    """A value that a filter cannot take, or an argument that it does not understand."""


def apply_filters(value: str, filters: Iterable[tuple[str, str]]) -> str:
    """
    `value` through each (name, argument) in turn. A time at the end is written as ISO 8601 has it.

    Raises:
        FilterError: One of them does not fit.
    """
    found: str | datetime = value
    for name, argument in filters:
        found = FILTERS[name](found, argument)
    return found if isinstance(found, str) else found.isoformat()


def _as_datetime(value: str | datetime, layout: str) -> datetime:
    if isinstance(value, datetime):
        return value
    try:
        return datetime.strptime(value, layout) if layout else datetime.fromisoformat(value)  # noqa: DTZ007 - as given
    except ValueError:
        expected = f"of the form {layout}" if layout else "as in 2026-11-20 or 2026-11-20T06:00:00Z"
        raise FilterError(f"its value is no time {expected}") from None  # not shown: it may be a secret


def _strftime(value: str | datetime, layout: str) -> str:
    if not layout:
        raise FilterError("strftime needs a form, as in strftime:%Y%m%d")
    return _as_datetime(value, "").strftime(layout)


def _shift(value: str | datetime, by: str) -> datetime:
    amounts = list(_SHIFT.finditer(by))
    if not amounts or "".join(amount[0] for amount in amounts) != by:
        raise FilterError(f"shift takes +1d, -6h, 30m or 10s, not {by!r}")
    seconds = sum(float(amount["amount"]) * _UNITS_S[amount["unit"]] for amount in amounts)
    try:
        return _as_datetime(value, "") + timedelta(seconds=seconds)
    except OverflowError:
        raise FilterError(f"shift:{by} leaves the calendar") from None


FILTERS: dict[str, Callable[[str | datetime, str], str | datetime]] = {
    "as_datetime": _as_datetime,
    "shift": _shift,
    "strftime": _strftime,
}
