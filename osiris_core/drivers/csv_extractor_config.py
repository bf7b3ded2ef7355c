"""The settings of `filesystem.csv_extractor`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping  # noqa: TC003 - pydantic needs it at run time
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from osiris_core.drivers.csv_blocks import Dialect
from osiris_core.drivers.csv_settings import Mark, TextCodec, check_different
from osiris_core.drivers.csv_types import named_type
from osiris_core.paths import InputPath  # noqa: TC001 - pydantic needs it at run time


class CsvExtractorConfig(BaseModel):
    """Settings of `filesystem.csv_extractor`; the names and defaults are those of Osiris."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    path: InputPath = Field(min_length=1, description="The CSV file.")
    mode: Literal["extract", "read"] = Field(
        default="extract", description="Accepted because compiled manifests carry it; both words mean the same."
    )
    connection: dict[str, Any] | None = Field(
        default=None,
        description="A filesystem connection. Accepted only: its base_dir is in `path` before the step runs.",
    )
    delimiter: Mark = Field(default=",", description="The character between fields.")
    quote: Mark | None = Field(default='"', description="The quote character; null for none.")
    escape: Mark | None = Field(default=None, description="The escape character; by default a quote is doubled.")
    encoding: TextCodec = Field(
        default="utf-8", description="Any Python codec. A byte-order mark of UTF-16 wins over it."
    )
    header: bool | int = Field(
        default=True,
        description="true: the first row; false: none, columns are named 0, 1, …; a number: that row, from 0.",
    )
    columns: list[str] | None = Field(default=None, min_length=1, description="Only these columns, in this order.")
    skip_rows: int | None = Field(default=0, ge=0, description="Lines to skip at the start of the file.")
    limit: int | None = Field(default=None, ge=0, description="The greatest number of rows to read.")
    parse_dates: bool | list[str] = Field(
        default=False,
        description="Columns of ISO 8601 dates or timestamps; true: every column that holds nothing else.",
    )
    dtype: dict[str, str] | None = Field(
        default=None, description="Types of columns (int64, float64, str, bool, date, timestamp, decimal(12,2), …)."
    )
    na_values: str | list[str] | Mapping[str, list[str]] | None = Field(
        default=None, description="More texts that mean a missing value, in text columns too; a mapping: by column."
    )
    skip_blank_lines: bool = Field(default=True, description="false: a blank line is a row of nulls.")
    comment: Mark | None = Field(default=None, description="The rest of a line behind this character is ignored.")
    compression: Literal["infer", "none", "gzip", "bz2", "zstd", "xz", "zip"] | None = Field(
        default="infer", description="infer: by the end of the file's name."
    )
    chunk_size: int = Field(default=10000, ge=1, description="The greatest number of rows in a batch.")
    on_bad_lines: Literal["error", "warn", "skip"] = Field(
        default="error", description="What to do with a row of too many or too few fields."
    )
    discovery: Literal[False] = Field(
        default=False, description="Accepted because old configurations carry it; listing files is not part of a run."
    )

    @field_validator("header", mode="after")
    @classmethod
    def _row_number(cls, value: bool | int) -> bool | int:
        if value < 0:
            raise ValueError("a row number counts from 0")
        return value

    @field_validator("columns", mode="after")
    @classmethod
    def _once_each(cls, value: list[str] | None) -> list[str] | None:
        twice = [name for name, count in Counter(value).items() if count > 1]
        if twice:
            raise ValueError(f"named more than once: {', '.join(twice)}")
        return value

    @field_validator("dtype", mode="after")
    @classmethod
    def _known_types(cls, value: dict[str, str] | None) -> dict[str, str] | None:
        for name in (value or {}).values():
            named_type(name)
        return value

    @model_validator(mode="after")
    def _different_marks(self) -> Self:
        escape = None if self.escape == self.quote else self.escape
        marks = {"delimiter": self.delimiter, "quote": self.quote, "escape": escape, "comment": self.comment}
        check_different(marks)
        return self

    @property
    def dialect(self) -> Dialect:
        return Dialect(self.delimiter, self.quote, self.escape, self.comment, self.skip_blank_lines)
