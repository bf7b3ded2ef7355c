"""CSV at its edges: what is long, what is odd, and settings that cannot work."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from osiris_core.drivers.csv_extractor import CsvExtractor
from osiris_core.drivers.csv_writer import CsvWriter
from osiris_core.errors import StepError
from osiris_core.testing import run_driver

if TYPE_CHECKING:
    from pathlib import Path


def read(tmp_path: Path, data: bytes, **config: Any) -> Any:
    (tmp_path / "in.csv").write_bytes(data)
    return run_driver(CsvExtractor, {"path": "in.csv", **config}, tmp_path).outputs["df"]


LONG = b"x" * 300_000
MANY_LINES = b"".join(b"#%0119d\n" % number for number in range(3000))


@pytest.mark.parametrize(
    ("config", "data", "expected"),
    [
        ({"skip_rows": 3000}, MANY_LINES + b"id,first_name\n1,Ada\n", {"id": [1], "first_name": ["Ada"]}),
        ({"comment": "#"}, MANY_LINES + b"id,first_name\n1,Ada\n", {"id": [1], "first_name": ["Ada"]}),
        (
            {"comment": "#", "on_bad_lines": "skip"},
            b"#%s\nid,first_name\n1,Ada\n" % (b"c" * ((256 << 10) - 9)),
            {"id": [1], "first_name": ["Ada"]},
        ),
        ({}, b"#\r\n".replace(b"#", LONG) + b"1\r\n", {LONG.decode(): [1]}),
        ({}, b'"a\n%s",b\n1,2\n' % LONG, {f"a\n{LONG.decode()}": [1], "b": [2]}),
        ({"header": False}, LONG + b",2\n1,2\n", {"0": [LONG.decode(), "1"], "1": [2, 2]}),
        ({"on_bad_lines": "warn"}, b"a,b\n%s,2\n1,2,3\n4,5\n" % LONG, {"a": [LONG.decode(), "4"], "b": [2, 5]}),
    ],
)
def test_what_stands_before_the_rows_may_be_long(tmp_path: Path, config: Any, data: bytes, expected: Any) -> None:
    """Skipped lines, comments, the header and single fields have no size at which a table silently changes."""
    before = csv.field_size_limit()
    assert read(tmp_path, data, **config).to_pydict() == expected
    assert csv.field_size_limit() == before, "the limit of everybody's csv module is not ours to change"


def test_very_many_columns(tmp_path: Path) -> None:
    """A header of 390 KB is a header."""
    names = [f"c{number}" for number in range(60_000)]
    table = read(tmp_path, (",".join(names) + "\n" + ",".join("1" for _ in names) + "\n").encode())
    assert (table.num_rows, table.schema.names) == (1, names)


@pytest.mark.parametrize(
    ("config", "data", "message"),
    [
        ({}, b"a,b\n%s,2\n1,2,3\n" % LONG, "line 3: 3 fields, the header has 2"),
        ({"skip_rows": 1}, b'junk\n\nid,"name\n1,2\n', "line 3: a quoted field is opened and never closed"),
    ],
)
def test_errors_beside_what_is_long(tmp_path: Path, config: Any, data: bytes, message: str) -> None:
    """A long field or a header without an end is told with its line."""
    with pytest.raises(StepError, match=message):
        read(tmp_path, data, **config)


def test_a_byte_order_mark_in_a_value_is_text(tmp_path: Path) -> None:
    """U+FEFF at the start of a row stays, wherever the file is cut into blocks."""
    rows = 900_000
    values = read(tmp_path, b"v\n" + "\ufeffab\n".encode() * rows).column("v").unique().to_pylist()
    assert values == ["\ufeffab"]


def test_nulls_of_one_column(tmp_path: Path) -> None:
    """No row is lost; `na_rep` tells a null from an empty text."""
    table = pa.table({"a": ["x", None, ""]})
    for config, reading, expected in (
        ({}, {}, ["x", "", ""]),
        ({"na_rep": "\\N"}, {"na_values": "\\N"}, ["x", None, ""]),
    ):
        run = run_driver(CsvWriter, {"path": "out.csv", **config}, tmp_path, {"df": table})
        assert run.artifacts_dir is not None
        written = (run.artifacts_dir / "out.csv").read_bytes()
        assert read(tmp_path, written, **reading).column("a").to_pylist() == expected


@pytest.mark.parametrize(
    ("driver", "config", "message"),
    [
        (CsvExtractor, {"delimiter": "§"}, "delimiter\n.*one ASCII character"),
        (CsvExtractor, {"quote": "\n"}, "quote\n.*no line end"),
        (CsvExtractor, {"quote": ","}, "delimiter and quote must be different characters, both are ','"),
        (CsvExtractor, {"escape": ","}, "delimiter and escape must be different"),
        (CsvExtractor, {"comment": '"'}, "quote and comment must be different"),
        (CsvExtractor, {"columns": ["id", "b", "id"]}, "columns\n.*named more than once: id"),
        (CsvExtractor, {"encoding": "rot13"}, "encoding\n.*unknown encoding"),
        (CsvExtractor, {"encoding": "base64"}, "encoding\n.*unknown encoding"),
        (CsvWriter, {"delimiter": "§"}, "delimiter\n.*one ASCII character"),
        (CsvWriter, {"delimiter": '"'}, "delimiter and quote must be different"),
        (CsvWriter, {"encoding": "rot13"}, "encoding\n.*unknown encoding"),
    ],
)
def test_settings_that_cannot_work_are_refused(driver: Any, config: Any, message: str) -> None:
    """Prepare finds them, not a row."""
    with pytest.raises(ValidationError, match=message):
        driver.Config.model_validate({"path": "a.csv", **config})
