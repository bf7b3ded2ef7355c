"""How types that only DuckDB has become plain ones, without losing anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Sequence

    from duckdb.sqltypes import DuckDBPyType

_PLAIN = {
    "uhugeint": "DECIMAL(38,0)",
    "bignum": "VARCHAR",
    "bit": "VARCHAR",
    "enum": "VARCHAR",
    "geometry": "VARCHAR",
    "interval": "VARCHAR",
    "time with time zone": "VARCHAR",
    "union": "JSON",
    "variant": "JSON",
}
_NESTED = {"list", "array", "struct", "map"}


def plain_select(types: Sequence[DuckDBPyType], names: Sequence[str]) -> str | None:
    """The SELECT list that casts such columns and passes the others, or None when there are none."""
    plain = [_plain_type(kind) for kind in types]
    if all(target == str(kind) for target, kind in zip(plain, types, strict=True)):
        return None
    return ", ".join(
        f"#{index} AS {_quoted(name)}" if target == str(kind) else f"CAST(#{index} AS {target}) AS {_quoted(name)}"
        for index, (kind, target, name) in enumerate(zip(types, plain, names, strict=True), 1)
    )


def _plain_type(kind: DuckDBPyType) -> str:
    if kind.id in _PLAIN:
        return _PLAIN[kind.id]
    if kind.id not in _NESTED:
        return str(kind)
    parts = _parts(kind)
    plain = [(name, _plain_type(part)) for name, part in parts]
    if all(target == str(part) for (_, target), (_, part) in zip(plain, parts, strict=True)):
        return str(kind)
    if kind.id == "list":
        return f"{plain[0][1]}[]"
    if kind.id == "array":
        return f"{plain[0][1]}[{dict(kind.children)['size']}]"
    if kind.id == "map":
        return f"MAP({plain[0][1]}, {plain[1][1]})"
    return f"STRUCT({', '.join(f'{_quoted(name)} {target}' for name, target in plain)})"


def _parts(kind: DuckDBPyType) -> list[tuple[str, DuckDBPyType]]:
    # An array has its size among its children.
    return [(name, part) for name, part in kind.children if not isinstance(part, (int, list))]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def unique_names(names: Sequence[str]) -> list[str]:
    """`names` with `_1`, `_2` behind repeated ones, and none of them twice."""
    taken = set(names)
    seen: set[str] = set()
    result = []
    for name in names:
        unique, number = name, 0
        while unique in seen or (number and unique in taken):
            number += 1
            unique = f"{name}_{number}"
        seen.add(unique)
        result.append(unique)
    return result


class WideIntegers:
    """
    The columns with 128-bit integers: Arrow carries them as decimal(38,0), which a few of 39 digits do not fit.

    They are looked at in the result and not cast in SQL, because SQL rewritten by us would blur where errors are.
    """

    def __init__(self, types: Sequence[DuckDBPyType]) -> None:
        self._columns = [index for index, kind in enumerate(types) if _has_hugeint(kind)]

    def misfit(self, batch: pa.RecordBatch) -> tuple[int, str] | None:
        """The first column with a value that does not fit, and what Arrow says about it."""
        for index in self._columns:
            try:
                batch.column(index).validate(full=True)
            except pa.ArrowInvalid as exc:
                return index, str(exc)
        return None


def _has_hugeint(kind: DuckDBPyType) -> bool:
    if kind.id == "hugeint":
        return True
    return kind.id in _NESTED and any(_has_hugeint(part) for _, part in _parts(kind))
