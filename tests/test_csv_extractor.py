"""`filesystem.csv_extractor`: every row, every digit, or an error that names the line."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zipfile
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from osiris_core.cancellation import CancelToken
from osiris_core.drivers.csv_extractor import CsvExtractor
from osiris_core.errors import FailureClass, RunCancelled, StepError
from osiris_core.tables import SpilledTable
from osiris_core.testing import run_driver

if TYPE_CHECKING:
    from pathlib import Path


def read(tmp_path: Path, data: bytes | str, name: str = "in.csv", **config: Any) -> Any:
    (tmp_path / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    return run_driver(CsvExtractor, {"path": name, **config}, tmp_path).outputs["df"]


def column(tmp_path: Path, values: list[str], **config: Any) -> Any:
    table = read(tmp_path, "k,v\n" + "".join(f"x,{value}\n" for value in values), **config)
    return table.schema.field("v").type, table.column("v").to_pylist()


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        (["1", "-2"], pa.int64(), [1, -2]),
        (["1", "2.5"], pa.float64(), [1.0, 2.5]),
        (["true", "False"], pa.bool_(), [True, False]),
        (["1", "true"], pa.string(), ["1", "true"]),
        (["1", "x"], pa.string(), ["1", "x"]),
        (["1", "NA", "null"], pa.int64(), [1, None, None]),
        (["1.5", "NaN", ""], pa.float64(), [1.5, None, None]),
        (["NA", "CZ", ""], pa.string(), ["NA", "CZ", None]),
        (["NA", "null"], pa.string(), ["NA", "null"]),
        (["007", "8"], pa.string(), ["007", "8"]),
        (["007", "1.5"], pa.string(), ["007", "1.5"]),
        (["+420", "1"], pa.string(), ["+420", "1"]),
        (["0x1F", "1"], pa.string(), ["0x1F", "1"]),
        (["18446744073709551615", "1"], pa.string(), ["18446744073709551615", "1"]),
        (["9007199254740993", "1.5"], pa.string(), ["9007199254740993", "1.5"]),
        (["9007199254740993", "1"], pa.int64(), [9007199254740993, 1]),
        (["1e400", "1"], pa.string(), ["1e400", "1"]),
        ([" 5", "6 "], pa.int64(), [5, 6]),
        (["2026-01-01", "2026-01-02"], pa.string(), ["2026-01-01", "2026-01-02"]),
        (['""', "a", ""], pa.string(), ["", "a", None]),
        (['""', "1"], pa.int64(), [None, 1]),
        (["", ""], pa.string(), [None, None]),
    ],
)
def test_types(tmp_path: Path, values: list[str], kind: pa.DataType, expected: list[Any]) -> None:
    """A column has the narrowest type that keeps every value as written."""
    assert column(tmp_path, values) == (kind, expected)


@pytest.mark.parametrize(
    ("first", "last", "kind", "expected"),
    [
        ("1", "2.5", pa.float64(), (1.0, 2.5)),
        ("1", "007", pa.string(), ("1", "007")),
        ("1.50", "x", pa.string(), ("1.50", "x")),
        ("True", "maybe", pa.string(), ("True", "maybe")),
        ("9007199254740993", "0.5", pa.string(), ("9007199254740993", "0.5")),
        ("NA", "3", pa.int64(), (None, 3)),
        ("NA", "x", pa.string(), ("NA", "x")),
        ("", "3", pa.int64(), (None, 3)),
    ],
)
@pytest.mark.parametrize("budget", [256 << 20, 2 << 20])
def test_widening(tmp_path: Path, first: str, last: str, kind: Any, expected: Any, budget: int) -> None:
    """A last row that does not fit widens the whole column, in memory and spilled, and no row is lost or doubled."""
    rows = 200_000
    (tmp_path / "in.csv").write_text("i,v\n" + "".join(f"{i},{first}\n" for i in range(rows)) + f"{rows},{last}\n")
    run = run_driver(CsvExtractor, {"path": "in.csv"}, tmp_path, memory_budget_bytes=budget)
    table = run.outputs["df"]
    assert table.schema.field("v").type == kind
    assert table.column("i").to_pylist() == list(range(rows + 1))
    values = table.column("v").to_pylist()
    assert (set(values[:-1]), values[-1]) == ({expected[0]}, expected[1])
    assert run.metrics["rows_read"] == rows + 1


def test_spills_what_is_large(tmp_path: Path) -> None:
    """What outgrows the budget comes from disk, in order."""
    (tmp_path / "in.csv").write_text("i\n" + "".join(f"{i}\n" for i in range(500_000)))
    run = run_driver(
        CsvExtractor, {"path": "in.csv"}, tmp_path, memory_budget_bytes=1 << 20, table_budget_bytes=1 << 20
    )
    table = run.outputs["df"]
    assert isinstance(table, SpilledTable)
    assert table.column("i").to_pylist() == list(range(500_000))


@pytest.mark.parametrize(
    ("config", "values", "kind", "expected"),
    [
        ({"parse_dates": ["v"]}, ["2026-01-02", "NA"], pa.date32(), [date(2026, 1, 2), None]),
        (
            {"parse_dates": True},
            ["2026-01-02", "2026-01-02 03:04:05"],
            pa.timestamp("us"),
            [datetime(2026, 1, 2), datetime(2026, 1, 2, 3, 4, 5)],
        ),
        ({"parse_dates": ["v"]}, ["2026-01-02", "soon"], pa.string(), ["2026-01-02", "soon"]),
        ({"dtype": {"v": "str"}}, ["1", "NA"], pa.string(), ["1", "NA"]),
        ({"dtype": {"v": "int64"}}, ["007", "NA"], pa.int64(), [7, None]),
        ({"dtype": {"v": "float64"}}, ["1", "2"], pa.float64(), [1.0, 2.0]),
        ({"na_values": ["-"]}, ["1", "-"], pa.int64(), [1, None]),
        ({"na_values": ["-"]}, ["a", "-"], pa.string(), ["a", None]),
        ({"na_values": {"v": ["-"]}}, ["a", "-"], pa.string(), ["a", None]),
    ],
)
def test_asked_types(tmp_path: Path, config: Any, values: Any, kind: Any, expected: Any) -> None:
    """`parse_dates`, `dtype` and `na_values` are obeyed."""
    assert column(tmp_path, values, **config) == (kind, expected)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "cp1250", "utf-8-sig", "utf-32"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    """Any codec gives the same text, over block and buffer ends."""
    rows = [f"příliš {i}" for i in range(20_000)]
    table = read(tmp_path, ("id,v\n" + "".join(f"1,{row}\n" for row in rows)).encode(encoding), encoding=encoding)
    assert table.column_names == ["id", "v"]
    assert table.column("v").to_pylist() == rows


@pytest.mark.parametrize("order", ["le", "be"])
def test_utf16_unannounced(tmp_path: Path, order: str) -> None:
    """UTF-16 is read by its mark, by its zeros when so named, and refused with a remedy when it has neither."""
    text = "a,b\n1,é\n"
    bare = text.encode(f"utf-16-{order}")
    marked = "\ufeff".encode(f"utf-16-{order}") + bare
    for data, config in ((marked, {}), (bare, {"encoding": "utf-16"})):
        assert read(tmp_path, data, **config).to_pylist() == [{"a": 1, "b": "é"}]
    with pytest.raises(StepError, match=f"utf-16-{order}"):
        read(tmp_path, bare)


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_line_ends_and_quoted_newlines(tmp_path: Path, ending: str) -> None:
    """Every line end works, and a quoted one is part of its value wherever blocks are cut."""
    rows = 120_000
    text = "a,b" + ending + "".join(f'{i},"x{ending}y, ""z"""{ending}' for i in range(rows))
    table = read(tmp_path, text)
    assert table.column("a").to_pylist() == list(range(rows))
    assert set(table.column("b").to_pylist()) == {f'x{ending}y, "z"'}


def test_literal_quotes_do_not_join_rows(tmp_path: Path) -> None:
    """A quote inside an unquoted field is a character."""
    rows = 200_000
    table = read(tmp_path, "a,b\n" + "".join(f'{i},5" pipe\n' for i in range(rows)))
    assert table.num_rows == rows
    assert set(table.column("b").to_pylist()) == {'5" pipe'}


def test_compression(tmp_path: Path) -> None:
    """Archives are known by their names; a truncated one is an error, never short data."""
    data = b"a,b\n" + b"".join(b"%d,%d\n" % (i, i * 7919 % 1000) for i in range(50_000))
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    for suffix, packed in (
        (".gz", gzip.compress(data)),
        (".bz2", bz2.compress(data)),
        (".xz", lzma.compress(data)),
        (".zst", sink.getvalue().to_pybytes()),
    ):
        assert read(tmp_path, packed, f"in.csv{suffix}").num_rows == 50_000
        for cut in (len(packed) // 2, len(packed) - 3):
            with pytest.raises(StepError, match="truncated"):
                read(tmp_path, packed[:cut], f"in.csv{suffix}")
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        archive.writestr("in.csv", data)
    assert read(tmp_path, (tmp_path / "in.zip").read_bytes(), "in.zip").num_rows == 50_000


@pytest.mark.parametrize(
    ("config", "text", "expected"),
    [
        ({}, "a,a,\n1,2,3\n", {"a": [1], "a.1": [2], "Unnamed: 2": [3]}),
        ({}, "a,b\n", {"a": [], "b": []}),
        ({}, "\n\na\n1\n\n2", {"a": [1, 2]}),
        ({"header": False}, "1,2\n3,4\n", {"0": [1, 3], "1": [2, 4]}),
        ({"header": 1}, "junk\na,b\n1,2\n", {"a": [1], "b": [2]}),
        ({"skip_rows": 1}, "junk,\na,b\n1,2\n", {"a": [1], "b": [2]}),
        ({"columns": ["b", "a"]}, "a,b,c\n1,2,3\n", {"b": [2], "a": [1]}),
        ({"limit": 1}, "a\n1\nx\n", {"a": [1]}),
        ({"limit": 0}, "a\n1\n", {"a": []}),
        ({"comment": "#"}, '#no\na,b\n1,2#c\n# x,"y\n3,"4#"\n', {"a": [1, 3], "b": ["2", "4#"]}),
        ({"skip_blank_lines": False}, "a,b\n1,2\n\n3,4\n", {"a": [1, None, 3], "b": [2, None, 4]}),
        ({"delimiter": ";", "quote": "'"}, "a;b\n'x;y';2\n", {"a": ["x;y"], "b": [2]}),
        ({"escape": "\\"}, 'a,b\n"x\\"y",2\n', {"a": ['x"y'], "b": [2]}),
        ({"chunk_size": 1, "mode": "read", "discovery": False, "connection": {}}, "a\n1\n2\n", {"a": [1, 2]}),
    ],
)
def test_structure(tmp_path: Path, config: Any, text: str, expected: Any) -> None:
    """Header, skipping, selection and dialect are obeyed."""
    assert read(tmp_path, text, **config).to_pydict() == expected


@pytest.mark.parametrize(
    ("config", "data", "message"),
    [
        ({}, b"", "empty"),
        ({}, b'a,b\n1,"x\ny"\n1,2,3\n', r"in.csv: line 4: 3 fields, the header has 2"),
        ({}, b"a,b\n1,2\n3\n", r"line 3: 1 fields"),
        ({}, b'a,b\n1,2\n3,"x\n4,5\n', r"line 3: .*never closed"),
        ({}, b"a,b\n1,2\n3,\xff\n", r"line 3: byte 10 \(0xff\) is not utf-8"),
        ({"encoding": "ascii"}, "a\nx\né\n".encode(), r"line 3: byte 4"),
        ({"columns": ["citi"]}, b"city\nx\n", "columns: no column 'citi'; did you mean 'city'"),
        ({"parse_dates": ["x"]}, b"city\nx\n", "parse_dates: no column 'x'; the file has: city"),
        ({"dtype": {"x": "str"}}, b"city\nx\n", "dtype: no column 'x'"),
        ({"dtype": {"a": "int64"}}, b"a\n1\n2\nx\n", "row 3, column 'a': 'x' is not int64"),
    ],
)
def test_errors_name_the_place(tmp_path: Path, config: Any, data: bytes, message: str) -> None:
    """What cannot be read is an error with file, line and remedy."""
    with pytest.raises(StepError, match=message):
        read(tmp_path, data, **config)


def test_ragged_line_number_far_down(tmp_path: Path) -> None:
    """The line number counts lines of the file, also blocks later."""
    lines = [f"{i},aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" for i in range(150_000)]
    lines[140_000] += ",extra"
    with pytest.raises(StepError, match="line 140003: 3 fields"):
        read(tmp_path, "skipped\na,b\n" + "\n".join(lines), skip_rows=1)


def test_missing_file(tmp_path: Path) -> None:
    """A file that is not there is named."""
    with pytest.raises(StepError, match=r"no\.csv: no such file"):
        run_driver(CsvExtractor, {"path": "no.csv"}, tmp_path)


@pytest.mark.parametrize(("mode", "logged"), [("warn", ["line 3", "line 4"]), ("skip", [])])
def test_bad_lines(tmp_path: Path, mode: str, logged: list[str]) -> None:
    """`on_bad_lines` skips and counts; `warn` names the lines too."""
    (tmp_path / "in.csv").write_text("a,b\n1,2\n1,2,3\n4\n5,6\n")
    run = run_driver(CsvExtractor, {"path": "in.csv", "on_bad_lines": mode}, tmp_path)
    assert run.outputs["df"].to_pydict() == {"a": [1, 5], "b": [2, 6]}
    assert [event["value"] for event in run.events if event.get("name") == "rows_skipped"] == [2]
    texts = [event["message"] for event in run.events if event["event"] == "log"]
    assert [text.partition(" skipped")[0] for text in texts if text.startswith("line")] == logged


def test_cancel(tmp_path: Path) -> None:
    """A cancelled read stops at its next block."""
    (tmp_path / "in.csv").write_text("a\n" + "1\n" * 100_000)
    token = CancelToken()
    token.cancel(FailureClass.CANCELLED)
    with pytest.raises(RunCancelled):
        run_driver(CsvExtractor, {"path": "in.csv"}, tmp_path, token=token)


def test_a_huge_record_is_an_error(tmp_path: Path) -> None:
    """A quote left open early in a large file does not load the file."""
    with pytest.raises(StepError, match=r"line 2: .*quote left open"):
        read(tmp_path, b'a,b\n1,"' + b"x,y\n" * (20 << 20))


def test_quoted_lines_of_quotes(tmp_path: Path) -> None:
    """Blocks are cut right where quoted values hold line ends next to quotes."""
    rows = 150_000
    values = ['a"\n"', '\n"\n', '"\n', "x", ""]
    quoted = ['"' + value.replace('"', '""') + '"' for value in values]
    table = read(tmp_path, "i,v\n" + "".join(f'"{i}",{quoted[i % 5]}\n' for i in range(rows)))
    assert table.column("i").to_pylist() == list(range(rows))
    assert table.column("v").to_pylist() == values * (rows // 5)
