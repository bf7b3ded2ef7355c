"""How a step's inputs become tables of its DuckDB connection."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NoReturn

import duckdb
import pyarrow as pa

from osiris_core.errors import FailureClass, StepError
from osiris_core.tables import SpilledTable

if TYPE_CHECKING:
    from collections.abc import Mapping


class _Scan:
    """A spilled table as DuckDB may see it: a new scan for every reference, and nothing that would load it whole."""

    def __init__(self, table: SpilledTable) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)


def register_inputs(connection: duckdb.DuckDBPyConnection, step_id: str, inputs: Mapping[str, Any]) -> int:
    """
    Make every input a table under its name, and return how many rows they hold together.

    Raises:
        StepError: An input has no columns, a column of a type that DuckDB cannot read, or a name that differs from
            another's in upper and lower case only.
    """
    rows = 0
    taken: dict[str, str] = {}
    for name, value in inputs.items():
        if (other := taken.setdefault(name.lower(), name)) is not name:
            _fail(step_id, f"inputs '{other}' and '{name}' are one name to SQL, which ignores case: rename one")
        table = value if isinstance(value, (pa.Table, SpilledTable)) else _json_table(step_id, name, value)
        if not len(table.schema):
            _fail(step_id, f"input '{name}' has no columns, so SQL cannot read it")
        try:
            connection.register(name, _Scan(table) if isinstance(table, SpilledTable) else table)
        except duckdb.Error as exc:
            unreadable = _unreadable(table.schema)
            raise StepError(
                f"input '{name}' cannot be read by SQL: {unreadable or exc}",
                step_id=step_id,
                failure_class=FailureClass.USER_ERROR,
                details={"input": name},
            ) from exc
        rows += table.num_rows
    return rows


def _unreadable(schema: pa.Schema) -> str:
    """The columns that DuckDB refuses, found one by one."""
    found = []
    with duckdb.connect() as probe:
        for field in schema:
            try:
                probe.register("probe", pa.schema([field]).empty_table())
            except duckdb.Error:
                found.append(f"column '{field.name}' is of type {field.type}, which DuckDB does not know")
    return "; ".join(found)


def _json_table(step_id: str, name: str, value: Any) -> pa.Table:
    if value == []:
        return pa.table({"value": pa.array([], pa.string())})
    if isinstance(value, list) and all(isinstance(item, dict) and item for item in value):
        keys = dict.fromkeys(str(key) for item in value for key in item)
        try:
            return pa.table({key: [item.get(key) for item in value] for key in keys})
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as exc:
            _fail(
                step_id,
                f"input '{name}' is a list of objects that do not make one table: {exc}. Give every key values of one "
                "type, or hand the list over inside an object, which arrives as JSON text",
            )
    return pa.table({"value": [json.dumps(value, ensure_ascii=False)]})


def _fail(step_id: str, message: str) -> NoReturn:
    raise StepError(message, step_id=step_id, failure_class=FailureClass.USER_ERROR)
