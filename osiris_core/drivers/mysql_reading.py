"""The texts of MariaDB's values as Arrow's types, exactly; what Arrow cannot hold follows an option or is an error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from osiris_core.arrow_constants import int64_scalar, null_scalar, text_scalar
from osiris_core.drivers.sql_errors import DatabaseFailed
from osiris_core.drivers.sql_extractor_config import MAX_DIGITS

if TYPE_CHECKING:
    from collections.abc import Callable

    from osiris_core.drivers.mysql_extractor_config import MysqlExtractorConfig

_UNSIGNED = 32
_BINARY_CHARSET = 63
_TINY, _FLOAT, _DOUBLE, _NULL, _TIMESTAMP, _DATE, _TIME, _DATETIME = 1, 4, 5, 6, 7, 10, 11, 12
_YEAR, _NEW_DATE, _BIT, _JSON, _GEOMETRY = 13, 14, 16, 245, 255
_DECIMALS = (0, 246)
_INTEGERS: dict[int, tuple[pa.DataType, pa.DataType]] = {
    _TINY: (pa.int8(), pa.uint8()),
    2: (pa.int16(), pa.uint16()),
    9: (pa.int32(), pa.uint32()),
    3: (pa.int32(), pa.uint32()),
    8: (pa.int64(), pa.uint64()),
    _YEAR: (pa.int16(), pa.int16()),
}
DAY_US = 86_400_000_000
_ZERO_DATE = r"^\d{4}-(00-|\d\d-00)"
_TIME_PARTS = r"^(?P<sign>-?)(?P<hours>\d+):(?P<minutes>\d\d):(?P<seconds>\d\d)(?:\.(?P<part>\d{1,6}))?$"


@dataclass(frozen=True)
class Column:
    """How one column is read: its name, the type it gets, and the function that makes that of the server's texts."""

    name: str
    kind: pa.DataType
    convert: Callable[[Any], Any]


def read_column(field: Any, config: MysqlExtractorConfig) -> Column:
    """
    Of a field as the protocol describes it.

    Raises:
        DatabaseFailed: The server's text of it is not exact.
    """
    name, code = field.name, field.type_code
    unsigned = bool(field.flags & _UNSIGNED)
    if code == _TINY and field.length == 1 and not unsigned and config.tinyint1 == "bool":
        return Column(name, pa.bool_(), lambda values: _as_bool(name, values))
    if code in _INTEGERS:
        return _cast(name, _INTEGERS[code][unsigned])
    if code in _DECIMALS:
        digits = field.length - (0 if unsigned else 1) - (1 if field.scale else 0)
        return _decimal(name, digits, field.scale, config)
    if code == _DOUBLE:
        return _cast(name, pa.float64())
    if code == _FLOAT:
        raise DatabaseFailed(
            f"column {name!r} is FLOAT, of which the server shows six digits only",
            remedy=f"write CAST({name} AS DOUBLE) in the query, or read the table",
            details={"column": name},
        )
    if code in (_DATE, _NEW_DATE, _DATETIME, _TIMESTAMP):
        return _date(name, code, config)
    if code == _TIME:
        return _time(name, config)
    if code == _BIT:
        return Column(name, pa.uint64(), _as_number)
    if code == _NULL:
        return Column(name, pa.string(), lambda values: values.cast(pa.string()))
    if code == _GEOMETRY or (field.charsetnr == _BINARY_CHARSET and code != _JSON):
        return Column(name, pa.binary(), lambda values: values)
    return Column(name, pa.string(), lambda values: _as_text(name, values))


def as_float(field: Any) -> Column:
    """Of a FLOAT that is read as a DOUBLE, which shows all of its digits."""
    return _cast(field.name, pa.float32())


def _cast(name: str, kind: pa.DataType) -> Column:
    def convert(values: Any) -> Any:
        try:
            return values.cast(pa.string()).cast(kind)
        except pa.ArrowInvalid as exc:
            raise DatabaseFailed(f"column {name!r}: {exc}", details={"column": name}) from None

    return Column(name, kind, convert)


def _as_text(name: str, values: Any) -> Any:
    try:
        return values.cast(pa.string())
    except pa.ArrowInvalid:
        raise DatabaseFailed(
            f"column {name!r} holds bytes that are no text in its character set",
            remedy=f"write CAST({name} AS BINARY) in the query",
            details={"column": name},
        ) from None


def _as_bool(name: str, values: Any) -> Any:
    numbers = values.cast(pa.string()).cast(pa.int8())
    limits: Any = pc.min_max(numbers).as_py()
    if numbers.null_count < len(numbers) and not 0 <= limits["min"] <= limits["max"] <= 1:
        raise DatabaseFailed(
            f"column {name!r} is tinyint(1) and holds other numbers than 0 and 1",
            remedy="set tinyint1: int",
            details={"column": name},
        )
    return numbers.cast(pa.bool_())


def _decimal(name: str, digits: int, scale: int, config: MysqlExtractorConfig) -> Column:
    if digits <= MAX_DIGITS:
        return _cast(name, pa.decimal128(max(digits, scale, 1), scale))
    if config.wide_decimals == "text":
        return Column(name, pa.string(), lambda values: values.cast(pa.string()))
    if config.wide_decimals == "float":
        return _cast(name, pa.float64())
    chosen = config.wide_decimal_digits
    assert chosen is not None
    kind = pa.decimal128(*chosen)

    def convert(values: Any) -> Any:
        try:
            return values.cast(pa.string()).cast(kind)
        except pa.ArrowInvalid as exc:
            raise DatabaseFailed(
                f"column {name!r}: a number does not fit {config.wide_decimals}: {exc}",
                remedy="set wide_decimals to text",
                details={"column": name},
            ) from None

    return Column(name, kind, convert)


def _date(name: str, code: int, config: MysqlExtractorConfig) -> Column:
    if config.zero_dates == "text":
        return Column(name, pa.string(), lambda values: values.cast(pa.string()))
    kind: pa.DataType = pa.timestamp("us")
    if code in (_DATE, _NEW_DATE):
        kind = pa.date32()

    def convert(values: Any) -> Any:
        texts = values.cast(pa.string())
        try:
            made = texts.cast(kind)
        except pa.ArrowInvalid as exc:
            zero = pc.match_substring_regex(texts, _ZERO_DATE)
            if not pc.any(zero).as_py():
                raise DatabaseFailed(f"column {name!r}: {exc}", details={"column": name}) from None
            if config.zero_dates == "error":
                raise DatabaseFailed(
                    f"column {name!r} holds dates like 0000-00-00, which Arrow does not have",
                    remedy="set zero_dates: null, or text for all dates as they are written",
                    details={"column": name},
                ) from None
            made = pc.if_else(zero, null_scalar(pa.string()), texts).cast(kind)
        return made.cast(pa.timestamp("us", "UTC")) if code == _TIMESTAMP else made

    return Column(name, pa.timestamp("us", "UTC") if code == _TIMESTAMP else kind, convert)


def _time(name: str, config: MysqlExtractorConfig) -> Column:
    if config.times == "text":
        return Column(name, pa.string(), lambda values: values.cast(pa.string()))
    if config.times == "duration":
        return Column(name, pa.duration("us"), _as_duration)

    def convert(values: Any) -> Any:
        numbers = _as_duration(values).cast(pa.int64())
        beyond = pc.or_(
            pc.less(numbers, pa.scalar(0, pa.int64())), pc.greater_equal(numbers, pa.scalar(DAY_US, pa.int64()))
        )
        if pc.any(beyond).as_py():
            raise DatabaseFailed(
                f"column {name!r} holds times that are none of a day's, as TIME may: negative, or over 24 hours",
                remedy="set times: duration, or text",
                details={"column": name},
            )
        return numbers.cast(pa.time64("us"))

    return Column(name, pa.time64("us"), convert)


def _as_duration(values: Any) -> Any:
    parts = pc.extract_regex(values.cast(pa.string()), _TIME_PARTS)
    hours, minutes, seconds = (
        pc.struct_field(parts, part).cast(pa.int64()) for part in ("hours", "minutes", "seconds")
    )
    part = pc.utf8_rpad(pc.struct_field(parts, "part"), 6, "0").cast(pa.int64())
    sixty, million = int64_scalar(60), int64_scalar(1_000_000)
    total = pc.add(pc.multiply(pc.add(pc.multiply(hours, sixty), minutes), sixty), seconds)
    total = pc.multiply(total, million)
    total = pc.add(total, part)
    signed = pc.if_else(pc.equal(pc.struct_field(parts, "sign"), text_scalar("-")), pc.negate(total), total)
    return signed.cast(pa.duration("us"))


def _as_number(values: Any) -> Any:
    """BIT columns: up to eight bytes, the highest first."""
    numbers = [None if value is None else int.from_bytes(value, "big") for value in values.to_pylist()]
    return pa.array(numbers, pa.uint64())
