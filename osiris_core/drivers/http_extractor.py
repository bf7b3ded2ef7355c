"""The driver `http.extractor`: the records of an HTTP interface that answers in JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar

from osiris_core.drivers.csv_types import named_type
from osiris_core.drivers.http_address import against, below, is_whole, parameter_pairs, with_parameters
from osiris_core.drivers.http_check import check_api
from osiris_core.drivers.http_client import HttpLimits, Request
from osiris_core.drivers.http_connection import HttpConnection
from osiris_core.drivers.http_extractor_config import HttpExtractorConfig, RecordSettings
from osiris_core.drivers.http_paging import Turn, pager_of
from osiris_core.drivers.http_reading import Reading, http_client, read_pages
from osiris_core.drivers.http_retry import Again
from osiris_core.drivers.http_transport import PACKAGES
from osiris_core.drivers.json_path import parse_path
from osiris_core.drivers.json_table import BadRecord, RecordTable
from osiris_core.errors import StepError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pyarrow as pa

    from osiris_core.drivers.http_client import HttpClient
    from osiris_core.drivers.http_connection import ApiConnection
    from osiris_core.step_context import StepContext


class HttpExtractor:
    """
    Reads the records of an HTTP interface, page by page, into the table `df`.

    Types are int64, float64, bool, else text; with `decimals` also decimals. They hold for all pages: a column whose
    last record does not fit becomes wider, no digit of an integer is lost. Nested objects become columns
    (`customer.name`), lists stay as JSON in a text; a key that a record lacks is null. Memory holds one page.

    Failures that may be gone (429, 5xx, a broken connection) are asked again, after the pause that the server names.
    Credentials are sent to the connection's server only, whatever redirects and links say.
    """

    Config: ClassVar[type[HttpExtractorConfig]] = HttpExtractorConfig
    version: ClassVar[str] = "1"
    deterministic: ClassVar[bool] = False
    needs_network: ClassVar[bool] = True
    takes_inputs: ClassVar[str] = "none"
    packages: ClassVar[tuple[str, ...]] = PACKAGES
    connection_family: ClassVar[str] = "http"
    connection_optional: ClassVar[bool] = True
    example: ClassVar[str] = """\
- id: extract-orders
  driver: http.extractor
  config:
    connection: "@http.shop"
    url: orders
    params: {status: paid}
    data_path: data.items
    pagination: {type: cursor, cursor_path: data.next, parameter: after}
"""

    @classmethod
    def output_names(cls, config: Any) -> frozenset[str]:  # noqa: ARG003 - the contract's
        return frozenset({"df"})

    @classmethod
    def check_connection(cls, connection: Mapping[str, Any], timeout_s: float) -> str:
        return check_api(HttpConnection.model_validate(connection), timeout_s)

    def run(
        self,
        step_id: str,
        config: HttpExtractorConfig,
        inputs: Mapping[str, Any],  # noqa: ARG002 - the contract's
        ctx: StepContext,
    ) -> dict[str, Any]:
        """Read every page; types are known, and rows given, when the last one is in."""
        connection = config.connection or HttpConnection(base_url=config.url)
        reading = Reading(
            request=lambda turn: _request(config, connection, turn),
            pager=pager_of(config.pagination),
            data_path=parse_path(config.data_path),
            decimals=config.decimals,
            max_pages=config.max_pages,
            stop_at_max=config.on_max_pages == "stop",
        )
        limits = HttpLimits(
            connect_timeout_s=config.connect_timeout_s,
            read_timeout_s=config.read_timeout_s,
            request_timeout_s=config.request_timeout_s,
            max_response_bytes=config.max_response_bytes,
            again=Again(config.max_retries, config.retry_delay_s, config.max_retry_delay_s),
        )
        with http_client(connection, limits, ctx, step_id, config.ca_file) as client:
            return {"df": read_table(client, reading, config, ctx, step_id)}


def _request(config: HttpExtractorConfig, connection: ApiConnection, turn: Turn) -> Request:
    base = config.url if is_whole(config.url) else below(connection.address, config.url)
    url = with_parameters(base, parameter_pairs(config.params))
    body = config.body
    if turn.url is not None:
        url = against(url, turn.url)
    elif getattr(config.pagination, "into", "query") == "body" and isinstance(body, dict):
        body = {**body, **turn.parameters}
    else:
        url = with_parameters(url, parameter_pairs(turn.parameters))
    headers = dict(config.headers)
    data = None
    if body is not None:
        data = json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
        headers.setdefault("Content-Type", "application/json")
    idempotent = config.idempotent if config.idempotent is not None else config.method == "GET"
    return Request(url, config.method, headers, data, idempotent)


def read_table(
    client: HttpClient, reading: Reading, settings: RecordSettings, ctx: StepContext, step_id: str
) -> pa.RecordBatchReader:
    """Every record of a reading as one stream; `rows_read` and `http_pages` are told."""
    import pyarrow as pa

    table = RecordTable(
        lambda: ctx.work_dir,
        separator=settings.separator if settings.flatten_result else None,
        columns=settings.columns,
        types={column: named_type(name) for column, name in (settings.dtype or {}).items()},
        raw_column=settings.raw_column,
    )
    pages = read_pages(client, reading, table, ctx)
    try:
        schema = table.schema()
    except BadRecord as exc:
        raise StepError(str(exc), step_id=step_id) from exc
    ctx.metric("http_pages", pages)
    ctx.metric("rows_read", table.num_rows)
    if not schema.names:
        ctx.log("there is no record, and so no column; `columns` names those to expect", level="warning")
    return pa.RecordBatchReader.from_batches(schema, _told(table.batches(schema), step_id))


def _told(batches: Iterator[pa.RecordBatch], step_id: str) -> Iterator[pa.RecordBatch]:
    try:
        yield from batches
    except BadRecord as exc:
        raise StepError(str(exc), step_id=step_id) from exc
