"""PostgreSQL's types: exactly there and back, and what Arrow cannot hold follows an option."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from osiris_core.errors import FailureClass, StepError

if TYPE_CHECKING:
    from pathlib import Path

COLUMNS = """
id integer PRIMARY KEY, s smallint, b bigint, r real, d double precision, n numeric(12,2), tiny numeric(2,5),
free numeric, wide numeric(50,10), day date, clock time, clock_tz timetz, at timestamp, moment timestamptz,
span interval, yes boolean, words text, short varchar(5), padded char(5), raw bytea, u uuid, j json, jb jsonb,
feeling mood, whole mood_domain, numbers int[], texts text[], prices numeric(10,2)[], address inet, bits bit(4),
page xml, range int4range, o oid
"""
VALUES = """
1, -32768, 9223372036854775807, 1.1, 1e300, 12345.67, 0.00012,
1.23456789012345678901234567890, 1234567890123456789012345678901234567890.1234567890,
'2024-02-29', '12:34:56.123456', '12:34:56+02', '2024-02-29 12:34:56.123456', '2024-02-29 12:34:56.123456+02',
'1 mon 2 days 03:00:00', true, 'žluťoučký 😀', '', 'ab', '\\x00ff', '123e4567-e89b-12d3-a456-426655440000',
'{"a": 1}', '{"b": 2}', 'so so', 'so so', '{1,null,3}', '{a,"b,c",NULL}', '{1.50}', '::1', B'0101', '<a/>', '[1,5)',
4294967295
"""


@pytest.fixture
def typed(postgres: Any) -> Any:
    """A table of every type, with one row of values and one of nulls."""
    postgres.run(
        "CREATE TYPE mood AS ENUM ('well', 'so so')",
        "CREATE DOMAIN mood_domain AS mood",
        f"CREATE TABLE typed ({COLUMNS})",
        f"INSERT INTO typed VALUES ({VALUES})",
        "INSERT INTO typed (id) VALUES (2)",
    )
    return postgres


def test_every_type_survives_the_way_there_and_back(typed: Any, tmp_path: Path) -> None:
    """A table that is read and written again is the same at the server, nulls and empty texts too."""
    table = typed.read(tmp_path / "read", table="typed", order_by=["id"])
    typed.run("CREATE TABLE copied (LIKE typed)")
    typed.write(tmp_path / "write", table, table="copied")
    assert typed.rows("SELECT typed::text FROM typed ORDER BY id") == typed.rows(
        "SELECT copied::text FROM copied ORDER BY id"
    )


def test_values_are_those_that_the_server_has(typed: Any, tmp_path: Path) -> None:
    """In Arrow's own types, not in texts, where there is one."""
    row, nulls = typed.read(tmp_path, table="typed", order_by=["id"]).to_pylist()
    assert row["b"] == 2**63 - 1
    assert row["n"] == Decimal("12345.67")
    assert row["tiny"] == Decimal("0.00012")
    assert row["free"] == "1.23456789012345678901234567890"
    assert row["wide"] == "1234567890123456789012345678901234567890.1234567890"
    assert row["day"] == date(2024, 2, 29)
    assert row["clock"] == time(12, 34, 56, 123456)
    assert row["at"] == datetime(2024, 2, 29, 12, 34, 56, 123456)
    assert row["moment"] == datetime(2024, 2, 29, 10, 34, 56, 123456, UTC)
    assert row["yes"] is True
    assert (row["words"], row["short"], row["padded"]) == ("žluťoučký 😀", "", "ab   ")
    assert row["raw"] == b"\x00\xff"
    assert row["u"] == "123e4567-e89b-12d3-a456-426655440000"
    assert (row["j"], row["jb"]) == ('{"a": 1}', '{"b": 2}')
    assert (row["feeling"], row["whole"]) == ("so so", "so so")
    assert row["numbers"] == [1, None, 3]
    assert row["texts"] == ["a", "b,c", None]
    assert row["o"] == 2**32 - 1
    assert {value for name, value in nulls.items() if name != "id"} == {None}


def test_types_are_known_also_without_a_row(typed: Any, tmp_path: Path) -> None:
    table = typed.read(tmp_path, query="SELECT n, moment, feeling FROM typed WHERE false")
    assert table.schema == pa.schema(
        [("n", pa.decimal128(12, 2)), ("moment", pa.timestamp("us", "UTC")), ("feeling", pa.string())]
    )


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("text", ["1.23456789012345678901234567890", None]),
        ("float", [1.2345678901234567, None]),
        ("decimal(38,30)", [Decimal("1.234567890123456789012345678900"), None]),
    ],
)
def test_numbers_without_limits_follow_the_option(typed: Any, tmp_path: Path, option: str, expected: list[Any]) -> None:
    table = typed.read(tmp_path, query="SELECT free FROM typed ORDER BY id", wide_decimals=option)
    assert table["free"].to_pylist() == expected


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT 'NaN'::numeric(5,2) AS x", "numeric_nan: null"),
        ("SELECT 'infinity'::date AS x", "infinite_dates: null"),
        ("SELECT '-infinity'::timestamp AS x", "infinite_dates: null"),
        ("SELECT timestamptz 'infinity' AS x", "infinite_dates: null"),
        ("SELECT timestamp '294276-12-31' AS x", "infinite_dates: null"),
        ("SELECT time '24:00' AS x", "infinite_dates: null"),
        ("SELECT ARRAY[date 'infinity'] AS x", "infinite_dates: null"),
        ("SELECT ARRAY[timestamp '-infinity'] AS x", "infinite_dates: null"),
        ("SELECT ARRAY[time '24:00'] AS x", "infinite_dates: null"),
    ],
)
def test_what_arrow_cannot_hold_is_an_error_or_null(postgres: Any, tmp_path: Path, query: str, message: str) -> None:
    """Never another value: by default the step fails and names the option, with the option it is null."""
    with pytest.raises(StepError, match=message) as caught:
        postgres.read(tmp_path / "error", query=query)
    assert caught.value.details["column"] == "x"
    table = postgres.read(tmp_path / "null", query=query, numeric_nan="null", infinite_dates="null")
    assert table["x"].to_pylist() == [[None] if "ARRAY" in query else None]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("ARRAY[4294967295::oid, NULL]", [2**32 - 1, None]),
        ("ARRAY['123e4567-e89b-12d3-a456-426655440000'::uuid]", ["123e4567-e89b-12d3-a456-426655440000"]),
        ("""ARRAY['{"a": 1}'::jsonb, NULL]""", ['{"a": 1}', None]),
        ("ARRAY['<a/>'::xml]", ["<a/>"]),
        ("ARRAY[1.50, 'NaN'::numeric]", ["1.50", "nan"]),
        ("ARRAY[date '2024-01-01', NULL]", [date(2024, 1, 1), None]),
        ("'{}'::int[]", []),
    ],
)
def test_items_of_arrays_are_read_as_columns_are(
    postgres: Any, tmp_path: Path, query: str, expected: list[Any]
) -> None:
    table = postgres.read(tmp_path, query=f"SELECT NULL AS x UNION ALL SELECT {query} UNION ALL SELECT {query}")
    assert table["x"].to_pylist() == [None, expected, expected]


@pytest.mark.parametrize("query", ["ARRAY['12.34'::money]", "ARRAY['::1'::inet]", "ARRAY[ROW(1,2)]", "ROW(1,2)"])
def test_an_array_of_what_arrow_does_not_have_is_an_error(postgres: Any, tmp_path: Path, query: str) -> None:
    with pytest.raises(StepError, match="cast it in the query"):
        postgres.read(tmp_path, query=f"SELECT {query} AS x")


def test_an_array_of_arrays_is_an_error(postgres: Any, tmp_path: Path) -> None:
    """The client would read it as one flat list; also where columns have the same name, or none."""
    postgres.run(
        "CREATE TABLE nested (id int, x int[])", "INSERT INTO nested VALUES (1, '{1,2}'), (2, '{{1,2},{3,4}}')"
    )
    for source in ({"table": "nested"}, {"query": "SELECT x, 1 AS x, 2 FROM nested ORDER BY id;"}):
        with pytest.raises(StepError, match="array of arrays"):
            postgres.read(tmp_path / str(len(source)), **source)
    assert postgres.read(tmp_path / "one", table="nested", order_by=["id"], limit=1)["x"].to_pylist() == [[1, 2]]


def test_a_number_beyond_floats_is_no_infinity(postgres: Any, tmp_path: Path) -> None:
    with pytest.raises(StepError, match=r"column 'x'.*set wide_decimals to text"):
        postgres.read(tmp_path / "1", query="SELECT 1e400::numeric AS x", wide_decimals="float")
    table = postgres.read(tmp_path / "2", query="SELECT 'Infinity'::numeric AS x", wide_decimals="float")
    assert table["x"].to_pylist() == [float("inf")]


def test_an_interval_beyond_arrow_says_what_to_do(postgres: Any, tmp_path: Path) -> None:
    with pytest.raises(StepError, match=r"overflow.*text in the query"):
        postgres.read(tmp_path, query="SELECT interval '3000000 hours' AS x")


def test_the_first_days_of_the_server_are_no_infinity(postgres: Any, tmp_path: Path) -> None:
    table = postgres.read(tmp_path, query="SELECT date '4714-11-24 BC' AS d, timestamp '4714-11-24 BC' AS t")
    assert table["d"].cast(pa.int32()).to_pylist() == [-2440588]
    assert table["t"].cast(pa.int64()).to_pylist() == [-210866803200000000]


@pytest.mark.parametrize("kind", ["inet", "money", "timetz", "bit(4)", "int4range", "point"])
def test_a_type_that_arrow_does_not_have_is_an_error_in_a_query(postgres: Any, tmp_path: Path, kind: str) -> None:
    """And is read as text from a table."""
    postgres.run(f"CREATE TABLE odd (x {kind})", "INSERT INTO odd VALUES (NULL)")
    with pytest.raises(StepError, match="cast it in the query") as caught:
        postgres.read(tmp_path / "query", query="SELECT x FROM odd")
    assert caught.value.failure_class is FailureClass.USER_ERROR
    assert postgres.read(tmp_path / "table", table="odd").schema.field("x").type == pa.string()


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("inet[]", "{::1}"),
        ("money[]", "{$12.34}"),
        ("xid", "5"),
        ("tid", "(1,2)"),
        ("regclass", "odd"),
        ("int4multirange", "{[1,3)}"),
        ("mood", "well"),
        ("mood[]", "{well}"),
    ],
)
def test_a_table_is_read_whatever_its_types_are(postgres: Any, tmp_path: Path, kind: str, value: str) -> None:
    """As the server writes them, where Arrow has none for them."""
    postgres.run(
        "CREATE TYPE mood AS ENUM ('well')", f"CREATE TABLE odd (x {kind})", f"INSERT INTO odd VALUES ('{value}')"
    )
    assert postgres.read(tmp_path, table="odd")["x"].to_pylist() == [value]


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("small smallint", pa.array([70_000]), "does not fit smallint"),
        ("n numeric(5,2)", pa.array([Decimal("1.239")]), "does not fit numeric"),
        ("n numeric(5,2)", pa.array(["1.239"]), "does not fit numeric"),
        ("v varchar(3)", pa.array(["four"]), "too long"),
        ("n numeric(5,-2)", pa.array([Decimal("149")]), "does not fit numeric"),
        ("n numeric(5,-2)", pa.array([149]), "does not fit numeric"),
        ("n numeric(50,2)", pa.array(["1.239"]), "does not fit numeric"),
        ("i integer", pa.array([1.5]), "does not fit integer"),
        ("i integer", pa.array([True]), "takes no values of bool"),
        ("f double precision", pa.array([2**53 + 1]), "does not fit double precision"),
        ("f double precision", pa.array([Decimal("0.12345678901234567890")]), "more digits"),
        ("f real", pa.array([16_777_217]), "does not fit real"),
        ("f real", pa.array([1e300]), "does not fit real"),
        ("m money", pa.array([Decimal("1.239")]), "does not fit money"),
        ("d date", pa.array(["2024-02-30"]), "out of range"),
        ("d date", pa.array([datetime(2024, 1, 1, 13, 45)]), "time of the day"),
        ("d date", pa.array(["2024-01-01 13:45"]), "does not fit date"),
        ("d date[]", pa.array([[datetime(2024, 1, 1, 13, 45)]]), "time of the day"),
        ("n integer[]", pa.array([[2**40]]), "does not fit integer"),
        ("t timestamp(0)", pa.array([datetime(2024, 1, 1, 13, 45, 0, 600_000)]), "part of a second"),
        ("t timestamp(0)", pa.array(["2024-01-01 13:45:00.6"]), "does not fit timestamp"),
        ("t timestamp", pa.array(["2024-01-01 13:45:00+02"]), "does not fit timestamp"),
        ("t timestamp", pa.array([1], pa.timestamp("ns", "UTC")), "does not fit timestamp"),
        ("t timestamptz(3)", pa.array([datetime(2024, 1, 1, 13, 45, 0, 600)]), "part of a second"),
        ("t timestamptz", pa.array([1], pa.timestamp("ns")), "does not fit timestamp"),
        ("t timestamp[]", pa.array([[1]], pa.list_(pa.timestamp("ns"))), "does not fit timestamp"),
        ("c time(0)", pa.array([time(13, 45, 0, 600_000)]), "part of a second"),
        ("c timetz(0)", pa.array([time(13, 45, 0, 600_000)]), "part of a second"),
        ("s interval", pa.array([None, pa.MonthDayNano([1, 2, 1999])]), "part of a second"),
        ("s interval", pa.array([1500], pa.duration("ns")), "does not fit interval"),
        ("s interval(0)", pa.array([1500], pa.duration("ms")), "part of a second"),
        ("s interval day to hour", pa.array([90], pa.duration("s")), "part of a second"),
        ("s interval year to month", pa.array([90], pa.duration("s")), "takes no values"),
        ("j jsonb", pa.array(['{"a":']), "json"),
        ("u uuid", pa.array(["no"]), "uuid"),
        ("t timestamp", pa.array([1], pa.timestamp("ns")), "does not fit"),
        ("i integer NOT NULL", pa.array([None], pa.int32()), "null value"),
        ("c integer CHECK (c > 0)", pa.array([0]), "check constraint"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(
    postgres: Any, tmp_path: Path, column: str, values: Any, message: str
) -> None:
    """Nothing is rounded, cut off or left out, and no row is written."""
    postgres.run(f"CREATE TABLE narrow ({column})")
    with pytest.raises(StepError, match=message) as caught:
        postgres.write(tmp_path, pa.table({column.split()[0]: values}), table="narrow")
    assert caught.value.failure_class is FailureClass.USER_ERROR
    assert postgres.value("SELECT count(*) FROM narrow") == 0


@pytest.mark.parametrize(
    ("column", "values", "expected"),
    [
        ("i integer", pa.array([7.0, None]), "7"),
        ("i bigint", pa.array([Decimal("7.00")]), "7"),
        ("i integer", pa.array([" 7 "]), "7"),
        ("n numeric(5,2)", pa.array([1.239]), "1.24"),
        ("n numeric(5,-2)", pa.array([1200]), "1200"),
        ("n numeric(50,2)", pa.array(["12345678901234567890123456789012345678901234.560"]), None),
        ("n numeric", pa.array(["nan"]), "NaN"),
        ("f double precision", pa.array([Decimal("0.10")]), "0.1"),
        ("f real", pa.array([0.1]), "0.1"),
        ("d date", pa.array(["infinity"]), "infinity"),
        ("d date", pa.array([datetime(2024, 1, 1)]), "2024-01-01"),
        ("d date[]", pa.array([[datetime(2024, 1, 1), None]]), "{2024-01-01,NULL}"),
        ("t timestamp(1)", pa.array(["2024-01-01T13:45:00.60"]), "2024-01-01 13:45:00.6"),
        ("t timestamp", pa.array([date(2024, 1, 1)]), "2024-01-01 00:00:00"),
        ("t timestamp", pa.array([0], pa.timestamp("s", "Europe/Prague")), "1970-01-01 00:00:00"),
        ("t timestamptz", pa.array(["2024-01-01 13:45+02:00"]), "2024-01-01 11:45:00+00"),
        ("s interval(0)", pa.array([pa.MonthDayNano([1, 2, 3 * 10**9])]), "1 mon 2 days 00:00:03"),
        ("s interval", pa.array(["1 day 2 hours"]), "1 day 02:00:00"),
        ("s smallint[]", pa.array([[1, None], None, []]), "{1,NULL}"),
    ],
)
def test_a_value_of_another_type_that_fits_is_written(
    postgres: Any, tmp_path: Path, column: str, values: Any, expected: str | None
) -> None:
    """Floating-point numbers are rounded to a column's places, and nothing else."""
    postgres.run(f"CREATE TABLE wide ({column})")
    name = column.split()[0]
    postgres.write(tmp_path, pa.table({name: values}), table="wide")
    found = postgres.rows(f"SELECT {name}::text FROM wide")
    assert len(found) == len(values)
    assert found[0][0] == (values[0].as_py()[:-1] if expected is None else expected)


def test_a_made_table_has_the_types_of_the_input(postgres: Any, tmp_path: Path) -> None:
    table = pa.table(
        {
            "id": pa.array([1], pa.uint64()),
            "n": pa.array([Decimal("1.25")]),
            "at": pa.array([0], pa.timestamp("us", "Europe/Prague")),
            "tags": pa.array([["a"]]),
            "more": pa.array([{"a": 1}]),
            "kind": pa.array(["x"]).dictionary_encode(),
            "view": pa.array(["v"], pa.string_view()),
            "took": pa.array([90_000_000], pa.duration("us")),
        }
    )
    postgres.write(tmp_path, table, table="made", create_if_missing=True, primary_key="id")
    found = postgres.rows(
        "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute "
        "WHERE attrelid = 'made'::regclass AND attnum > 0 ORDER BY attnum"
    )
    assert found == [
        ("id", "numeric(20,0)"), ("n", "numeric(3,2)"), ("at", "timestamp with time zone"), ("tags", "text[]"),
        ("more", "jsonb"), ("kind", "text"), ("view", "text"), ("took", "interval"),
    ]  # fmt: skip
    assert postgres.rows("SELECT id::text, tags::text, more::text, kind, took::text FROM made") == [
        ("1", "{a}", '{"a": 1}', "x", "00:01:30")
    ]
