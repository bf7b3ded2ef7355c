"""The settings that every writer to a database has."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

WriteMode = Literal["append", "replace", "upsert"]


class SqlWriterConfig(BaseModel):
    """A table, and what becomes of the rows that are in it."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    mode: Literal["write"] = Field(default="write", description="Accepted because compiled manifests carry it.")
    table: str = Field(min_length=1, description="The table to write to.")
    schema_: str | None = Field(
        default=None,
        alias="schema",
        min_length=1,
        description="Where the table is, when that is not the connection's default.",
    )
    write_mode: WriteMode = Field(
        default="append",
        description="append: add rows; replace: the rows are all that is in the table afterwards, its definition "
        "stays; upsert: rows whose primary_key is there are changed, others added.",
    )
    primary_key: list[str] | None = Field(
        default=None,
        min_length=1,
        description="The columns that tell rows apart: for upsert, and of a table that create_if_missing makes.",
    )
    create_if_missing: bool = Field(
        default=False, description="Make the table, of the input's columns, when there is none. It is never altered."
    )
    exactly_once: bool = Field(
        default=True,
        description="append: leave a row in the table osiris_writes beside it, in the same transaction, so that a try "
        "after a lost answer or a killed process does not write again. false: such a try is not made.",
    )
    batch_size: int = Field(default=32_768, ge=1, le=1_000_000, description="Rows that are sent at a time.")

    @field_validator("primary_key", mode="before")
    @classmethod
    def _one_column(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _upsert_has_a_key(self) -> SqlWriterConfig:
        if self.write_mode == "upsert" and not self.primary_key:
            raise ValueError("write_mode upsert needs primary_key")
        if self.primary_key and len(set(self.primary_key)) != len(self.primary_key):
            raise ValueError("primary_key names a column twice")
        return self
