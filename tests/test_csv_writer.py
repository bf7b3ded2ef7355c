"""`filesystem.csv_writer`: the bytes, what comes back, and nothing left after an error."""

from __future__ import annotations

import gzip
import os
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from osiris_core.cancellation import CancelToken
from osiris_core.drivers.csv_extractor import CsvExtractor
from osiris_core.drivers.csv_writer import CsvWriter
from osiris_core.errors import FailureClass, RunCancelled, StepError
from osiris_core.tables import write_ipc
from osiris_core.testing import run_driver

if TYPE_CHECKING:
    from pathlib import Path


def write(tmp_path: Path, table: Any, name: str = "out.csv", **config: Any) -> bytes:
    run = run_driver(CsvWriter, {"path": name, **config}, tmp_path, {"df": table})
    assert run.artifacts_dir is not None
    assert run.metrics["rows_written"] == table.num_rows
    assert os.listdir((run.artifacts_dir / name).parent) == [(run.artifacts_dir / name).name]
    return (run.artifacts_dir / name).read_bytes()


TABLE = pa.table({"n": [1, None], "f": [1.0, None], "b": [True, None], "t": ['a,"b"', None], "e": ["", "x"]})


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, b'n,f,b,t,e\n1,1.0,true,"a,""b""",""\n,,,,x\n'),
        ({"quoting": "all"}, b'"n","f","b","t","e"\n"1","1.0","true","a,""b""",""\n,,,,"x"\n'),
        ({"quoting": "nonnumeric"}, b'"n","f","b","t","e"\n1,1.0,true,"a,""b""",""\n,,,,"x"\n'),
        ({"delimiter": "\t", "newline": "crlf"}, b'n\tf\tb\tt\te\r\n1\t1.0\ttrue\t"a,""b"""\t""\r\n\t\t\t\tx\r\n'),
        ({"header": False, "na_rep": "x"}, b'1,1.0,true,"a,""b""",""\nx,x,x,x,"x"\n'),
        ({"quote": "'"}, b"n,f,b,t,e\n1,1.0,true,'a,\"b\"',''\n,,,,x\n"),
    ],
)
def test_bytes(tmp_path: Path, config: Any, expected: bytes) -> None:
    """Quoting, newline, delimiter, header and null text are as asked, byte for byte."""
    assert write(tmp_path, TABLE, **config) == expected


def test_every_type(tmp_path: Path) -> None:
    """Every Arrow type has one exact text."""
    table = pa.table(
        {
            "f": pa.array([1.0, 0.1, 1e20, float("inf"), -0.0, 5e-324]),
            "ts": pa.array([datetime(2026, 1, 2, 3, 4, 5), datetime(2026, 1, 2, 3, 4, 5, 100)] * 3),
            "tz": pa.array([datetime(2026, 1, 2, tzinfo=UTC)] * 6, pa.timestamp("us", "Europe/Prague")),
            "d": pa.array([date(2026, 1, 2)] * 6),
            "h": pa.array([time(1, 2, 3)] * 6),
            "m": pa.array([Decimal("0E-12")] * 6, pa.decimal128(30, 12)),
            "x": pa.array([b"\x00\xff"] * 6),
            "l": pa.array([[1, None]] * 6),
            "s": pa.array([{"a": "é"}] * 6),
            "c": pa.array(["q"] * 6).dictionary_encode(),
            "v": pa.array(["w"] * 6, pa.large_string()),
            "z": pa.nulls(6),
        }
    )
    lines = write(tmp_path, table).decode().splitlines()
    assert [line.partition(",")[0] for line in lines[1:]] == ["1.0", "0.1", "1e+20", "inf", "-0.0", "5e-324"]
    assert lines[1] == (
        '1.0,2026-01-02T03:04:05,2026-01-02T00:00:00Z,2026-01-02,01:02:03,0.000000000000,AP8=,"[1,null]",'
        '"{""a"":""é""}",q,w,'
    )
    assert lines[2].split(",")[1] == "2026-01-02T03:04:05.000100"


@pytest.mark.parametrize("quoting", ["minimal", "nonnumeric"])
def test_round_trip(tmp_path: Path, quoting: str) -> None:
    """What the extractor reads back is the same table: empty is not null, and no digit is lost."""
    rows = 50_000
    table = pa.table(
        {
            "i": pa.array([i if i % 7 else None for i in range(rows)]),
            "f": pa.array([i / 7 for i in range(rows)]),
            "whole": pa.array([float(i) for i in range(rows)]),
            "b": pa.array([i % 2 == 0 for i in range(rows)]),
            "t": pa.array(["", None, "NA", 'q"', "a\r\nb", " pad ", "007", "x,y"] * (rows // 8)),
            "ts": pa.array([datetime(2026, 1, 1, 0, 0, i % 60, i) for i in range(rows)], pa.timestamp("us")),
            "d": pa.array([date(2026, 1, 1 + i % 28) for i in range(rows)]),
        }
    )
    (tmp_path / "back.csv").write_bytes(write(tmp_path, table, quoting=quoting))
    back = run_driver(CsvExtractor, {"path": "back.csv", "parse_dates": ["ts", "d"]}, tmp_path).outputs["df"]
    assert back.equals(table)


def test_one_column_keeps_its_null_rows(tmp_path: Path) -> None:
    """A null alone in its row does not become a blank line."""
    assert write(tmp_path, pa.table({"a": [1, None]})) == b'a\n1\n""\n'


def test_sliced_and_spilled(tmp_path: Path) -> None:
    """A spilled table and slices of a larger one are written whole and in order."""
    table = pa.table({"a": range(100_000), "t": [f"t{i}" for i in range(100_000)]})
    expected = b"a,t\n" + b"".join(b"%d,t%d\n" % (i, i) for i in range(100_000))
    spilled = write_ipc(tmp_path / "t.arrow", table.schema, table.to_batches(max_chunksize=30_000))
    assert write(tmp_path, spilled) == write(tmp_path, table) == expected
    assert write(tmp_path, table.slice(99_999), header=False) == b"99999,t99999\n"
    assert write(tmp_path, table.slice(0, 0)) == b"a,t\n"


@pytest.mark.parametrize("encoding", ["cp1250", "utf-16", "utf-8-sig"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    """Any codec, with one byte-order mark at most."""
    table = pa.table({"a": ["žluť"] * 40_000, "b": range(40_000)})
    text = "a,b\n" + "".join(f"žluť,{i}\n" for i in range(40_000))
    assert write(tmp_path, table, encoding=encoding) == text.encode(encoding)


def test_compressed_by_name(tmp_path: Path) -> None:
    """The end of the name compresses, with the same bytes each time."""
    first = write(tmp_path, TABLE, "out.csv.gz")
    assert gzip.decompress(first).startswith(b"n,f,b,t,e\n1,1.0,true,")
    assert write(tmp_path, TABLE, "out.csv.gz") == first


@pytest.mark.parametrize(
    ("config", "inputs", "message"),
    [
        ({}, {}, "needs one input table"),
        ({}, {"n": 1}, "its inputs are: n"),
        ({}, {"a": TABLE, "b": TABLE}, "has 2: a, b"),
        ({"encoding": "cp1250"}, {"df": pa.table({"a": ["x", "漢"]})}, "row 2, column 'a': '漢' is not in"),
        ({"quoting": "none"}, {"df": pa.table({"a": ["x", "y,z"]})}, "row 2, column 'a'.*needs quotes"),
        ({"path": "sub/out.csv", "create_dirs": False}, {"df": TABLE}, "create_dirs"),
    ],
)
def test_errors_leave_nothing(tmp_path: Path, config: Any, inputs: Any, message: str) -> None:
    """An error names its place and leaves no file, not even a part."""
    with pytest.raises(StepError, match=message):
        run_driver(CsvWriter, {"path": "out.csv", **config}, tmp_path, inputs)
    assert [path for path in (tmp_path / "artifacts").rglob("*") if path.is_file()] == []


def test_cancel_leaves_nothing(tmp_path: Path) -> None:
    """A cancelled write leaves no file."""
    token = CancelToken()
    token.cancel(FailureClass.CANCELLED)
    with pytest.raises(RunCancelled):
        run_driver(CsvWriter, {"path": "out.csv"}, tmp_path, {"df": TABLE}, token=token)
    assert [path for path in (tmp_path / "artifacts").rglob("*") if path.is_file()] == []
