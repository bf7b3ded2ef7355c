"""The Parquet drivers: round trips, the same bytes every time, clear errors, bounded memory."""

from __future__ import annotations

import datetime
import decimal
import threading
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from osiris_core.cancellation import CancelToken
from osiris_core.drivers.parquet import ParquetExtractor, ParquetWriter
from osiris_core.errors import FailureClass, RunCancelled, StepError
from osiris_core.tables import SpilledTable, write_ipc
from osiris_core.testing import run_driver

if TYPE_CHECKING:
    from pathlib import Path

UTC = datetime.UTC
TABLE = pa.table({"a": [1, 2, 3], "b": ["x", None, "z"], "c.d": [0.5, 1.5, None]})


def write(directory: Path, table: Any, **config: Any) -> Path:
    run = run_driver(ParquetWriter, {"path": "out.parquet", **config}, directory, {"df": table})
    assert run.artifacts_dir is not None
    assert run.outputs == {}
    return run.artifacts_dir / config.get("path", "out.parquet")


def read(directory: Path, **config: Any) -> Any:
    return run_driver(ParquetExtractor, {"path": "in.parquet", **config}, directory).outputs["df"]


def read_failure(directory: Path, **config: Any) -> str:
    with pytest.raises(StepError) as caught:
        read(directory, **config)
    assert caught.value.step_id == "step"
    assert caught.value.failure_class is FailureClass.USER_ERROR
    return str(caught.value)


# Round trips


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1, None, -5], pa.int8()),
        pa.array([2**64 - 1, None], pa.uint64()),
        pa.array([1.5, None, float("inf")], pa.float64()),
        pa.array([1.5, None], pa.float32()),
        pa.array([True, None, False]),
        pa.array(["žluť", None, ""]),
        pa.array(["x", None], pa.large_string()),
        pa.array([b"\x00\xff", None]),
        pa.array([decimal.Decimal("1.25"), None], pa.decimal128(38, 2)),
        pa.array([decimal.Decimal(10) ** 60, None], pa.decimal256(70, 0)),
        pa.array([datetime.date(2024, 2, 29), None]),
        pa.array([datetime.time(10, 20, 30), None], pa.time64("us")),
        pa.array([datetime.datetime(2024, 1, 1), None], pa.timestamp("us")),
        pa.array([datetime.datetime(2024, 1, 1, tzinfo=UTC), None], pa.timestamp("us", tz="Europe/Prague")),
        pa.array([1, None], pa.timestamp("ns", tz="UTC")),
        pa.array([1, None], pa.timestamp("s")),
        pa.array([datetime.timedelta(seconds=5), None]),
        pa.array([[1, None], None, []], pa.list_(pa.int64())),
        pa.array([[1, 2], None], pa.list_(pa.int32(), 2)),
        pa.array([{"x": 1, "y": [{"z": "q"}]}, None]),
        pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int64())),
        pa.array([["a", "b"]], pa.list_(pa.dictionary(pa.int8(), pa.string()))),
        pa.nulls(3),
        pa.array([], pa.string()),
    ],
    ids=lambda column: str(column.type),
)
def test_round_trip(tmp_path: Path, column: pa.Array) -> None:
    """A written column is read back with the same type and values, nulls included."""
    written = write(tmp_path, pa.table({"c": column, "n": pa.array(range(len(column)), pa.int64())}))
    written.rename(tmp_path / "in.parquet")
    table = read(tmp_path)
    assert table.schema.names == ["c", "n"]
    expected = pa.int64() if str(column.type) == "null" and table.schema.field("c").type == pa.int64() else column.type
    if column.type == pa.timestamp("s"):
        expected = pa.timestamp("ms")  # Parquet has no seconds
    assert table.schema.field("c").type == expected
    assert table.column("c").to_pylist() == column.cast(expected).to_pylist()


def test_dictionaries_come_as_their_values(tmp_path: Path) -> None:
    """Dictionary-encoded columns, with another dictionary in every batch, come as plain values also from disk."""
    table = pa.table({"d": pa.chunked_array([pa.array([v, "c", None]).dictionary_encode() for v in ("a", "b")])})
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=3)
    values = ["a", "c", None, "b", "c", None]
    assert read(tmp_path).column("d").to_pylist() == values
    spilled = run_driver(ParquetExtractor, {"path": "in.parquet"}, tmp_path, table_budget_bytes=1).outputs["df"]
    assert isinstance(spilled, SpilledTable)
    assert spilled.to_table().column("d").to_pylist() == values
    assert pq.read_table(write(tmp_path, table)).column("d").to_pylist() == values


def test_schema_metadata_and_empty_tables(tmp_path: Path) -> None:
    """A table without rows keeps its columns and metadata."""
    schema = pa.schema([("a", pa.int64()), ("b", pa.string())], metadata={"origin": "here"})
    write(tmp_path, schema.empty_table()).rename(tmp_path / "in.parquet")
    table = read(tmp_path)
    assert table.num_rows == 0
    assert table.schema.equals(schema, check_metadata=True)


@pytest.mark.parametrize("driver", [ParquetExtractor, ParquetWriter])
def test_the_examples_are_valid_steps(driver: Any) -> None:
    """The step that `osiris drivers show` prints has a configuration that the driver accepts."""
    assert driver.Config.model_validate(yaml.safe_load(driver.example)["config"])


# Reading


def test_columns_in_the_order_asked_for(tmp_path: Path) -> None:
    """Only the named columns come, in the order of the configuration, dots in names included."""
    pq.write_table(TABLE.append_column("c", pa.array([{"d": 1, "e": 2}] * 3)), tmp_path / "in.parquet")
    assert read(tmp_path, columns=["c.d", "a"]).to_pydict() == {"c.d": [0.5, 1.5, None], "a": [1, 2, 3]}


@pytest.mark.parametrize(("limit", "batch_rows"), [(0, 10), (1, 10), (7, 3), (10, 10), (25, 4), (1000, 1000)])
def test_limit(tmp_path: Path, limit: int, batch_rows: int) -> None:
    """The first rows come, as many as asked for, whatever the batches; rows_read counts them."""
    pq.write_table(pa.table({"i": list(range(30))}), tmp_path / "in.parquet", row_group_size=8)
    run = run_driver(ParquetExtractor, {"path": "in.parquet", "limit": limit, "batch_rows": batch_rows}, tmp_path)
    assert run.outputs["df"].column("i").to_pylist() == list(range(min(limit, 30)))
    assert run.metrics["rows_read"] == min(limit, 30)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    """A wrong column name gets the nearest one, a strange one all that there are."""
    pq.write_table(pa.table({"zone": [1], "fare": [2]}), tmp_path / "in.parquet")
    assert "no column 'zoen'; did you mean 'zone'?" in read_failure(tmp_path, columns=["zoen"])
    assert "zone, fare" in read_failure(tmp_path, columns=["xyz"])
    assert "more than once" in read_failure(tmp_path, columns=["fare", "fare"])


def test_files_that_are_no_parquet(tmp_path: Path) -> None:
    """Text, an empty file, a cut-off file, a folder and nothing at all are told apart, with the path."""
    path = tmp_path / "in.parquet"
    assert "in.parquet does not exist" in read_failure(tmp_path)
    path.write_text("a,b\n1,2\n" * 10)
    assert "in.parquet is not a Parquet file" in read_failure(tmp_path)
    path.write_bytes(b"")
    assert "in.parquet is not a Parquet file" in read_failure(tmp_path)
    pq.write_table(TABLE, path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    assert "cut off" in read_failure(tmp_path)
    path.unlink()
    path.mkdir()
    assert "in.parquet is a folder" in read_failure(tmp_path)


def test_damaged_pages(tmp_path: Path) -> None:
    """A file whose end is whole and whose pages are not is an error that names the file, not rows."""
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"a": list(range(1000))}), path, compression="none", use_dictionary=False)
    data = bytearray(path.read_bytes())
    data[4:40] = bytes(36)
    path.write_bytes(data)
    assert "in.parquet" in read_failure(tmp_path)


def test_reading_is_bounded(tmp_path: Path) -> None:
    """One large row group is read in batches: memory does not follow its size."""
    path = tmp_path / "in.parquet"
    with pq.ParquetWriter(path, pa.schema([("a", pa.int64()), ("s", pa.string())]), compression="zstd") as writer:
        rows = 2_000_000
        table = pa.table({"a": range(rows), "s": pc.utf8_lpad(pc.cast(pa.array(range(rows)), "string"), 40)})
        writer.write_table(table, row_group_size=rows)
    size_bytes = table.nbytes
    del table
    peaks = []

    class Measured(ParquetExtractor):
        def run(self, *args: Any, **kwargs: Any) -> Any:
            before = pa.total_allocated_bytes()
            for batch in super().run(*args, **kwargs)["df"]:
                peaks.append(pa.total_allocated_bytes() - before)
                del batch

    run_driver(Measured, {"path": path.name}, tmp_path)
    assert size_bytes > 90 << 20
    assert max(peaks) < 60 << 20


# Writing


@pytest.mark.parametrize("compression", ["zstd", "snappy", "gzip", "none"])
def test_the_same_rows_give_the_same_bytes(tmp_path: Path, compression: str) -> None:
    """However the rows are batched, in memory or on disk, the file is the same, byte for byte."""
    rows = 10_000
    table = pa.table(
        {"i": range(rows), "s": [f"v{i % 97}" for i in range(rows)], "l": [[i, None] for i in range(rows)]}
    )
    chunked = pa.Table.from_batches(table.to_batches(max_chunksize=333))
    spilled = write_ipc(tmp_path / "t.arrow", table.schema, table.to_batches(max_chunksize=1234))
    written = {
        write(tmp_path, source, compression=compression, row_group_size=3000).read_bytes()
        for source in (table, chunked, spilled, table)
    }
    assert len(written) == 1
    (tmp_path / "in.parquet").write_bytes(written.pop())
    assert read(tmp_path).equals(table)
    groups = pq.ParquetFile(tmp_path / "in.parquet").metadata
    assert [groups.row_group(i).num_rows for i in range(groups.num_row_groups)] == [3000, 3000, 3000, 1000]
    codec = "UNCOMPRESSED" if compression == "none" else compression.upper()
    assert groups.row_group(0).column(0).compression == codec


def test_writing_counts_rows_and_makes_folders(tmp_path: Path) -> None:
    """Missing folders are made, rows are counted, an existing file is replaced, no other file is left."""
    config = {"path": "deep/er/out.parquet"}
    run = run_driver(ParquetWriter, config, tmp_path, {"df": TABLE})
    run = run_driver(ParquetWriter, config, tmp_path, {"df_any_name": TABLE.slice(0, 1), "note": "not a table"})
    assert run.metrics["rows_written"] == run.metrics["rows_read"] == 1
    assert run.artifacts_dir is not None
    folder = run.artifacts_dir / "deep" / "er"
    assert [path.name for path in folder.iterdir()] == ["out.parquet"]
    assert pq.read_table(folder / "out.parquet").num_rows == 1


def test_create_dirs_off(tmp_path: Path) -> None:
    """Without create_dirs a missing folder is an error that names the setting."""
    with pytest.raises(StepError, match="create_dirs: true"):
        write(tmp_path, TABLE, path="deep/out.parquet", create_dirs=False)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({}, "needs one input table and has none"),
        ({"n": 5}, "needs one input table and has none; its inputs are: n"),
        ({"one": TABLE, "two": TABLE}, "writes one table, the step has 2: one, two"),
    ],
)
def test_exactly_one_table(tmp_path: Path, inputs: dict[str, Any], words: str) -> None:
    """No table or several are refused before anything is written."""
    with pytest.raises(StepError, match=words):
        run_driver(ParquetWriter, {"path": "out.parquet"}, tmp_path, inputs)
    assert not list((tmp_path / "artifacts").rglob("*.parquet"))


def test_nothing_is_left_on_an_error(tmp_path: Path) -> None:
    """A table that fails while it is written leaves the old file as it was and no other."""
    path = write(tmp_path, TABLE)
    before = path.read_bytes()
    broken = write_ipc(tmp_path / "t.arrow", TABLE.schema, [TABLE.to_batches()[0]] * 500)
    data = broken.path.read_bytes()
    broken.path.write_bytes(data[: len(data) // 2])
    with pytest.raises((StepError, OSError, pa.ArrowInvalid)):
        write(tmp_path, broken)
    with pytest.raises(StepError, match="month_day_nano_interval"):
        write(tmp_path, pa.table({"i": pa.array([pa.MonthDayNano((1, 2, 3))])}))
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["out.parquet"]


def test_cancel_while_writing(tmp_path: Path) -> None:
    """A cancelled writer stops between two row groups and leaves nothing."""
    table = pa.table({"i": list(range(1_000_000))})
    token = CancelToken()
    timer = threading.Timer(0.3, token.cancel, [FailureClass.CANCELLED])
    timer.start()
    with pytest.raises(RunCancelled):
        run_driver(ParquetWriter, {"path": "o.parquet", "row_group_size": 10}, tmp_path, {"df": table}, token=token)
    timer.join()
    assert list((tmp_path / "artifacts" / "step").iterdir()) == []
