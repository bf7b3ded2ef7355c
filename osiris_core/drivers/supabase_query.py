"""What to read of a table, in the words of PostgREST, and as SQL for the server itself. Does no I/O."""

from __future__ import annotations

import re
from typing import Any

from osiris_core.drivers.postgres_client import quoted

_COLUMN = re.compile(r"[A-Za-z_][A-Za-z0-9_$ -]*")
_OPERATORS = {"eq": "=", "neq": "<>", "gt": ">", "gte": ">=", "lt": "<", "lte": "<=", "like": "LIKE", "ilike": "ILIKE"}
_IS = {"null": "NULL", "true": "TRUE", "false": "FALSE", "unknown": "UNKNOWN", "not_null": "NOT NULL"}
_ITEM = re.compile(r'\s*"(?P<quoted>(?:[^"\\]|\\.)*)"\s*(?=,|$)|(?P<plain>[^,()]*)')
_ORDER = re.compile(r"(?P<column>[^.]+)(?:\.(?P<way>asc|desc))?(?:\.(?P<nulls>nullsfirst|nullslast))?")


class OnlyRest(ValueError):
    """What is asked for can be said to the REST interface only."""


def check_filter(filters: dict[str, Any]) -> dict[str, Any]:
    """
    `filters`, if each has an operator.

    Raises:
        ValueError: One has none; `status: completed` would be taken for an operator.
    """
    for column, condition in filters.items():
        for text in condition if isinstance(condition, list) else [condition]:
            if not isinstance(text, str) or not re.match(r"(?:not\.)?[a-z]+(?:\([a-z]+\))?\.", text):
                raise ValueError(
                    f"{column}: a condition is an operator and a value, as in eq.completed or gte.2024-01-01"
                )
    return filters


def filter_pairs(filters: dict[str, Any]) -> list[tuple[str, str]]:
    """The filter as parameters of the query; a column with a list has several conditions."""
    return [
        (column, text)
        for column, condition in filters.items()
        for text in (condition if isinstance(condition, list) else [condition])
    ]


def selected_columns(select: str) -> list[str] | None:
    """
    The columns of a `select`, None for all.

    Raises:
        OnlyRest: It renames, casts or embeds.
    """
    if select.strip() == "*":
        return None
    columns = [part.strip() for part in select.split(",")]
    for column in columns:
        if not _COLUMN.fullmatch(column):
            raise OnlyRest(f"select: {column!r} is more than a column's name")
    return columns


def clauses(
    place: str,
    *,
    filters: dict[str, Any] | None = None,
    order: str | None = None,
    limit: int | None = None,
    offset: int = 0,
) -> str:
    """
    What follows `SELECT … FROM` to read the same. `place`: the table, quoted.

    Raises:
        OnlyRest: It cannot be said in SQL here.
    """
    statement = ""
    conditions = [_condition(f"{place}.{quoted(column)}", column, text) for column, text in filter_pairs(filters or {})]
    if conditions:
        statement += " WHERE " + " AND ".join(conditions)
    if order:
        # By the table's column, not by what is made of it for reading.
        statement += " ORDER BY " + ", ".join(_ordered(place, part.strip()) for part in order.split(","))
    if limit is not None:
        statement += f" LIMIT {limit}"
    return statement + (f" OFFSET {offset}" if offset else "")


def _condition(name: str, column: str, text: str) -> str:
    rest = text.removeprefix("not.")
    operator, _, value = rest.partition(".")
    if operator in _OPERATORS:
        value = value.replace("*", "%") if operator in ("like", "ilike") else value
        found = f"{name} {_OPERATORS[operator]} {_literal(value)}"
    elif operator == "is" and value in _IS:
        found = f"{name} IS {_IS[value]}"
    elif operator == "in" and value.startswith("(") and value.endswith(")"):
        values = _listed(column, value[1:-1])
        found = f"{name} IN ({', '.join(map(_literal, values))})" if values else "FALSE"
    else:
        raise OnlyRest(f"filter: {column}: {operator!r} is an operator of the REST interface")
    return f"NOT ({found})" if rest != text else found


def _listed(column: str, text: str) -> list[str]:
    """The values of `in.(a,"b,c")`: a comma or bracket in one wants quotes around it, a quote within does not."""
    found: list[str] = []
    at = 0
    while text:
        item = _ITEM.match(text, at)
        assert item is not None  # it takes nothing too
        found.append(item["plain"].strip() if item["quoted"] is None else re.sub(r"\\(.)", r"\1", item["quoted"]))
        at = item.end()
        if at == len(text):
            break
        if text[at] != ",":
            raise OnlyRest(f"filter: {column}: in.({text}): what follows {text[:at]!r} is not clear")
        at += 1
    return found


def _ordered(place: str, part: str) -> str:
    match = _ORDER.fullmatch(part)
    if match is None or not _COLUMN.fullmatch(match["column"]):
        raise OnlyRest(f"order: {part!r} is more than column.asc or column.desc")
    nulls = {"nullsfirst": " NULLS FIRST", "nullslast": " NULLS LAST", None: ""}[match["nulls"]]
    return f"{place}.{quoted(match['column'])} {(match['way'] or 'asc').upper()}{nulls}"


def _literal(text: str) -> str:
    """A text that the server reads as the column's type. A backslash is one: such a text says so (E'…')."""
    if "\0" in text:
        raise OnlyRest("filter: a value has a NUL in it")
    if "\\" in text:
        return "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
    return "'" + text.replace("'", "''") + "'"
