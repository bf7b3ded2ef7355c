"""Records of an answer as rows: one value a column, nested objects spread over columns. Does no I/O."""

from __future__ import annotations

from typing import Any

from osiris_core.drivers.json_exact import json_text

VALUE_COLUMN = "value"
"""The column of records that are no objects."""


class NameClash(ValueError):
    """Two values of one record would be in one column."""


def flatten(record: Any, separator: str | None) -> dict[str, Any]:
    """
    One record as columns: texts, numbers, booleans and None.

    With a separator `{"a": {"b": 1}}` is the column `a.b`, at any depth; without one an object stays whole, as JSON in
    a text. A list always does. An empty object counts as null.

    Raises:
        NameClash: `{"a.b": 1, "a": {"b": 2}}`.
    """
    if not isinstance(record, dict):
        return {VALUE_COLUMN: json_text(record) if isinstance(record, list) else record}
    row: dict[str, Any] = {}
    _spread(record, "", separator, row)
    return row


def _spread(record: dict[str, Any], prefix: str, separator: str | None, row: dict[str, Any]) -> None:
    for key, value in record.items():
        name = prefix + key
        is_object = isinstance(value, dict)
        if is_object and separator is not None and value:
            _spread(value, name + separator, separator, row)
            continue
        if name in row:
            raise NameClash(
                f"two values of one record belong into column {name!r}; set another separator, or flatten_result: false"
            )
        if is_object:
            row[name] = None if separator is not None else json_text(value)
        else:
            row[name] = json_text(value) if isinstance(value, list) else value
