"""The hand-over of tables: bounded memory, scans as often as wanted, and nothing left when something fails."""

from __future__ import annotations

import decimal
import gc
import threading
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from osiris_core.tables import SpilledTable, TableStore, is_table, open_ipc, write_ipc

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROWS = pa.table({"n": list(range(1000)), "text": [f"žluť {n}" for n in range(1000)]})


@pytest.fixture
def small(tmp_path: Path) -> TableStore:
    """A store in which hardly anything fits."""
    return TableStore(tmp_path / "spill", 100)


@pytest.fixture
def large(tmp_path: Path) -> TableStore:
    """A store in which everything fits."""
    return TableStore(tmp_path / "spill", 1 << 30)


def files(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "spill").glob("*"))


def as_table(value: Any) -> pa.Table:
    return value.to_table() if isinstance(value, SpilledTable) else value


def stream(table: pa.Table, rows: int) -> pa.RecordBatchReader:
    return pa.RecordBatchReader.from_batches(table.schema, iter(table.to_batches(rows)))


TYPES = [
    pa.array([1, None, -5], pa.int8()),
    pa.array([1.5, None, float("inf")]),
    pa.array(["a", None, ""]),
    pa.array(["a", None, ""], pa.large_string()),
    pa.array(["a", None, "x" * 100], pa.string_view()),
    pa.array([b"\0", None, b""]),
    pa.array([True, None, False]),
    pa.array([decimal.Decimal("1.23"), None, None], pa.decimal128(38, 2)),
    pa.array([0, None, 1], pa.timestamp("us", "UTC")),
    pa.array([[1], None, []], pa.list_(pa.int64())),
    pa.array([{"a": 1, "b": "x"}, None, {"a": None, "b": None}]),
    pa.array(["a", None, "a"]).dictionary_encode(),
    pa.nulls(3),
    pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int64())),
    pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"x" * 16, None, b"y" * 16], pa.binary(16))),
]


@pytest.mark.parametrize("column", TYPES, ids=[str(column.type)[:20] for column in TYPES])
@pytest.mark.parametrize("budget_bytes", [0, 1 << 30])
def test_every_type_comes_back_as_it_was(tmp_path: Path, column: pa.Array, budget_bytes: int) -> None:
    """Held or spilled, from a table or a stream: the same schema, metadata and values."""
    schema = pa.schema([pa.field("c", column.type, metadata={b"k": b"v"})], metadata={b"a": b"b"})
    table = pa.Table.from_arrays([column], schema=schema)
    store = TableStore(tmp_path / "spill", budget_bytes)
    for value in (table, stream(table, 1)):
        kept = store.keep({"df": value})["df"]
        assert isinstance(kept, SpilledTable) == (budget_bytes == 0 and bool(table.nbytes or value is not table))
        assert as_table(kept).equals(table)
        assert kept.schema.equals(schema, check_metadata=True)
        assert (kept.num_rows, kept.num_columns, kept.shape, len(kept)) == (3, 1, (3, 1), 3)
        assert kept.column_names == ["c"]


COLUMN = st.one_of(
    st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), min_size=20, max_size=20),
    st.lists(st.none() | st.floats(allow_nan=False), min_size=20, max_size=20),
    st.lists(st.none() | st.text(max_size=20), min_size=20, max_size=20),
    st.lists(st.none() | st.lists(st.binary(max_size=5), max_size=3), min_size=20, max_size=20),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), COLUMN, max_size=4),
    st.integers(1, 25),
)
def test_round_trip(tmp_path: Path, columns: dict[str, list[Any]], rows: int) -> None:
    """Whatever is kept, in batches of any size and under any budget, is read back equal, and the books balance."""
    table = pa.table(columns)
    for budget_bytes in (0, 3000, 1 << 30):
        store = TableStore(tmp_path / "spill", budget_bytes)
        kept = store.keep({"a": table, "b": stream(table, rows)})
        assert as_table(kept["a"]).equals(table)
        assert as_table(kept["b"]).equals(table)
        for value in kept.values():
            store.release(value)
        assert store.held_bytes == 0
        assert files(tmp_path) == []


@pytest.mark.parametrize("table", [pa.table({}), ROWS.slice(0, 0), ROWS.select([]), pa.table({"": [1]})])
def test_tables_without_rows_or_columns(tmp_path: Path, table: pa.Table) -> None:
    """No rows, no columns, no name: all are tables."""
    store = TableStore(tmp_path / "spill", 0)
    kept = store.keep({"a": table, "b": stream(table, 10)})
    assert all(as_table(value).schema.equals(table.schema) for value in kept.values())
    assert all(value.num_rows == table.num_rows for value in kept.values())


def test_dictionaries_that_change_from_batch_to_batch(small: TableStore) -> None:
    """A categorical column whose categories differ in every batch is spilled as it is."""
    kind = pa.dictionary(pa.int8(), pa.string())
    schema = pa.schema([("c", kind), ("l", pa.list_(kind))])
    batches = []
    for n in range(5):
        values = pa.DictionaryArray.from_arrays(pa.array([0, 1, None], pa.int8()), [f"a{n}", f"b{n}"])
        batches.append(pa.record_batch([values, pa.ListArray.from_arrays([0, 1, 2, 3], values)], schema=schema))
    kept = small.keep({"df": pa.RecordBatchReader.from_batches(schema, batches)})["df"]
    assert isinstance(kept, SpilledTable)
    assert kept.schema.equals(schema)
    expected = [{"c": value, "l": [value]} for n in range(5) for value in (f"a{n}", f"b{n}", None)]
    assert kept.to_table().to_pylist() == expected


SOURCES = {
    "table": lambda: ROWS,
    "batch": lambda: ROWS.to_batches()[0],
    "reader": lambda: stream(ROWS, 100),
    "pandas": ROWS.to_pandas,
    "pandas, filtered": lambda: ROWS.to_pandas().query("n >= 0").sort_values("n", ascending=True),
    "polars": lambda: pl.from_arrow(ROWS),
    "duckdb": lambda: duckdb.connect().from_arrow(ROWS),
}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("budget_bytes", [0, 1 << 30])
def test_everything_with_an_arrow_stream_is_a_table(tmp_path: Path, source: str, budget_bytes: int) -> None:
    """Whatever library a driver works with, the next step gets the same rows."""
    store = TableStore(tmp_path / "spill", budget_bytes)
    kept = store.keep({"df": SOURCES[source]()})["df"]
    assert is_table(kept)
    assert as_table(kept).to_pylist() == ROWS.to_pylist()
    assert kept.column_names == ["n", "text"]


def test_an_unnamed_pandas_index_is_dropped_and_a_named_one_kept(large: TableStore) -> None:
    """The row labels of a filtered frame are nobody's data; an index with a name is a column."""
    frame = pd.DataFrame({"a": [1, 2, 3]}, index=[5, 9, 7])
    assert large.keep({"df": frame})["df"].column_names == ["a"]
    assert set(large.keep({"df": frame.rename_axis("id")})["df"].column_names) == {"a", "id"}
    double = pd.DataFrame({"a": [1]}, index=pd.MultiIndex.from_tuples([(1, 2)]))
    assert large.keep({"df": double})["df"].column_names == ["a"]


@pytest.mark.parametrize("value", [1, "x", None, [1, {"a": [True]}], {"a": 1.5}, (1, 2)])
def test_json_values_are_copied(large: TableStore, value: Any) -> None:
    """A JSON value is handed on as a copy that its driver can no longer change."""
    kept = large.keep({"v": value})["v"]
    assert kept == (list(value) if isinstance(value, tuple) else value)
    assert not is_table(kept)
    large.release(kept)
    if isinstance(value, (list, dict)):
        assert kept is not value


def test_numpy_numbers_are_numbers(large: TableStore) -> None:
    """A count made by numpy needs no conversion."""
    assert large.keep({"v": {"a": np.int64(5), "b": [np.float64(1.5)], "c": np.bool_(1)}}) == {
        "v": {"a": 5, "b": [1.5], "c": True}
    }


@pytest.mark.parametrize("value", [object(), {1, 2}, b"x", pl.Series([1]), pa.chunked_array([[1]]), np.array([1, 2])])
def test_anything_else_is_refused_by_name(large: TableStore, value: Any) -> None:
    """A value that is neither a table nor JSON is a TypeError naming the output, and nothing stays held."""
    with pytest.raises(TypeError, match="output 'bad'"):
        large.keep({"good": ROWS, "bad": value})
    assert large.held_bytes == 0


@pytest.mark.parametrize("budget_bytes", [0, 5000, 1 << 30])
def test_an_error_in_mid_stream_is_raised_as_it_is_and_leaves_nothing(tmp_path: Path, budget_bytes: int) -> None:
    """A driver's generator that fails half-way: its own error comes out, no file stays, the budget is whole."""

    def broken() -> Iterator[pa.RecordBatch]:
        yield from ROWS.to_batches(100)
        raise KeyError("row 1001")

    store = TableStore(tmp_path / "spill", budget_bytes)
    with pytest.raises(KeyError, match="row 1001"):
        store.keep({"first": ROWS, "df": pa.RecordBatchReader.from_batches(ROWS.schema, broken())})
    gc.collect()
    assert store.held_bytes == 0
    assert files(tmp_path) == []


def test_a_stream_spills_while_it_is_produced(tmp_path: Path) -> None:
    """Never more than the budget is held of a stream: what was read before the budget ran out is let go too."""
    alive: list[int] = []
    pool = pa.default_memory_pool()
    before = pool.bytes_allocated()

    def batches() -> Iterator[pa.RecordBatch]:
        for n in range(50):
            alive.append(pool.bytes_allocated() - before)
            yield pa.record_batch({"n": pa.array(np.full(100_000, n))})

    store = TableStore(tmp_path / "spill", 3_000_000)
    kept = store.keep({"df": pa.RecordBatchReader.from_batches(pa.schema([("n", pa.int64())]), batches())})["df"]
    assert isinstance(kept, SpilledTable)
    assert kept.num_rows == 5_000_000
    assert max(alive) < 8_000_000
    assert store.held_bytes == 0
    assert kept.nbytes == 40_000_000


def test_thousands_of_tiny_batches_are_not_free(tmp_path: Path) -> None:
    """Rows that come one by one weigh what their batches weigh, not only what is in them."""
    store = TableStore(tmp_path / "spill", 100_000)
    assert isinstance(store.keep({"df": stream(ROWS, 1)})["df"], SpilledTable)


def test_a_slice_counts_as_what_it_keeps_in_memory(tmp_path: Path) -> None:
    """Ten rows cut from a large table would keep all of it: they are spilled if that does not fit."""
    store = TableStore(tmp_path / "spill", 1000)
    kept = store.keep({"df": ROWS.slice(0, 10)})["df"]
    assert isinstance(kept, SpilledTable)
    assert kept.to_table().equals(ROWS.slice(0, 10))


@pytest.mark.parametrize("budget_bytes", [0, 1 << 30])
def test_a_spilled_or_held_table_is_scanned_again_and_again(tmp_path: Path, budget_bytes: int) -> None:
    """A self-join, polars, pandas and pyarrow all read the same object, each from its first row."""
    kept = TableStore(tmp_path / "spill", budget_bytes).keep({"df": ROWS})["df"]
    with duckdb.connect() as connection:
        connection.register("kept_rows", kept)
        counted = connection.sql("SELECT count(*) FROM kept_rows a JOIN kept_rows b USING (n)").fetchall()
    assert counted == [(1000,)]
    assert pl.DataFrame(kept).height == 1000
    assert pd.DataFrame.from_arrow(kept).shape == (1000, 2)
    assert pa.table(kept).equals(ROWS)
    assert pa.table(kept).equals(ROWS)


def test_a_spilled_table_answers_like_a_table(small: TableStore) -> None:
    """Methods, columns and rows by name work; a name that no table has is an AttributeError without loading it."""
    kept = small.keep({"df": ROWS})["df"]
    assert isinstance(kept, SpilledTable)
    assert kept["n"].to_pylist() == list(range(1000))
    assert kept.column("n").equals(ROWS.column("n"))
    assert kept.to_pandas().shape == (1000, 2)
    assert kept.slice(1, 1).to_pylist() == [{"n": 1, "text": "žluť 1"}]
    assert "1000 rows" in repr(kept)
    kept.path.unlink()
    assert not hasattr(kept, "no_such_method")
    assert not hasattr(kept, "__array__")


def test_release_frees_budget_and_file(tmp_path: Path) -> None:
    """What is released is gone, twice is as good as once, and what is not ours is left alone."""
    store = TableStore(tmp_path / "spill", ROWS.get_total_buffer_size() + 10)
    held, spilled = store.keep({"a": ROWS})["a"], store.keep({"b": ROWS})["b"]
    assert isinstance(spilled, SpilledTable)
    assert len(files(tmp_path)) == 1
    assert store.held_bytes == ROWS.get_total_buffer_size()
    foreign = write_ipc(tmp_path / "foreign", ROWS.schema, ROWS.to_batches())
    for _ in range(2):
        for value in (held, spilled, foreign, ROWS, 1, None, {"a": 1}):
            store.release(value)
    assert store.held_bytes == 0
    assert files(tmp_path) == []
    assert foreign.to_table().equals(ROWS)


def test_the_same_table_under_two_names_and_from_two_steps(large: TableStore) -> None:
    """An object returned twice is held twice and released twice; the books never drift."""
    first = large.keep({"a": ROWS, "b": ROWS})
    second = large.keep({"c": first["a"]})
    for value in [*first.values(), *second.values()]:
        large.release(value)
        assert large.held_bytes >= 0
    assert large.held_bytes == 0
    assert second["c"].equals(ROWS)


def test_a_spilled_input_returned_as_output_outlives_its_source(small: TableStore) -> None:
    """A step that passes its input on has an output of its own, whatever becomes of the input."""
    first = small.keep({"df": ROWS})["df"]
    second = small.keep({"df": first})["df"]
    small.release(first)
    assert as_table(second).equals(ROWS)


def test_what_is_forgotten_is_let_go(tmp_path: Path) -> None:
    """The outputs of a try that was given up free their memory and files when nobody refers to them."""
    store = TableStore(tmp_path / "spill", ROWS.get_total_buffer_size() + 10)
    store.keep({"a": ROWS, "b": ROWS})
    gc.collect()
    assert store.held_bytes == 0
    assert files(tmp_path) == []
    reader = store.keep({"a": ROWS, "b": ROWS})["b"].to_reader()
    gc.collect()
    assert reader.read_all().equals(ROWS)


def test_the_budget_under_threads(tmp_path: Path) -> None:
    """Eight threads that keep and release at once never exceed the budget, and end at zero."""
    size_bytes = ROWS.get_total_buffer_size()
    store = TableStore(tmp_path / "spill", size_bytes * 3)
    wrong: list[int] = []

    def work() -> None:
        for n in range(30):
            kept = store.keep({"a": ROWS, "b": stream(ROWS, 100 + n)})
            if not 0 <= store.held_bytes <= size_bytes * 3 or not as_table(kept["a"]).equals(ROWS):
                wrong.append(store.held_bytes)
            for value in kept.values():
                store.release(value)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert store.held_bytes == 0
    assert files(tmp_path) == []


def test_a_file_is_opened_again_without_loading_it(tmp_path: Path) -> None:
    """A kept file tells rows, size and schema, and is scanned like a spilled table."""
    written = write_ipc(tmp_path / "x.arrow", ROWS.schema, ROWS.to_batches(100))
    opened = open_ipc(tmp_path / "x.arrow")
    assert (opened.num_rows, opened.nbytes, opened.schema) == (written.num_rows, written.nbytes, ROWS.schema)
    assert opened.to_table().equals(ROWS)


def test_the_same_rows_give_the_same_file(tmp_path: Path) -> None:
    """A spilled table's bytes depend on its content only."""
    for name in ("a", "b"):
        write_ipc(tmp_path / name, ROWS.schema, ROWS.to_batches(100))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
