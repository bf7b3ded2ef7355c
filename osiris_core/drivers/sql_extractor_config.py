"""The settings that every extractor of a database has."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

_DECIMAL = re.compile(r"decimal\(\s*(\d+)\s*,\s*(\d+)\s*\)")
MAX_DIGITS = 38
"""What an Arrow decimal of 128 bits holds."""


class SqlExtractorConfig(BaseModel):
    """A query, or a table of which columns and rows may be chosen."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    mode: Literal["extract", "read"] = Field(
        default="extract", description="Accepted because compiled manifests carry it; both words mean the same."
    )
    query: str | None = Field(default=None, min_length=1, description="One statement that gives rows.")
    table: str | None = Field(default=None, min_length=1, description="A table or view to read, instead of a query.")
    schema_: str | None = Field(
        default=None,
        alias="schema",
        min_length=1,
        description="Where the table is, when that is not the connection's default.",
    )
    columns: list[str] | None = Field(
        default=None, min_length=1, description="Only these columns of the table, in this order."
    )
    order_by: list[str] | None = Field(
        default=None, min_length=1, description="Columns of the table that order its rows; without, any order."
    )
    limit: int | None = Field(default=None, ge=0, description="The greatest number of rows of the table to read.")
    offset: int = Field(default=0, ge=0, description="Rows of the table to leave out before; wants order_by.")
    batch_size: int | None = Field(
        default=None, ge=1, description="The greatest number of rows in a batch; by default as many as fit 4 MB."
    )
    wide_decimals: str = Field(
        default="text",
        description="What becomes of a column of exact numbers without limits, or with more than 38 digits: text "
        "(exact), float (rounded), or decimal(p,s), where a number that does not fit is an error.",
    )

    @field_validator("wide_decimals", mode="after")
    @classmethod
    def _is_known(cls, value: str) -> str:
        if value in ("text", "float"):
            return value
        match = _DECIMAL.fullmatch(value)
        if match is None or not 1 <= int(match[1]) <= MAX_DIGITS or int(match[2]) > int(match[1]):
            raise ValueError("write text, float, or decimal(p,s) with p of at most 38 and s of at most p")
        return value

    @model_validator(mode="after")
    def _one_source(self) -> SqlExtractorConfig:
        if (self.query is None) == (self.table is None):
            raise ValueError("give either a query or a table")
        if self.query is not None:
            given = [name for name in ("columns", "order_by", "limit") if getattr(self, name) is not None]
            given += ["offset"] if self.offset else []
            given += ["schema"] if self.schema_ is not None else []
            if given:
                raise ValueError(f"{', '.join(given)}: for a table; say it in the query")
        if self.offset and not self.order_by:
            raise ValueError("offset without order_by leaves out any rows: name the columns that order them")
        return self

    @property
    def wide_decimal_digits(self) -> tuple[int, int] | None:
        """Precision and scale that `wide_decimals` names, when it does."""
        match = _DECIMAL.fullmatch(self.wide_decimals)
        return (int(match[1]), int(match[2])) if match else None
