"""`values` of `duckdb.processor`: what comes from outside is bound, whatever characters it has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from osiris_core import AdapterFactory, ExecutionContext
from osiris_core.drivers.duckdb_processor import DuckDBProcessor
from osiris_core.errors import PreparationError, StepError
from osiris_core.testing import run_driver

if TYPE_CHECKING:
    from pathlib import Path

EVIL = "O'Brien'; DROP TABLE t; -- $x"


def rows(tmp_path: Path, sql: str, **values: Any) -> Any:
    return run_driver(DuckDBProcessor, {"query": sql, "values": values}, tmp_path).outputs["df"].to_pylist()


@pytest.mark.parametrize(
    ("sql", "values", "expected"),
    [
        ("SELECT $who AS a, '$who' AS b", {"who": EVIL}, {"a": EVIL, "b": "$who"}),
        ("SELECT TIMESTAMP '2026-01-02' >= $since AS late", {"since": "2026-01-01"}, {"late": True}),
        ("SELECT sum(i) AS n FROM range(10) t(i) WHERE i > $Least", {"least": 7}, {"n": 17}),
        ("SELECT count(*) AS n FROM range(9) t(i) WHERE list_contains($some, i)", {"some": [1, 2, 77]}, {"n": 2}),
        ("SELECT $a IS NULL AS a, $b AS b, $c + 0.5 AS c", {"a": None, "b": True, "c": 1}, {"a": True, "b": True}),
        ("CREATE TEMP TABLE t AS SELECT $a AS a; SELECT a, $b AS b FROM t", {"a": "x", "b": "y"}, {"a": "x", "b": "y"}),
        ("SELECT i FROM range(10) t(i) LIMIT $n", {"n": 1}, {"i": 0}),
    ],
)
def test_values_are_bound(tmp_path: Path, sql: str, values: dict[str, Any], expected: dict[str, Any]) -> None:
    """Texts, numbers, booleans, nulls and lists arrive as they are, in each statement that names them."""
    (row,) = rows(tmp_path, sql, **values)
    assert {name: row[name] for name in expected} == expected


def test_a_large_result_with_values_is_streamed(tmp_path: Path) -> None:
    """Values change nothing about memory: the first rows come before the last ones are computed."""
    sql = "SELECT i, CASE WHEN i = $bad THEN error('reached') END AS e FROM range(100000000) t(i)"
    with pytest.raises(StepError, match="reached"):
        rows(tmp_path, sql, bad=3_000_000)


@pytest.mark.parametrize(
    ("sql", "values", "message"),
    [
        ("SELECT $since", {}, r"`\$since` in the query has no value"),
        ("SELECT '$since'", {"since": 1}, r"values.since: there is no `\$since` in the query"),
        ("SELECT ?, $1", {"a": 1}, r"write `\$name`"),
        ("SELECT 1", {"not a name": 1}, "values"),
        ("SELECT $a", {"a": {"b": 1}}, "values.a: must be a text"),
    ],
)
def test_values_without_a_place_are_found_before_the_run(
    tmp_path: Path, sql: str, values: dict[str, Any], message: str
) -> None:
    """And places without a value."""
    step = {"id": "q", "driver": "duckdb.processor", "config": {"query": sql, "values": values}}
    with pytest.raises(PreparationError, match=message):
        AdapterFactory.create("local").run({"steps": [step]})


def test_errors_with_values(tmp_path: Path) -> None:
    """They show their place in the query; a view, which cannot hold a value, says what can."""
    with pytest.raises(StepError, match=r"line 2, column 8"):
        rows(tmp_path, "SELECT $a AS a,\n       nothing", a=1)
    with pytest.raises(StepError, match="make it a temporary table"):
        rows(tmp_path, "CREATE TEMP VIEW v AS SELECT $a AS a; SELECT * FROM v", a=1)


def test_parameters_and_resume(tmp_path: Path) -> None:
    """A manifest's parameter arrives whole; another value is another result, the same one is reused."""
    manifest = {
        "params": {"who": "nobody"},
        "steps": [
            {
                "id": "q",
                "driver": "duckdb.processor",
                "config": {"threads": 1, "query": "SELECT $who AS who", "values": {"who": "${params.who}"}},
            },
            {"id": "w", "driver": "filesystem.csv_writer", "inputs": {"df": "q"}, "config": {"path": "who.csv"}},
        ],
    }

    def run(who: str) -> tuple[list[str], str]:
        context = ExecutionContext(session_dir=str(tmp_path / "s"), params={"who": who}, resume=True)
        report = AdapterFactory.create("local").run(manifest, context)
        statuses = [step["status"] for step in report["steps"]]
        return statuses, (tmp_path / "s" / "artifacts" / "w" / "who.csv").read_text()

    assert run("O'Brien") == (["completed", "completed"], "who\nO'Brien\n")
    assert run("O'Neill") == (["completed", "completed"], "who\nO'Neill\n")
    assert run("O'Neill")[0] == ["reused", "reused"]
