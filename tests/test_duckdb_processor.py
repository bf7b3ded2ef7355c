"""`duckdb.processor`: rows, errors with their place, walls around the SQL, cancellation, memory."""

from __future__ import annotations

import datetime
import decimal
import gc
import threading
import time
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
import yaml

from osiris_core.cancellation import CancelToken
from osiris_core.drivers.duckdb_processor import DuckDBProcessor
from osiris_core.errors import ConfigError, FailureClass, RunCancelled, RunTimeout, StepError
from osiris_core.tables import SpilledTable, write_ipc
from osiris_core.testing import run_driver

if TYPE_CHECKING:
    from pathlib import Path

TRIPS = pa.table({"id": [1, 2, 3], "zone": ["a", "b", "a"], "fare": [1.5, 2.5, 3.0]})


def query(tmp_path: Path, sql: str, inputs: dict[str, Any] | None = None, **config: Any) -> Any:
    return run_driver(DuckDBProcessor, {"query": sql, **config}, tmp_path, inputs).outputs["df"]


def failure(tmp_path: Path, sql: str, inputs: dict[str, Any] | None = None, **config: Any) -> StepError:
    with pytest.raises(StepError) as caught:
        query(tmp_path, sql, inputs, **config)
    assert caught.value.step_id == "step"
    return caught.value


# Rows


def test_rows_of_a_query(tmp_path: Path) -> None:
    """A query reads its inputs by name and its rows come out as df, with the rows read counted."""
    run = run_driver(
        DuckDBProcessor,
        {"query": "SELECT zone, count(*) AS n FROM trips GROUP BY zone ORDER BY zone", "mode": "transform"},
        tmp_path,
        {"trips": TRIPS, "zones": pa.table({"zone": ["a", "b"]})},
    )
    assert run.outputs["df"].to_pylist() == [{"zone": "a", "n": 2}, {"zone": "b", "n": 1}]
    assert run.metrics["rows_read"] == 5


def test_no_inputs(tmp_path: Path) -> None:
    """A query without inputs generates rows."""
    assert query(tmp_path, "SELECT i FROM range(200000) t(i)").num_rows == 200_000


@pytest.mark.parametrize("name", ["df_extract", "extract-trips", "1st.out", 'we"ird; DROP', "žluť", "select"])
def test_any_input_name(tmp_path: Path, name: str) -> None:
    """An input of any name can be read in double quotes."""
    quoted = name.replace('"', '""')
    assert query(tmp_path, f'SELECT sum(fare) AS s FROM "{quoted}"', {name: TRIPS}).to_pylist() == [{"s": 7.0}]


def test_names_that_differ_in_case_only(tmp_path: Path) -> None:
    """Two inputs that SQL cannot tell apart are refused, naming both."""
    error = failure(tmp_path, "SELECT 1", {"trips": TRIPS, "Trips": TRIPS})
    assert "'trips'" in str(error)
    assert "'Trips'" in str(error)


def test_several_statements(tmp_path: Path) -> None:
    """Temporary tables, macros and variables serve the last statement, whose rows come out."""
    sql = """
    -- first; with a semicolon
    CREATE TEMP TABLE big AS SELECT * FROM trips WHERE fare > 2; CREATE MACRO twice(x) AS x * 2;
    SET VARIABLE more = 1;
    SELECT id, twice(fare) + getvariable('more') AS f FROM big ORDER BY id; -- done
    """
    assert query(tmp_path, sql, {"trips": TRIPS}).to_pylist() == [{"id": 2, "f": 6.0}, {"id": 3, "f": 7.0}]


@pytest.mark.parametrize(
    "sql",
    [
        "FROM trips",
        "PIVOT trips ON zone USING sum(fare)",
        "DESCRIBE trips",
        "VALUES (1)",
        "WITH x AS (FROM trips) FROM x",
        "CREATE TEMP TABLE t (a INT); INSERT INTO t VALUES (1) RETURNING a",
        "EXPLAIN FROM trips",
        "SUMMARIZE trips",
    ],
)
def test_statements_that_give_rows(tmp_path: Path, sql: str) -> None:
    """Everything that gives rows may end a query."""
    assert query(tmp_path, sql, {"trips": TRIPS}).num_rows > 0


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TEMP TABLE t AS FROM trips",
        "SELECT 1; CREATE MACRO m() AS 1",
        "-- nothing",
        "  ;  ",
        "SET VARIABLE x = 1",
        "CREATE TEMP TABLE t (a INT); INSERT INTO t VALUES (1)",
    ],
)
def test_a_query_without_rows(tmp_path: Path, sql: str) -> None:
    """A query whose last statement gives no rows is told so."""
    assert "must end with a statement that gives rows" in str(failure(tmp_path, sql, {"trips": TRIPS}))


def test_repeated_column_names(tmp_path: Path) -> None:
    """Columns of one name become distinct, with a warning, and keep their order."""
    run = run_driver(DuckDBProcessor, {"query": "SELECT 1 AS a, 2 AS a, 3 AS a_1, 4 AS a"}, tmp_path)
    assert run.outputs["df"].to_pylist() == [{"a": 1, "a_2": 2, "a_1": 3, "a_3": 4}]
    assert any(event["event"] == "log" and event["level"] == "warning" for event in run.events)


def test_spilled_input_is_scanned_several_times(tmp_path: Path) -> None:
    """A table on disk can be joined with itself."""
    table = pa.table({"i": list(range(5000))})
    spilled = write_ipc(tmp_path / "in.arrow", table.schema, table.to_batches(max_chunksize=100))
    sql = "SELECT count(*) AS n, max(x.i) AS m FROM t x JOIN t y ON x.i = y.i WHERE x.i IN (SELECT i FROM t)"
    assert query(tmp_path, sql, {"t": spilled}).to_pylist() == [{"n": 5000, "m": 4999}]


def test_result_larger_than_the_table_budget_is_streamed(tmp_path: Path) -> None:
    """A large result goes to disk while it is computed, and none of its rows is lost."""
    run = run_driver(
        DuckDBProcessor,
        {"query": "SELECT i, 'row ' || i AS s FROM range(1000000) t(i)"},
        tmp_path,
        table_budget_bytes=4 << 20,
    )
    out = run.outputs["df"]
    assert isinstance(out, SpilledTable)
    assert out.num_rows == 1_000_000
    assert sum(pc.sum(batch.column("i")).as_py() for batch in out.iter_batches()) == 499_999_500_000


@pytest.mark.parametrize(
    ("value", "rows"),
    [
        ([{"a": 1}, {"a": 2, "b": "x"}], [{"a": 1, "b": None}, {"a": 2, "b": "x"}]),
        ({"exit_code": 0, "ž": "ž"}, [{"value": '{"exit_code": 0, "ž": "ž"}'}]),
        ([1, {"a": 1}], [{"value": '[1, {"a": 1}]'}]),
        ("text", [{"value": '"text"'}]),
        (None, [{"value": "null"}]),
        ([], []),
    ],
)
def test_json_inputs(tmp_path: Path, value: Any, rows: list[dict[str, Any]]) -> None:
    """A list of objects is a table of their keys, any other JSON value one row of JSON text."""
    assert query(tmp_path, "FROM j", {"j": value}).to_pylist() == rows


def test_json_that_makes_no_table(tmp_path: Path) -> None:
    """Objects whose values do not agree in type are refused with the input's name."""
    assert "input 'j'" in str(failure(tmp_path, "FROM j", {"j": [{"a": 1}, {"a": "x"}]}))


def test_inputs_that_sql_cannot_read(tmp_path: Path) -> None:
    """A column type that DuckDB does not know is named, and a table without columns is refused."""
    table = pa.table({"ok": [1], "wide": pa.array([1], pa.decimal256(50, 0))})
    assert "column 'wide' is of type decimal256(50, 0)" in str(failure(tmp_path, "FROM t", {"t": table}))
    assert "has no columns" in str(failure(tmp_path, "SELECT 1", {"t": pa.table({})}))


# Types


@pytest.mark.parametrize(
    ("sql", "kind", "value"),
    [
        ("sum(x) FROM (VALUES (9007199254740993::BIGINT), (0)) t(x)", pa.decimal128(38, 0), decimal.Decimal(2**53 + 1)),
        ("18446744073709551615::UBIGINT", pa.uint64(), 2**64 - 1),
        ("340::UHUGEINT", pa.decimal128(38, 0), decimal.Decimal(340)),
        ("('1' || repeat('0', 50))::BIGNUM", pa.string(), "1" + "0" * 50),
        ("'6fd3a5d0-0000-4000-8000-000000000001'::UUID", pa.string(), "6fd3a5d0-0000-4000-8000-000000000001"),
        ("'b'::ENUM('a', 'b')", pa.string(), "b"),
        ("INTERVAL '1 month 2 days'", pa.string(), "1 month 2 days"),
        ("TIME '10:20:30.5'", pa.time64("us"), datetime.time(10, 20, 30, 500000)),
        ("'10:00:00+02'::TIMETZ", pa.string(), "10:00:00+02"),
        ("'101'::BIT", pa.string(), "101"),
        ("""'{"a": 1}'::JSON""", pa.string(), '{"a": 1}'),
        ("union_value(n := 1)", pa.string(), '{"n":1}'),
        ("{'a': 1::HUGEINT, 'b c': ['x'::ENUM('x')]}", None, {"a": decimal.Decimal(1), "b c": ["x"]}),
        ("[1::UHUGEINT]::UHUGEINT[1]", None, [decimal.Decimal(1)]),
        ("MAP {'k': INTERVAL 1 DAY}", None, [("k", "1 day")]),
        ("1.25::DECIMAL(10, 2)", pa.decimal128(10, 2), decimal.Decimal("1.25")),
        ("'\\x00ab'::BLOB", pa.binary(), b"\x00ab"),
        ("DATE '2024-02-29'", pa.date32(), datetime.date(2024, 2, 29)),
    ],
)
def test_types_come_out_plain_and_whole(tmp_path: Path, sql: str, kind: pa.DataType | None, value: Any) -> None:
    """Types of DuckDB's own come out as plain Arrow types with nothing lost."""
    column = query(tmp_path, f"SELECT {sql}").column(0)
    assert kind is None or column.type == kind
    assert column.to_pylist() == [value]


@pytest.mark.parametrize(
    "wide", ["'170141183460469231731687303715884105727'::HUGEINT", "(2::UHUGEINT ** 127)::UHUGEINT"]
)
def test_integers_of_39_digits(tmp_path: Path, wide: str) -> None:
    """An integer that no decimal holds is an error, never another number."""
    error = failure(tmp_path, f"SELECT 1 AS a, x AS huge FROM (SELECT {wide} AS x)")
    assert "38" in str(error)


def test_order_is_kept_when_columns_are_cast(tmp_path: Path) -> None:
    """Rows keep the query's order also when a column needs a cast."""
    table = query(tmp_path, "SELECT i, INTERVAL (i) DAY AS d FROM range(200000) t(i) ORDER BY i DESC")
    assert table.column("i").to_pylist() == list(range(199_999, -1, -1))


def test_utc_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Times with a zone are formatted in UTC whatever the process's own zone is."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        table = query(tmp_path, "SELECT now() AS n, '2024-01-01 00:00:00+02'::TIMESTAMPTZ::VARCHAR AS t")
    finally:
        monkeypatch.undo()
        time.tzset()
    assert table.column("t").to_pylist() == ["2023-12-31 22:00:00+00"]
    assert table.schema.field("n").type == pa.timestamp("us", tz="UTC")


# Errors


@pytest.mark.parametrize(
    ("sql", "place", "shown", "says"),
    [
        ("SELECT 1 +\n  citty\nFROM trips", (2, 3), "    citty\n    ^^^^^", "citty"),
        ("SELEC 1", (1, 1), "  SELEC 1\n  ^^^^^", "syntax error"),
        ("SELECT 1;\nSELECT 'é', zone::INT\nFROM trips", (2, 17), "  SELECT 'é', zone::INT\n", "Could not convert"),
        ("SELECT 'é' AS é;\n\n\tSELECT ž FROM trips", (3, 9), "  \tSELECT ž FROM trips\n  \t       ^", "ž"),
        ("SELECT 1; SELECT foo(1)", (1, 18), "^^^^^^", "foo"),
        ("CREATE TEMP TABLE x AS\n SELECT nope FROM trips; SELECT 1", (2, 9), "^^^^", "nope"),
        ("SELECT " + "1 + " * 100 + "nope" + " + 1" * 100 + " FROM trips", (1, 408), "…", "nope"),
    ],
)
def test_errors_show_their_place(tmp_path: Path, sql: str, place: tuple[int, int], shown: str, says: str) -> None:
    """An SQL error carries line, column, the line itself with carets, and what DuckDB says."""
    error = failure(tmp_path, sql, {"trips": TRIPS})
    assert (error.details["line"], error.details["column"]) == place
    assert f"line {place[0]}, column {place[1]}" in str(error)
    assert shown in str(error)
    assert says in str(error)
    assert "exception_message" not in str(error)


def test_an_error_in_mid_stream(tmp_path: Path) -> None:
    """A value that cannot be converted after many good rows is the same error with the same place."""
    sql = "SELECT i,\n  CASE WHEN i = 900000 THEN 'x' ELSE '1' END::INT AS n FROM range(1000000) t(i)"
    error = failure(tmp_path, sql)
    assert "Could not convert string 'x'" in str(error)
    assert error.details["line"] == 2
    assert error.details["error_type"] == "Conversion"


def test_missing_table_names_the_inputs(tmp_path: Path) -> None:
    """A wrong table name gets the nearest input and all that there are."""
    error = str(failure(tmp_path, "SELECT * FROM tripz", {"trips": TRIPS, "zones": TRIPS}))
    assert "no table 'tripz'; did you mean 'trips'?" in error
    assert "inputs of this step: 'trips', 'zones'" in error
    assert "'trips'" in str(failure(tmp_path, "SELECT * FROM input_df", {"trips": TRIPS}))
    assert "this step has no inputs" in str(failure(tmp_path, "SELECT * FROM trips"))
    assert "did you mean 'mine'?" in str(failure(tmp_path, "CREATE TEMP TABLE mine AS SELECT 1; FROM mime"))


def test_a_secret_in_the_query_is_not_shown(tmp_path: Path) -> None:
    """The line that an error shows has its secrets masked, also where it would be cut."""
    secret = "correct-horse-battery-staple"
    for gap in range(20, 70, 7):
        sql = f"SELECT '{secret}' AS s, {'1 + ' * (gap // 4)}{' ' * (gap % 4)} nope"
        with pytest.raises(StepError) as caught:
            run_driver(DuckDBProcessor, {"query": sql}, tmp_path, secrets=(secret,))
        assert "***" in str(caught.value)
        assert not any(secret[i : i + 6] in str(caught.value) for i in range(len(secret) - 5))


def test_the_example_is_a_valid_step() -> None:
    """The step that `osiris drivers show` prints has a configuration that the driver accepts."""
    step = yaml.safe_load(DuckDBProcessor.example)
    assert step["driver"] == "duckdb.processor"
    assert DuckDBProcessor.Config.model_validate(step["config"])


def test_unknown_configuration_keys_are_refused(tmp_path: Path) -> None:
    """A key that the driver does not know is an error."""
    with pytest.raises(ConfigError, match=r"config\.thread"):
        query(tmp_path, "SELECT 1", thread=1)


# Walls


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('{file}')",
        "SELECT * FROM '{file}'",
        "SELECT * FROM glob('{dir}/*')",
        "SELECT * FROM read_text('/proc/self/environ')",
        "SELECT * FROM read_blob('/proc/self/environ')",
        "SELECT * FROM sniff_csv('{file}')",
        "SELECT * FROM 'http://127.0.0.1:1/x.csv'",
        "COPY (SELECT 1) TO '{dir}/out.csv'; SELECT 1",
        "CREATE TEMP TABLE t (a VARCHAR); COPY t FROM '{file}'; SELECT 1",
        "ATTACH '{dir}/other.duckdb'; SELECT 1",
        "EXPORT DATABASE '{dir}/export'; SELECT 1",
        "IMPORT DATABASE '{dir}/export'; SELECT 1",
        "INSTALL httpfs; SELECT 1",
        "LOAD httpfs; SELECT 1",
        "LOAD '{dir}/x.duckdb_extension'; SELECT 1",
        "CREATE SECRET s (TYPE s3); SELECT 1",
        "SET enable_external_access = true; SELECT 1",
        "SET threads = 4; SELECT 1",
        "RESET memory_limit; SELECT 1",
        "SET lock_configuration = false; SELECT 1",
        "SET TimeZone = 'Europe/Prague'; SELECT 1",
        "PRAGMA threads = 4; SELECT 1",
        "PRAGMA enable_profiling; SELECT 1",
        "SET profiling_output = '{dir}/out.csv'; SELECT 1",
        "CALL enable_logging(storage = 'file', storage_path = '{dir}/out.csv'); SELECT 1",
    ],
)
def test_sql_cannot_reach_outside(tmp_path: Path, sql: str) -> None:
    """Nothing outside can be read, written, attached, loaded or set, and the message names allow_files."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "in.csv").write_text("treasure\n1\n")
    error = failure(tmp_path, sql.format(dir=outside, file=outside / "in.csv"))
    assert "allow_files" in str(error)
    assert "treasure" not in str(error)
    assert [path.name for path in outside.iterdir()] == ["in.csv"]


@pytest.mark.parametrize("allow_files", [False, True])
def test_python_variables_and_environment_stay_out(tmp_path: Path, allow_files: bool) -> None:
    """SQL sees neither Python's variables nor the process's environment, whatever is allowed."""
    treasure = pa.table({"a": [1]})
    assert "no table 'treasure'" in str(failure(tmp_path, "FROM treasure", allow_files=allow_files))
    assert "getenv" in str(failure(tmp_path, "SELECT getenv('HOME')", allow_files=allow_files))
    assert treasure.num_rows == 1


def test_only_the_private_spill_directory_is_open(tmp_path: Path) -> None:
    """A step may use files in its own spill directory, which is empty and never another connection's."""
    directory = query(tmp_path, "SELECT current_setting('temp_directory') AS d").to_pylist()[0]["d"]
    sql = (
        "SELECT current_setting('temp_directory') AS d, "
        "(SELECT count(*) FROM glob(current_setting('temp_directory') || '/*')) AS n"
    )
    assert "allow_files" in str(failure(tmp_path, f"COPY (SELECT 1) TO '{directory}/x.csv'; SELECT 1"))
    again = query(tmp_path, sql).to_pylist()[0]
    assert again["d"] != directory
    assert again["d"].startswith(str(tmp_path / "work"))
    assert again["n"] == 0
    escape = f"COPY (SELECT 1) TO '{directory}/../../x.csv'; SELECT 1"
    assert "allow_files" in str(failure(tmp_path, escape))


def test_allow_files(tmp_path: Path) -> None:
    """With allow_files SQL reads and writes files and attaches databases."""
    sql = (
        f"COPY (SELECT 42 AS a) TO '{tmp_path}/x.csv'; ATTACH '{tmp_path}/y.duckdb' AS y; "
        f"CREATE TABLE y.t AS SELECT * FROM '{tmp_path}/x.csv'; FROM y.t"
    )
    assert query(tmp_path, sql, allow_files=True).to_pylist() == [{"a": 42}]
    assert (tmp_path / "x.csv").read_text() == "a\n42\n"


# Memory, threads


def test_a_sort_larger_than_the_memory_limit_spills(tmp_path: Path) -> None:
    """A sort of far more than the step's memory succeeds."""
    run = run_driver(
        DuckDBProcessor,
        {"query": "SELECT i, repeat('x', 100) || i AS s FROM range(2000000) t(i) ORDER BY hash(i)"},
        tmp_path,
        memory_budget_bytes=96 << 20,
        table_budget_bytes=16 << 20,
    )
    assert run.outputs["df"].num_rows == 2_000_000


def test_out_of_memory_is_its_own_class(tmp_path: Path) -> None:
    """What cannot spill and does not fit fails as out of memory, with a remedy."""
    with pytest.raises(StepError) as caught:
        run_driver(
            DuckDBProcessor,
            {"query": "SELECT list(repeat('x', 1000) || i) AS l FROM range(3000000) t(i)"},
            tmp_path,
            memory_budget_bytes=64 << 20,
        )
    assert caught.value.failure_class is FailureClass.OUT_OF_MEMORY
    assert "threads: 1" in str(caught.value)


def test_one_thread_gives_the_same_bytes(tmp_path: Path) -> None:
    """With one thread an unordered float aggregation is the same, byte for byte, on every run."""
    sql = "SELECT i % 1000 AS k, sum(sin(i)) AS s FROM range(400000) t(i) GROUP BY k"
    first, second = (query(tmp_path, sql, threads=1) for _ in range(2))
    assert first.equals(second)
    assert query(tmp_path, "SELECT current_setting('threads') AS t", threads=1).to_pylist() == [{"t": 1}]
    assert query(tmp_path, "SELECT current_setting('threads') AS t").to_pylist() == [{"t": 2}]


def test_determinism_follows_the_configuration() -> None:
    """Only one thread without files is deterministic."""
    assert DuckDBProcessor.is_deterministic({"query": "SELECT 1", "threads": 1})
    assert not DuckDBProcessor.is_deterministic({"query": "SELECT 1"})
    assert not DuckDBProcessor.is_deterministic({"query": "SELECT 1", "threads": 1, "allow_files": True})
    assert DuckDBProcessor.is_deterministic(DuckDBProcessor.Config(query="SELECT 1", threads=1))


# Cancellation

LONG = "count(*) AS n FROM range(100000) a(i), range(10000000) b(j) WHERE (a.i * b.j) % 7 = 1"


@pytest.mark.parametrize(
    "sql",
    [
        f"SELECT {LONG}",
        "SELECT i FROM range(100000000000) t(i) WHERE i % 1000000 = 0",
        f"CREATE TEMP TABLE made AS SELECT {LONG}; FROM made",
        "SELECT sum(x.i * y.i) AS s FROM t x, t y, t z",
    ],
    ids=["cpu", "stream", "statement", "input-scan"],
)
def test_cancel_stops_the_query(tmp_path: Path, sql: str) -> None:
    """A cancelled step stops within half a second wherever its query is."""
    table = pa.table({"i": list(range(100_000))})
    spilled = write_ipc(tmp_path / "in.arrow", table.schema, table.to_batches(max_chunksize=1000))
    token = CancelToken()
    asked: list[float] = []

    def cancel() -> None:
        asked.append(time.monotonic())
        token.cancel(FailureClass.CANCELLED)

    timer = threading.Timer(0.4, cancel)
    timer.start()
    with pytest.raises(RunCancelled):
        run_driver(DuckDBProcessor, {"query": sql}, tmp_path, {"t": spilled}, token=token)
    assert time.monotonic() - asked[0] < 0.5
    timer.join()


def test_an_interrupt_between_statements_is_not_lost(tmp_path: Path) -> None:
    """A cancel that falls anywhere between many short statements and a long one still stops the step."""
    sql = "; ".join(["CREATE OR REPLACE TEMP TABLE t AS SELECT 1"] * 300) + f"; SELECT {LONG}"
    for delay_s in (0.02, 0.05, 0.09, 0.14):
        token = CancelToken()
        timer = threading.Timer(delay_s, token.cancel, [FailureClass.TIMEOUT])
        timer.start()
        started_s = time.monotonic()
        with pytest.raises(RunTimeout):
            run_driver(DuckDBProcessor, {"query": sql}, tmp_path, token=token)
        assert time.monotonic() - started_s < delay_s + 0.5
        timer.join()


def test_cancelled_before_it_starts(tmp_path: Path) -> None:
    """A step that is cancelled already runs nothing."""
    token = CancelToken()
    token.cancel(FailureClass.CANCELLED)
    with pytest.raises(RunCancelled):
        run_driver(DuckDBProcessor, {"query": f"SELECT {LONG}"}, tmp_path, token=token)


def test_the_interrupting_thread_ends_with_the_connection(tmp_path: Path) -> None:
    """After a cancelled step no thread of it is left."""
    token = CancelToken()
    timer = threading.Timer(0.2, token.cancel, [FailureClass.CANCELLED])
    timer.start()
    with pytest.raises(RunCancelled):
        run_driver(DuckDBProcessor, {"query": f"SELECT {LONG}"}, tmp_path, token=token)
    timer.join()
    gc.collect()
    deadline_s = time.monotonic() + 2
    while any(thread.name == "osiris-interrupt" for thread in threading.enumerate()):
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
