"""The statements of a query: their text, whether they give rows, and the values that `$name` in them stands for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import duckdb

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RETURNING = re.compile(r"\breturning\b", re.IGNORECASE)


def check_values(query: str, values: Mapping[str, Any]) -> None:
    """
    Refuse what would fail in the run.

    Raises:
        ValueError: A `$name` of the query has no value, a value no place, or a value is none that SQL has.
    """
    for name, value in values.items():
        if not _NAME.fullmatch(name):
            raise ValueError(f"values: {name!r} is no name; letters, digits and _ are")
        if not all(item is None or isinstance(item, str | int | float) for item in _items(value)):
            raise ValueError(f"values.{name}: must be a text, number, boolean, null or a list of these")
    if not values and "$" not in query:
        return
    try:
        statements = duckdb.extract_statements(query)
    except duckdb.Error:
        return  # told with its place when the step runs
    used = {name.lower() for statement in statements for name in statement.named_parameters}
    if positional := sorted(name for name in used if name.isdigit()):
        raise ValueError(f"the query has `?` or `${positional[0]}`; write `$name`, and the name under values")
    given = {name.lower() for name in values}
    if missing := sorted(used - given):
        raise ValueError(f"`${missing[0]}` in the query has no value; give it: `values: {{{missing[0]}: …}}`")
    if idle := sorted(given - used):
        raise ValueError(f"values.{idle[0]}: there is no `${idle[0]}` in the query (in quotes it is text)")


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def values_of(statement: duckdb.Statement, values: Mapping[str, Any]) -> dict[str, Any] | None:
    """The values that one statement has places for; None if it has none."""
    used = {name.lower() for name in statement.named_parameters}
    return {name: value for name, value in values.items() if name.lower() in used} or None


def text_of(statement: duckdb.Statement) -> str:
    """Without the blanks before it, from which some versions of DuckDB count positions, and others do not."""
    return statement.query.lstrip()


def gives_rows(statement: duckdb.Statement) -> bool:
    if statement.expected_result_type == [duckdb.ExpectedResultType.QUERY_RESULT]:
        return True
    # PIVOT is several statements to DuckDB. A writing statement counts its rows unless it is told to return them.
    return statement.type == duckdb.StatementType.MULTI or (
        statement.type
        in {
            duckdb.StatementType.INSERT,
            duckdb.StatementType.UPDATE,
            duckdb.StatementType.DELETE,
            duckdb.StatementType.MERGE_INTO,
        }
        and _RETURNING.search(statement.query) is not None
    )
