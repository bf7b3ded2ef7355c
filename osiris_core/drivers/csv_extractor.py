"""The driver `filesystem.csv_extractor`: its settings, its checks, and the errors that people see."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from osiris_core.drivers.csv_blocks import BrokenRecord, Dialect
from osiris_core.drivers.csv_encoding import UnreadableText, find_bad_utf8
from osiris_core.drivers.csv_passes import BadBlock, BadValue, CsvPasses
from osiris_core.drivers.csv_types import named_type
from osiris_core.errors import StepError
from osiris_core.paths import InputPath  # noqa: TC001 - pydantic needs it at run time
from osiris_core.suggestion import did_you_mean

if TYPE_CHECKING:
    from osiris_core.step_context import StepContext


class CsvExtractorConfig(BaseModel):
    """Settings of `filesystem.csv_extractor`; the names and defaults are those of Osiris."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    path: InputPath = Field(min_length=1, description="The CSV file.")
    mode: Literal["extract", "read"] = Field(
        "extract", description="Accepted because compiled manifests carry it; both words mean the same."
    )
    connection: dict[str, Any] | None = Field(
        None, description="A filesystem connection. Accepted only: its base_dir is in `path` before the step runs."
    )
    delimiter: str = Field(",", min_length=1, max_length=1, description="The character between fields.")
    quote: str | None = Field('"', min_length=1, max_length=1, description="The quote character; null for none.")
    escape: str | None = Field(
        None, min_length=1, max_length=1, description="The escape character; by default a quote is doubled."
    )
    encoding: str = Field("utf-8", description="Any Python codec. A byte-order mark of UTF-16 wins over it.")
    header: bool | int = Field(
        True, description="true: the first row; false: none, columns are named 0, 1, …; a number: that row, from 0."
    )
    columns: list[str] | None = Field(None, min_length=1, description="Only these columns, in this order.")
    skip_rows: int | None = Field(0, ge=0, description="Lines to skip at the start of the file.")
    limit: int | None = Field(None, ge=0, description="The greatest number of rows to read.")
    parse_dates: bool | list[str] = Field(
        False, description="Columns of ISO 8601 dates or timestamps; true: every column that holds nothing else."
    )
    dtype: dict[str, str] | None = Field(
        None, description="Types of columns (int64, float64, str, bool, date, timestamp, decimal(12,2), …)."
    )
    na_values: str | list[str] | Mapping[str, list[str]] | None = Field(
        None, description="More texts that mean a missing value, in text columns too; a mapping: by column."
    )
    skip_blank_lines: bool = Field(True, description="false: a blank line is a row of nulls.")
    comment: str | None = Field(
        None, min_length=1, max_length=1, description="The rest of a line behind this character is ignored."
    )
    compression: Literal["infer", "none", "gzip", "bz2", "zstd", "xz", "zip"] | None = Field(
        "infer", description="infer: by the end of the file's name."
    )
    chunk_size: int = Field(10000, ge=1, description="The greatest number of rows in a batch.")
    on_bad_lines: Literal["error", "warn", "skip"] = Field(
        "error", description="What to do with a row of too many or too few fields."
    )
    discovery: Literal[False] = Field(
        False, description="Accepted because old configurations carry it; listing files is not part of a run."
    )

    @field_validator("header", mode="after")
    @classmethod
    def _row_number(cls, value: bool | int) -> bool | int:
        if value < 0:
            raise ValueError("a row number counts from 0")
        return value

    @field_validator("dtype", mode="after")
    @classmethod
    def _known_types(cls, value: dict[str, str] | None) -> dict[str, str] | None:
        for name in (value or {}).values():
            named_type(name)
        return value

    @property
    def dialect(self) -> Dialect:
        return Dialect(self.delimiter, self.quote, self.escape, self.comment, self.skip_blank_lines)


class CsvExtractor:
    """
    Reads a CSV file into the table `df`.

    Types are int64, float64, bool, else text; dates only in `parse_dates`. They hold for the whole file: a column
    whose last row does not fit becomes wider (int to float to text), no digit is lost. Numbers written as 007 or
    +420 stay text, and so do integers beyond 64 bits. NA, null and the other tokens of pandas are nulls in columns
    of numbers and bools and stay as they are in text. An empty field is null, a quoted empty one is an empty text.
    """

    Config = CsvExtractorConfig
    version = "1"
    deterministic = True
    needs_network = False
    example = """\
- id: extract-orders
  driver: filesystem.csv_extractor
  config:
    path: data/orders.csv
    parse_dates: [ordered_at]
"""

    def run(
        self,
        step_id: str,
        config: CsvExtractorConfig,
        inputs: Mapping[str, Any],  # noqa: ARG002 - the contract's
        ctx: StepContext,
    ) -> dict[str, Any]:
        name = Path(config.path).name

        def fail(message: str, **details: Any) -> StepError:
            return StepError(f"{name}: {message}", step_id=step_id, details={"path": config.path, **details})

        if not Path(config.path).is_file():
            raise fail("is a directory" if Path(config.path).exists() else "no such file")
        passes = CsvPasses(config, ctx)
        try:
            with passes:
                _check_names(config, passes.names, fail)
                table = passes.read()
                passes.report()
        except BadValue as exc:
            raise fail(str(exc), column=exc.column, row=exc.row) from exc
        except BrokenRecord as exc:
            raise fail(f"line {passes.line_of(exc)}: {exc}") from exc
        except UnreadableText as exc:
            raise fail(str(exc)) from exc
        except BadBlock as exc:
            raise fail(_explain(config, passes, exc)) from exc
        return {"df": table}


def _explain(config: CsvExtractorConfig, passes: CsvPasses, error: BadBlock) -> str:
    if "UTF8" in str(error) and (where := find_bad_utf8(config.path, config.compression or "none")):
        return where
    ragged = next(passes.ragged(error.block, 1), None)
    if ragged is None:
        return str(error)
    line, count = ragged
    return (
        f"line {line}: {count} fields, the header has {len(passes.names)}; "
        f"repair the line, check `delimiter` and `quote`, or set on_bad_lines: warn"
    )


def _check_names(config: CsvExtractorConfig, names: list[str], fail: Any) -> None:
    by_column = list(config.na_values) if isinstance(config.na_values, Mapping) else []
    dates = config.parse_dates if isinstance(config.parse_dates, list) else []
    for key, wanted in (
        ("columns", config.columns or []),
        ("parse_dates", dates),
        ("dtype", list(config.dtype or {})),
        ("na_values", by_column),
    ):
        for column in wanted:
            if column not in names:
                hint = did_you_mean(column, names) or f"the file has: {', '.join(names[:20])}"
                raise fail(f"{key}: no column {column!r}; {hint}", column=column)
