"""PostgreSQL's values as Arrow's, exactly; what Arrow cannot hold follows an option or is an error with its column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from osiris_core.arrow_constants import int32_scalar, int64_scalar, null_scalar, text_array, text_scalar
from osiris_core.drivers.sql_errors import DatabaseFailed
from osiris_core.drivers.sql_extractor_config import MAX_DIGITS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from osiris_core.drivers.postgres_extractor_config import PostgresExtractorConfig

AsNull = Literal["error", "null"]
EARLIEST_US = -210_866_803_200_000_000
"""4714-11-24 BC, PostgreSQL's first day, in Arrow's microseconds. What the client gives below it are the infinities,
and days that microseconds since 1970 cannot reach: it lets them run over."""
EARLIEST_DAY = -2_440_588
DAY_US = 86_400_000_000
NOT_A_NUMBER = text_array(["nan", "inf", "-inf"])
_EXACT = frozenset(
    """int2 int4 int8 float4 float8 numeric bool date time timestamp timestamptz interval bytea oid text varchar bpchar
    name char json jsonb uuid xml""".split()  # noqa: SIM905 - one a line is long
)
TEXT_SENDERS = frozenset(
    """textsend varcharsend bpcharsend namesend unknownsend enum_send xml_send citextsend charsend ltree_send
    lquery_send""".split()  # noqa: SIM905 - one a line is long
)
"""Functions by which the server sends a type as its text."""


@dataclass(frozen=True)
class Column:
    """How one column is read: its name, the type it gets, and the function that makes that of the wire's values."""

    name: str
    kind: pa.DataType
    convert: Callable[[Any], Any] | None = None


def is_exact(type_name: str, sender: str, *, is_own: bool) -> bool:
    """Whether `read_column` has an exact type for a column of this type; all others can be read as texts."""
    if is_own:
        return sender in TEXT_SENDERS
    return type_name.removeprefix("_") in _EXACT


def is_foreign(field: pa.Field[Any]) -> str | None:
    """The name of a type, or of that of a list's items, that the client library hands over as bytes."""
    kind = field.type
    if pa.types.is_list(kind):
        return is_foreign(kind.value_field)
    if isinstance(kind, pa.OpaqueType) and kind.type_name != "numeric":
        return str(kind.type_name)
    return None


def unknown_oid(type_name: str) -> int | None:
    """The number in the client's `unnamed<oid:16535>`."""
    digits = type_name.removeprefix("unnamed<oid:").removesuffix(">")
    return int(digits) if digits.isdigit() and digits != type_name else None


def read_column(field: pa.Field[Any], config: PostgresExtractorConfig, senders: Mapping[str, str]) -> Column:
    """
    `senders`: by the names of foreign types, the function by which the server sends them.

    Raises:
        DatabaseFailed: Arrow has no exact type for it.
    """
    name, kind = field.name, field.type
    pg_type = _pg_type(field)
    if isinstance(kind, pa.OpaqueType):
        if kind.type_name == "numeric":
            typmod = int((field.metadata or {}).get(b"POSTGRESQL:typmod", b"-1"))
            return _numeric(name, typmod, config)
        if senders.get(str(kind.type_name)) in TEXT_SENDERS:
            return Column(name, pa.string(), lambda values: _storage(values).cast(pa.string()))
        raise _unreadable(name, str(kind.type_name))
    if pg_type == "money":
        raise _unreadable(name, "money")
    if isinstance(kind, pa.UuidType):
        return Column(name, pa.string(), _uuid_text)
    if isinstance(kind, pa.BaseExtensionType):
        return Column(name, kind.storage_type, _storage)
    if pa.types.is_list(kind):
        return _list(name, read_column(kind.value_field.with_name(name), config, senders))
    if pa.types.is_nested(kind):
        raise _unreadable(name, pg_type)
    if pg_type == "oid":
        return Column(name, pa.uint32(), lambda values: values.view(pa.uint32()))
    if pa.types.is_timestamp(kind) or pa.types.is_date32(kind) or pa.types.is_time64(kind):
        return Column(name, kind, _within_reach(name, kind, config.infinite_dates))
    return Column(name, kind)


def _unreadable(name: str, pg_type: str) -> DatabaseFailed:
    what = "of a type of its own" if pg_type.startswith("unnamed") else pg_type
    return DatabaseFailed(
        f"column {name!r} is {what}, for which Arrow has no exact type",
        remedy=f'cast it in the query: "{name}"::text',
        details={"column": name},
    )


def _storage(values: Any) -> Any:
    return values.storage if isinstance(values, pa.ExtensionArray) else values


def _list(name: str, item: Column) -> Column:
    def convert(values: Any) -> Any:
        items = values.values if item.convert is None else item.convert(values.values)
        return pa.ListArray.from_arrays(values.offsets, items, mask=_mask(values))

    return Column(name, pa.list_(item.kind), convert)


def nesting_query(statement: str, schema: pa.Schema) -> str | None:
    """
    The statement with one more column: whether a row has an array of arrays, which the client flattens.

    None where no column is an array.
    """
    names = [f"c{number}" for number in range(len(schema))]
    arrays = [name for name, field in zip(names, schema, strict=True) if _pg_type(field).startswith("_")]
    if not arrays:
        return None
    nested = " OR ".join(f"array_ndims({name}) > 1" for name in arrays)
    return f"SELECT *, coalesce({nested}, false) FROM ({statement}) AS found({', '.join(names)})"  # noqa: S608 - ours


def without_nesting(batch: pa.RecordBatch) -> pa.RecordBatch:
    """
    A batch of `nesting_query` without its last column.

    Raises:
        DatabaseFailed: It has an array of arrays.
    """
    last = batch.num_columns - 1
    if pc.any(batch.column(last)).as_py():
        raise DatabaseFailed(
            "a row holds an array of arrays, which would be read as one flat list",
            remedy="cast it to text or jsonb in the query: to_jsonb(x)::text",
        )
    return batch.select(list(range(last)))


def _pg_type(field: pa.Field[Any]) -> str:
    return (field.metadata or {}).get(b"POSTGRESQL:type", b"").decode()


def _mask(values: Any) -> Any:
    return values.is_null() if values.null_count else None


def numeric_limits(typmod: int) -> tuple[int, int] | None:
    """Precision and scale that a type modifier of NUMERIC holds; None: without limits."""
    if typmod < 4:
        return None
    scale = (typmod - 4) & 0x7FF
    return ((typmod - 4) >> 16) & 0xFFFF, scale - 2048 if scale > 1023 else scale


def _numeric(name: str, typmod: int, config: PostgresExtractorConfig) -> Column:
    limits = numeric_limits(typmod)
    digits: tuple[int, int] | None = None
    if limits is not None and limits[1] >= 0 and max(limits) <= MAX_DIGITS:
        digits = max(limits), limits[1]
    elif config.wide_decimals == "float":
        return Column(name, pa.float64(), lambda values: _as_floats(name, _storage(values)))
    else:
        digits = config.wide_decimal_digits
    if digits is None:
        return Column(name, pa.string(), _storage)
    kind = pa.decimal128(*digits)

    def convert(values: Any) -> Any:
        texts = _storage(values)
        try:
            return texts.cast(kind)
        except pa.ArrowInvalid as exc:
            strange = pc.is_in(texts, NOT_A_NUMBER)
            if not pc.any(strange).as_py():
                raise DatabaseFailed(
                    f"column {name!r}: a number does not fit {config.wide_decimals}: {exc}",
                    remedy="set wide_decimals to text",
                    details={"column": name},
                ) from None
        if config.numeric_nan == "error":
            raise DatabaseFailed(
                f"column {name!r} holds NaN or Infinity, which exact numbers do not have in Arrow",
                remedy="set numeric_nan: null, or cast the column to double precision or text in the query",
                details={"column": name},
            )
        return pc.if_else(strange, null_scalar(pa.string()), texts).cast(kind)

    return Column(name, kind, convert)


def _as_floats(name: str, texts: Any) -> Any:
    floats = texts.cast(pa.float64())
    beyond = pc.and_(pc.is_inf(floats), pc.invert(pc.is_in(texts, NOT_A_NUMBER)))
    if pc.any(beyond).as_py():
        raise DatabaseFailed(
            f"column {name!r}: a number is beyond every floating-point one",
            remedy="set wide_decimals to text",
            details={"column": name},
        )
    return floats


def _uuid_text(values: Any) -> Any:
    """Sixteen bytes as the text that the server shows: 8-4-4-4-12 digits."""
    data = _storage(values)
    raw = data.buffers()[1]
    width = 16
    digits = raw.slice(data.offset * width, len(data) * width).to_pybytes().hex() if raw is not None else ""
    texts = text_array([digits[start : start + 32] for start in range(0, len(digits), 32)])
    parts = [pc.utf8_slice_codeunits(texts, start, stop) for start, stop in ((0, 8), (8, 12), (12, 16), (16, 20))]
    joined = pc.binary_join_element_wise(*parts, pc.utf8_slice_codeunits(texts, 20, 32), text_scalar("-"))
    return pc.if_else(data.is_null(), null_scalar(pa.string()), joined) if data.null_count else joined


def _within_reach(name: str, kind: pa.DataType, otherwise: AsNull) -> Callable[[Any], Any]:
    earliest = int32_scalar(EARLIEST_DAY) if pa.types.is_date32(kind) else int64_scalar(EARLIEST_US)
    midnight = int64_scalar(DAY_US)

    def convert(values: Any) -> Any:
        numbers = values.view(pa.int32() if pa.types.is_date32(kind) else pa.int64())
        beyond = pc.greater_equal(numbers, midnight) if pa.types.is_time64(kind) else pc.less(numbers, earliest)
        if not pc.any(beyond).as_py():
            return values
        if otherwise == "error":
            what = "24:00" if pa.types.is_time64(kind) else "infinity, or a time after the year 294246"
            raise DatabaseFailed(
                f"column {name!r} holds {what}, which Arrow does not have",
                remedy="set infinite_dates: null, or cast the column to text in the query",
                details={"column": name},
            )
        return pc.if_else(beyond, null_scalar(kind), values)

    return convert
