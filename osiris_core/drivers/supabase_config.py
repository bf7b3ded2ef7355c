"""The settings of `supabase.extractor` and `supabase.writer`: the keys of Osiris, and a few of ours."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from osiris_core.drivers.http_extractor_config import RecordSettings
from osiris_core.drivers.postgres_client import quoted
from osiris_core.drivers.supabase_connection import SupabaseConnection  # noqa: TC001 - pydantic needs it at run time
from osiris_core.drivers.supabase_query import OnlyRest, check_filter, clauses, selected_columns

Via = Literal["auto", "postgres", "rest"]


class SupabaseExtractorConfig(RecordSettings):
    """Settings of `supabase.extractor`."""

    connection: SupabaseConnection = Field(description="A connection of family `supabase`.")
    mode: Literal["extract", "read"] = Field(
        default="extract", description="Accepted because compiled manifests carry it; both words mean the same."
    )
    via: Via = Field(
        default="auto", description="Which way to go; auto: the Postgres server where the connection names it."
    )
    table: str = Field(min_length=1, description="The table or view to read.")
    schema_: str = Field(default="public", alias="schema", min_length=1, description="Where the table is.")
    select: str = Field(
        default="*", min_length=1, description="Columns, separated by commas; over REST also what PostgREST embeds."
    )
    filter: dict[str, Any] = Field(
        default_factory=dict, description="Conditions by column, as in {status: eq.paid}; a list: all of them."
    )
    order: str | None = Field(default=None, min_length=1, description="As in created_at.desc,id.asc.")
    limit: int | None = Field(default=None, ge=1, description="The greatest number of rows; all without it.")
    offset: int = Field(default=0, ge=0, description="Rows to leave out before.")
    timeout: float = Field(default=30, gt=0, description="REST: how long one request may take, in seconds.")
    retries: int = Field(default=3, ge=0, le=20, description="REST: how often a request is asked again.")
    page_size: int = Field(default=1000, ge=1, description="REST: how many rows to ask for at a time.")

    @field_validator("filter", mode="after")
    @classmethod
    def _has_operators(cls, value: dict[str, Any]) -> dict[str, Any]:
        return check_filter(value)

    @model_validator(mode="after")
    def _can_go(self) -> SupabaseExtractorConfig:
        check_way(self.via, self.connection)
        if uses_postgres(self.via, self.connection):
            try:
                self.columns_and_clauses()
            except OnlyRest as exc:
                raise ValueError(f"{exc}; set via: rest") from None
            given = [name for name in ("dtype", "columns", "raw_column") if getattr(self, name) is not None]
            if given:
                raise ValueError(f"{', '.join(given)}: over REST only; the server names its types, select its columns")
        return self

    def columns_and_clauses(self) -> tuple[list[str] | None, str]:
        """The columns to read, None for all, and what follows the table in the SELECT. Raises OnlyRest."""
        place = quoted(self.schema_, self.table)
        asked = clauses(place, filters=self.filter, order=self.order, limit=self.limit, offset=self.offset)
        return selected_columns(self.select), asked


class SupabaseWriterConfig(BaseModel):
    """Settings of `supabase.writer`."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    connection: SupabaseConnection = Field(description="A connection of family `supabase`.")
    mode: Literal["write"] = Field(default="write", description="Accepted because compiled manifests carry it.")
    via: Via = Field(
        default="auto", description="Which way to go; auto: the Postgres server where the connection names it."
    )
    table: str = Field(min_length=1, description="The table to write to.")
    schema_: str = Field(default="public", alias="schema", min_length=1, description="Where the table is.")
    write_mode: Literal["append", "replace", "upsert"] = Field(
        default="append",
        description="append: add rows; replace: the rows are all that is in the table afterwards; upsert: rows whose "
        "primary_key is there are changed, others added.",
    )
    primary_key: list[str] | None = Field(
        default=None, min_length=1, description="The columns that tell rows apart: for upsert, and of a table to make."
    )
    create_if_missing: bool = Field(
        default=False, description="Make the table when there is none. By the Postgres server only."
    )
    ddl_channel: Literal["auto", "http_sql", "psycopg2"] = Field(
        default="auto", description="Accepted because compiled manifests carry it: the Postgres server makes tables."
    )
    exactly_once: bool = Field(default=True, description="By the server, append: as `postgres.writer` has it.")
    partial_ok: bool = Field(
        default=False,
        description="REST: write in several requests of batch_size rows, of which a failure leaves the earlier ones; "
        "replace empties the table before. Without it everything goes in one request, or nothing does.",
    )
    batch_size: int = Field(default=100, ge=1, le=100_000, description="REST: rows of a request, with partial_ok.")
    max_request_bytes: int = Field(
        default=32 << 20, ge=1024, description="REST: the largest request; one that would be larger is not sent."
    )
    timeout: float = Field(default=30, gt=0, description="REST: how long one request may take, in seconds.")
    retries: int = Field(default=3, ge=0, le=20, description="REST: how often a request is sent again.")
    prefer: Literal[
        "return=minimal", "return=representation", "resolution=merge-duplicates", "resolution=ignore-duplicates"
    ] = Field(
        default="return=minimal",
        description="REST, upsert: resolution=ignore-duplicates leaves rows that are there as they are. What a server "
        "returns is not looked at.",
    )
    returning: str = Field(default="minimal", description="Accepted only: a writer gives no table.")

    @field_validator("primary_key", mode="before")
    @classmethod
    def _one_column(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _can_go(self) -> SupabaseWriterConfig:
        check_way(self.via, self.connection)
        if self.write_mode == "upsert" and not self.primary_key:
            raise ValueError("write_mode upsert needs primary_key")
        if uses_postgres(self.via, self.connection):
            if self.prefer == "resolution=ignore-duplicates":
                raise ValueError("prefer: resolution=ignore-duplicates is for the REST interface; set via: rest")
            return self
        if self.create_if_missing:
            raise ValueError("create_if_missing: the REST interface makes no tables; give the connection pg_dsn")
        if self.write_mode == "replace" and not self.partial_ok:
            raise ValueError(
                "write_mode replace over REST empties the table in one transaction and fills it in another; give the "
                "connection pg_dsn, or say partial_ok: true"
            )
        return self


def uses_postgres(via: Via, connection: SupabaseConnection) -> bool:
    """Whether a step goes to the Postgres server, and not to the REST interface."""
    return via == "postgres" or (via == "auto" and connection.has_postgres)


def check_way(via: Via, connection: SupabaseConnection) -> None:
    """
    Raises:
        ValueError: The connection does not lead the way that is asked for.
    """
    if via == "postgres" and not connection.has_postgres:
        raise ValueError("via postgres needs pg_dsn or password in the connection")
    if via == "rest" and not connection.has_rest:
        raise ValueError("via rest needs key in the connection")
