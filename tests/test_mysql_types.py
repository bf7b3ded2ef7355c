"""MariaDB's types: exactly there and back, and what Arrow cannot hold follows an option."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from osiris_core.errors import FailureClass, StepError

if TYPE_CHECKING:
    from pathlib import Path

COLUMNS = """
id int PRIMARY KEY, t tinyint, tu tinyint unsigned, su smallint unsigned, mu mediumint unsigned, iu int unsigned,
b bigint, bu bigint unsigned, f float, d double, n decimal(12,2), wide decimal(38,20), widest decimal(65,30), day date,
at datetime(6), moment timestamp(6) NULL, span time(6), y year, bits bit(10), yes boolean, e enum('a','b'),
s set('x','y'), padded char(5), short varchar(20), words longtext, raw blob, code varbinary(10), fixed binary(4),
j json, u uuid
"""
VALUES = r"""
1, -128, 255, 65535, 16777215, 4294967295, -9223372036854775808, 18446744073709551615, 123456.789, 1.1e300, '12345.67',
'123456789012345678.12345678901234567890', '12345678901234567890123456789012345.123456789012345678901234567890',
'2024-02-29', '2024-02-29 12:34:56.123456', '2024-02-29 12:34:56.123456', '-12:34:56.5', 2024, 5, 1, 'b', 'x,y',
'ž', '', 'žluťoučký 😀 "\\n,NULL', x'00ff', 'a\0b', 'ab', '{"a": 1}', '123e4567-e89b-12d3-a456-426655440000'
"""


@pytest.fixture
def typed(mariadb: Any) -> Any:
    """A table of every type, with one row of values and one of nulls."""
    mariadb.run(
        f"CREATE TABLE typed ({COLUMNS})",
        "SET time_zone = '+00:00'",
        f"INSERT INTO typed VALUES ({VALUES})",
        "INSERT INTO typed (id) VALUES (2)",
    )
    return mariadb


def test_every_type_survives_the_way_there_and_back(typed: Any, tmp_path: Path) -> None:
    """A table that is read and written again is the same at the server, nulls and empty texts too."""
    table = typed.read(tmp_path / "read", table="typed", order_by=["id"], times="duration")
    typed.run("CREATE TABLE copied LIKE typed")
    typed.write(tmp_path / "write", table, table="copied")
    assert typed.rows("SELECT * FROM copied ORDER BY id") == typed.rows("SELECT * FROM typed ORDER BY id")
    assert typed.value("SELECT COUNT(*) FROM copied c JOIN typed t ON c.f = t.f AND c.d = t.d") == 1


def test_also_where_the_server_takes_no_loads(typed: Any, mariadb_server: Any, tmp_path: Path) -> None:
    """By INSERT with parameters the same values arrive, and what does not fit is refused all the same."""
    table = typed.read(tmp_path / "read", table="typed", order_by=["id"], times="duration")
    typed.run("CREATE TABLE copied LIKE typed")
    typed.ask_admin("SET GLOBAL local_infile = 0")
    try:
        found = typed.write(tmp_path / "write", table, table="copied")
        with pytest.raises(StepError, match="Data truncated for column 'n'"):
            typed.write(tmp_path / "bad", pa.table({"id": [3], "n": ["1.239"]}), table="copied")
    finally:
        typed.ask_admin("SET GLOBAL local_infile = 1")
    assert any("rows go by INSERT" in event.get("message", "") for event in found.events)
    assert typed.rows("SELECT * FROM copied ORDER BY id") == typed.rows("SELECT * FROM typed ORDER BY id")


def test_values_are_those_that_the_server_has(typed: Any, tmp_path: Path) -> None:
    """In Arrow's own types, not in texts, where there is one."""
    table = typed.read(tmp_path, table="typed", order_by=["id"], times="duration")
    row, nulls = table.to_pylist()
    assert (row["b"], row["bu"], row["tu"]) == (-(2**63), 2**64 - 1, 255)
    assert row["f"] == pa.scalar(123456.789, pa.float32()).as_py()
    assert table.schema.field("f").type == pa.float32()
    assert (row["n"], row["wide"]) == (Decimal("12345.67"), Decimal("123456789012345678.12345678901234567890"))
    assert row["widest"] == "12345678901234567890123456789012345.123456789012345678901234567890"
    assert row["day"] == date(2024, 2, 29)
    assert row["at"] == datetime(2024, 2, 29, 12, 34, 56, 123456)
    assert row["moment"] == datetime(2024, 2, 29, 12, 34, 56, 123456, UTC)
    assert row["span"] == -timedelta(hours=12, minutes=34, seconds=56, microseconds=500_000)
    assert (row["bits"], row["yes"], row["y"]) == (5, True, 2024)
    assert (row["e"], row["s"], row["short"]) == ("b", "x,y", "")
    assert row["words"] == 'žluťoučký 😀 "\\n,NULL'
    assert (row["raw"], row["code"], row["fixed"]) == (b"\x00\xff", b"a\x00b", b"ab\x00\x00")
    assert {value for name, value in nulls.items() if name != "id"} == {None}


def test_results_of_expressions_have_their_types(mariadb: Any, tmp_path: Path) -> None:
    table = mariadb.read(tmp_path, query="SELECT NULL a, 1.5 b, 'x' c, 1 + 1 d, TRUE e, NOW() f, COUNT(*) g, 1e0 h")
    assert [str(field.type) for field in table.schema] == [
        "string", "decimal128(2, 1)", "string", "int32", "int32", "timestamp[us]", "int64", "double",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("column", "value", "option", "expected"),
    [
        ("date", "'0000-00-00'", {"zero_dates": "null"}, None),
        ("date", "'2024-00-10'", {"zero_dates": "null"}, None),
        ("datetime", "'0000-00-00 00:00:00'", {"zero_dates": "text"}, "0000-00-00 00:00:00"),
        ("time", "'26:00:00'", {"times": "duration"}, timedelta(hours=26)),
        ("time", "'-01:00:00'", {"times": "text"}, "-01:00:00"),
        ("tinyint(1)", "2", {"tinyint1": "int"}, 2),
    ],
)
def test_what_arrow_cannot_hold_is_an_error_or_follows_the_option(
    mariadb: Any, tmp_path: Path, column: str, value: str, option: dict[str, str], expected: Any
) -> None:
    """Never another value: by default the step fails and names the option."""
    mariadb.run(f"CREATE TABLE odd (x {column})", f"INSERT INTO odd VALUES ({value})")
    (name,) = option
    with pytest.raises(StepError, match=f"set {name}") as caught:
        mariadb.read(tmp_path / "error", table="odd")
    assert caught.value.failure_class is FailureClass.USER_ERROR
    assert mariadb.read(tmp_path / "option", table="odd", **option)["x"].to_pylist() == [expected]


def test_a_float_in_a_query_is_refused(mariadb: Any, tmp_path: Path) -> None:
    """The server shows six of its digits, which would be another number."""
    mariadb.run("CREATE TABLE odd (x float)", "INSERT INTO odd VALUES (123456.789)")
    with pytest.raises(StepError, match="CAST"):
        mariadb.read(tmp_path / "query", query="SELECT x FROM odd")
    table = mariadb.read(tmp_path / "cast", query="SELECT CAST(x AS DOUBLE) AS x FROM odd")
    assert table["x"].to_pylist() == [123456.7890625]


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("small tinyint", pa.array([1000]), "Out of range"),
        ("n decimal(5,2)", pa.array([Decimal("1.239")]), "truncated"),
        ("v varchar(3)", pa.array(["four"]), "truncated"),
        ("d date", pa.array(["2024-02-30"]), "truncated"),
        ("d date", pa.array([datetime(2024, 1, 1, 12)]), "time of the day"),
        ("d date", pa.array(["2024-01-01 12:00"]), "does not fit date"),
        ("d date", pa.array([20240101]), "takes no values of int64"),
        ("i int", pa.array(["x"]), "does not fit int"),
        ("i int", pa.array(["1.5"]), "does not fit int"),
        ("i int", pa.array([1.5]), "does not fit int"),
        ("i bigint unsigned", pa.array([Decimal("1.5")]), "does not fit bigint"),
        ("i int", pa.array([pa.MonthDayNano([0, 0, 1])]), "takes no values"),
        ("b bit(4)", pa.array([1.5]), "does not fit bit"),
        ("t datetime", pa.array([datetime(2024, 1, 1, 13, 45, 0, 600_000)]), "part of a second"),
        ("t datetime(3)", pa.array(["2024-01-01 13:45:00.0006"]), "does not fit datetime"),
        ("t datetime(6)", pa.array([1], pa.timestamp("ns")), "does not fit datetime"),
        ("t timestamp(1)", pa.array([datetime(2024, 1, 1, 13, 45, 0, 660_000)]), "part of a second"),
        ("t time", pa.array([time(13, 45, 0, 600_000)]), "part of a second"),
        ("t time", pa.array([1500], pa.duration("ms")), "part of a second"),
        ("t time(6)", pa.array([1500], pa.duration("ns")), "does not fit time"),
        ("f double", pa.array([2**53 + 1]), "does not fit double"),
        ("f double", pa.array([Decimal("0.12345678901234567890")]), "more digits"),
        ("f float", pa.array([16_777_217]), "does not fit float"),
        ("f double(5,2)", pa.array([Decimal("1.239")]), "does not fit double"),
        ("y year", pa.array([99]), "before 1901"),
        ("y year", pa.array(["99"]), "four digits"),
        ("e enum('a')", pa.array([1]), "none of its values"),
        ("i int NOT NULL", pa.array([None], pa.int32()), "NULL"),
        ("i int PRIMARY KEY", pa.array([1, 1]), "Duplicate entry"),
        ("e enum('a')", pa.array(["b"]), "truncated"),
        ("j json", pa.array(['{"a":']), "JSON"),
        ("m timestamp", pa.array([datetime(2050, 1, 1)]), "Out of range"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(
    mariadb: Any, tmp_path: Path, column: str, values: Any, message: str
) -> None:
    """A load would change or leave it out, some of it without a warning: here nothing is written."""
    mariadb.run(f"CREATE TABLE narrow ({column})")
    with pytest.raises(StepError, match=message) as caught:
        mariadb.write(tmp_path, pa.table({column.split()[0]: values}), table="narrow")
    assert caught.value.failure_class is FailureClass.USER_ERROR
    assert mariadb.value("SELECT COUNT(*) FROM narrow") == 0


@pytest.mark.parametrize("setting", ["sql_notes = 0", "max_error_count = 0"])
def test_a_server_that_does_not_tell_of_its_changes_is_told_to(mariadb: Any, tmp_path: Path, setting: str) -> None:
    """What it was set to count decides nothing: a value that it would change is refused."""
    mariadb.run("CREATE TABLE narrow (n decimal(5,2))")
    name = setting.partition(" ")[0]
    ((before,),) = mariadb.ask_admin(f"SELECT @@GLOBAL.{name}")
    mariadb.ask_admin(f"SET GLOBAL {setting}")
    try:
        with pytest.raises(StepError, match="truncated"):
            mariadb.write(tmp_path, pa.table({"n": [Decimal("1.239")]}), table="narrow")
    finally:
        mariadb.ask_admin(f"SET GLOBAL {name} = {before}")
    assert mariadb.value("SELECT COUNT(*) FROM narrow") == 0


@pytest.mark.parametrize("loads", [True, False])
@pytest.mark.parametrize(
    ("column", "values", "expected"),
    [
        ("i int", pa.array([7.0, None]), 7),
        ("i bigint unsigned", pa.array([Decimal("7.00")]), 7),
        ("b bit(4)", pa.array(["3"]), b"\x03"),
        ("y year", pa.array([0], pa.int8()), 0),
        ("y year", pa.array(["2024"]), 2024),
        ("n decimal(5,2)", pa.array([1.239]), Decimal("1.24")),
        ("n decimal(5,2)", pa.array([1e-7]), Decimal("0.00")),
        ("n decimal(65,30)", pa.array([0.1]), Decimal("0.100000000000000000000000000000")),
        ("f double", pa.array([Decimal("0.10")]), 0.1),
        ("f double", pa.array([2**53]), 2.0**53),
        ("f double(5,2)", pa.array([1.239]), 1.24),
        ("t datetime", pa.array([datetime(2024, 1, 1, 13, 45)]), datetime(2024, 1, 1, 13, 45)),
        ("t datetime(1)", pa.array(["2024-01-01 13:45:00.60"]), datetime(2024, 1, 1, 13, 45, 0, 600_000)),
        ("t datetime", pa.array([date(2024, 1, 1)]), datetime(2024, 1, 1)),
        ("d date", pa.array([datetime(2024, 1, 1)]), date(2024, 1, 1)),
        ("t time", pa.array([time(13, 45)]), timedelta(hours=13, minutes=45)),
        ("t time", pa.array(["-123:45:00"]), -timedelta(hours=123, minutes=45)),
        ("e enum('1','b')", pa.array([1]), "1"),
    ],
)
def test_a_value_of_another_type_that_fits_is_written(
    mariadb: Any, tmp_path: Path, column: str, values: Any, expected: Any, loads: bool
) -> None:
    """By a load and by INSERT. Floating-point numbers are rounded to a column's places, and nothing else."""
    mariadb.run(f"CREATE TABLE wide ({column})")
    mariadb.ask_admin(f"SET GLOBAL local_infile = {int(loads)}")
    try:
        mariadb.write(tmp_path, pa.table({column.split()[0]: values}), table="wide")
    finally:
        mariadb.ask_admin("SET GLOBAL local_infile = 1")
    assert mariadb.rows("SELECT * FROM wide")[0] == (expected,)


def test_a_made_table_has_the_types_of_the_input(mariadb: Any, tmp_path: Path) -> None:
    table = pa.table(
        {
            "id": pa.array(["k"]),
            "n": pa.array([Decimal("1.25")]),
            "at": pa.array([10**12], pa.timestamp("us", "Europe/Prague")),
            "more": pa.array([{"a": 1}]),
            "kind": pa.array(["x"]).dictionary_encode(),
            "took": pa.array([90_000_000], pa.duration("us")),
            "big": pa.array([2**64 - 1], pa.uint64()),
        }
    )
    mariadb.write(tmp_path, table, table="made", create_if_missing=True, primary_key="id")
    found = [(row[0], row[1]) for row in mariadb.rows("SHOW COLUMNS FROM made")]
    assert found == [
        ("id", "varchar(255)"), ("n", "decimal(3,2)"), ("at", "timestamp(6)"), ("more", "longtext"),
        ("kind", "longtext"), ("took", "time(6)"), ("big", "bigint(20) unsigned"),
    ]  # fmt: skip
    assert mariadb.rows("SELECT id, n, more, kind, big FROM made") == [
        ("k", Decimal("1.25"), '{"a":1}', "x", 2**64 - 1)
    ]


def test_an_engine_without_transactions_is_refused(mariadb: Any, tmp_path: Path) -> None:
    """What could not be taken back is not begun."""
    mariadb.run("CREATE TABLE loose (id int) ENGINE=MyISAM")
    with pytest.raises(StepError, match="ENGINE=InnoDB"):
        mariadb.write(tmp_path, pa.table({"id": [1]}), table="loose")
    assert mariadb.value("SELECT COUNT(*) FROM loose") == 0
