"""The settings of `http.extractor`, and those that every driver reading over HTTP has."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from osiris_core.drivers.csv_types import named_type
from osiris_core.drivers.http_address import check_address, is_whole
from osiris_core.drivers.http_connection import HttpConnection, check_headers
from osiris_core.drivers.http_paging import Pagination  # noqa: TC001 - pydantic needs it at run time
from osiris_core.drivers.json_path import parse_path
from osiris_core.paths import InputPath  # noqa: TC001 - pydantic needs it at run time


class RecordSettings(BaseModel):
    """How the records of an answer become a table."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    flatten_result: bool = Field(
        default=True, description="true: a nested object is a column for each of its values; false: JSON in a text."
    )
    separator: str = Field(
        default=".", min_length=1, description="Between the names of nested objects in a column's name."
    )
    columns: list[str] | None = Field(
        default=None, min_length=1, description="Only these columns, in this order; also those of an empty result."
    )
    dtype: dict[str, str] | None = Field(
        default=None, description="Types of columns (int64, float64, str, date, timestamptz, decimal(12,2), …)."
    )
    decimals: bool = Field(
        default=False, description="true: numbers with a fraction become decimals with all their digits."
    )
    raw_column: str | None = Field(
        default=None,
        min_length=1,
        description="A further column with each record as JSON: null and missing differ there.",
    )
    max_response_bytes: int = Field(
        default=64 << 20, ge=1024, description="The largest answer, unpacked. It is read as a whole."
    )
    ca_file: InputPath | None = Field(
        default=None, description="Certificates (PEM) of an authority to trust besides the usual ones."
    )

    @field_validator("dtype", mode="after")
    @classmethod
    def _known_types(cls, value: dict[str, str] | None) -> dict[str, str] | None:
        for name in (value or {}).values():
            named_type(name)
        return value


class HttpExtractorConfig(RecordSettings):
    """Settings of `http.extractor`."""

    connection: HttpConnection | None = Field(
        default=None, description="A connection of family `http`. Without one `url` is a whole address."
    )
    url: str = Field(
        default="", description="A path below the connection's base_url, or a whole address of the same server."
    )
    method: Literal["GET", "POST"] = Field(default="GET", description="POST for interfaces that search that way.")
    params: dict[str, str | int | float | bool | list[str | int | float | bool] | None] = Field(
        default_factory=dict, description="The query; a list is repeated, null is left out."
    )
    headers: dict[str, str] = Field(default_factory=dict, description="Headers of this step's requests.")
    body: dict[str, Any] | list[Any] | None = Field(default=None, description="What POST sends, as JSON.")
    idempotent: bool | None = Field(
        default=None,
        description="Whether a request may be sent again when its answer was lost. GET: true, POST: false.",
    )
    data_path: str = Field(
        default="", description="Where the records are: data.items, edges[*].node. By default the answer itself."
    )
    pagination: Pagination | None = Field(default=None, description="How pages are turned; without it there is one.")
    max_pages: int = Field(default=10_000, ge=1, description="The most pages to read.")
    on_max_pages: Literal["error", "stop"] = Field(default="error", description="What to do when there are more.")
    connect_timeout_s: float = Field(default=10, gt=0, description="How long a connection may take.")
    read_timeout_s: float = Field(default=30, gt=0, description="How long the server may be silent.")
    request_timeout_s: float = Field(default=300, gt=0, description="How long one whole answer may take.")
    max_retries: int = Field(
        default=3, ge=0, le=20, description="How often a request is asked again after 429, 5xx or a broken connection."
    )
    retry_delay_s: float = Field(default=1, ge=0, le=60, description="The first pause; it doubles.")
    max_retry_delay_s: float = Field(
        default=300, ge=0, description="The longest pause that a server's Retry-After is granted."
    )

    @field_validator("data_path", mode="after")
    @classmethod
    def _is_path(cls, value: str) -> str:
        parse_path(value)
        return value

    @field_validator("headers", mode="after")
    @classmethod
    def _headers_fit(cls, value: dict[str, str]) -> dict[str, str]:
        return check_headers(value)

    @model_validator(mode="after")
    def _fits_together(self) -> HttpExtractorConfig:
        if self.connection is None and not is_whole(self.url):
            raise ValueError("without a connection, url must be a whole address (https://…)")
        if is_whole(self.url):
            try:
                check_address(self.url)
            except ValueError as exc:
                raise ValueError(f"url {exc}") from None
        if self.method == "GET" and self.body is not None:
            raise ValueError("a body is for method POST")
        if getattr(self.pagination, "into", "query") == "body" and not isinstance(self.body, dict):
            raise ValueError("pagination into: body needs method POST and a body that is a mapping")
        return self
