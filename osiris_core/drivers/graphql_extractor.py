"""The driver `graphql.extractor`: the records that a GraphQL query gives."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar

from osiris_core.drivers.graphql_errors import check_errors
from osiris_core.drivers.graphql_extractor_config import GraphQLConnection, GraphQLExtractorConfig
from osiris_core.drivers.http_check import check_api
from osiris_core.drivers.http_client import HttpLimits, Request
from osiris_core.drivers.http_extractor import read_table
from osiris_core.drivers.http_paging import CursorPager, OnePage, Pager, Turn
from osiris_core.drivers.http_reading import Reading, http_client
from osiris_core.drivers.http_retry import Again
from osiris_core.drivers.http_transport import PACKAGES
from osiris_core.drivers.json_path import parse_path

if TYPE_CHECKING:
    from collections.abc import Mapping

    from osiris_core.redaction import Redactor
    from osiris_core.step_context import StepContext


class GraphQLExtractor:
    """
    Reads what a GraphQL query gives, page by page, into the table `df`.

    An answer with `errors` is an error, also beside data: half a result is none. Types, nested objects and failures are
    those of `http.extractor`. A query may be asked again; one that changes something is refused.
    """

    Config: ClassVar[type[GraphQLExtractorConfig]] = GraphQLExtractorConfig
    version: ClassVar[str] = "1"
    deterministic: ClassVar[bool] = False
    needs_network: ClassVar[bool] = True
    takes_inputs: ClassVar[str] = "none"
    packages: ClassVar[tuple[str, ...]] = PACKAGES
    connection_family: ClassVar[str] = "graphql"
    connection_optional: ClassVar[bool] = True
    example: ClassVar[str] = """\
- id: extract-products
  driver: graphql.extractor
  config:
    connection: "@graphql.shop"
    query: |
      query ($after: String) {
        products(first: 50, after: $after) { nodes { id title } pageInfo { hasNextPage endCursor } }
      }
    data_path: data.products.nodes
    pagination_enabled: true
    pagination_path: data.products.pageInfo
"""

    @classmethod
    def output_names(cls, config: Any) -> frozenset[str]:  # noqa: ARG003 - the contract's
        return frozenset({"df"})

    @classmethod
    def check_connection(cls, connection: Mapping[str, Any], timeout_s: float) -> str:
        found = GraphQLConnection.model_validate(connection)
        return check_api(found, timeout_s, _request(found.endpoint, "{ __typename }", {}, {}), _check_answer)

    def run(
        self,
        step_id: str,
        config: GraphQLExtractorConfig,
        inputs: Mapping[str, Any],  # noqa: ARG002 - the contract's
        ctx: StepContext,
    ) -> dict[str, Any]:
        """Read every page; types are known, and rows given, when the last one is in."""
        connection = config.used_connection()
        endpoint = config.endpoint or connection.endpoint

        def request(turn: Turn) -> Request:
            return _request(endpoint, config.query, {**config.variables, **turn.parameters}, config.headers)

        reading = Reading(
            request=request,
            pager=_pager(config),
            data_path=parse_path(config.data_path),
            decimals=config.decimals,
            max_pages=config.max_pages or None,
            stop_at_max=True,
            check=lambda value, where: check_errors(value, where, ctx.redactor),
        )
        limits = HttpLimits(
            connect_timeout_s=min(10.0, config.timeout),
            read_timeout_s=config.timeout,
            request_timeout_s=config.timeout,
            max_response_bytes=config.max_response_bytes,
            again=Again(config.max_retries, config.retry_delay),
        )
        with http_client(connection, limits, ctx, step_id, config.ca_file) as client:
            return {"df": read_table(client, reading, config, ctx, step_id)}


def _check_answer(body: bytes, where: str, redactor: Redactor) -> None:
    try:
        value = json.loads(body)
    except ValueError:
        value = None
    check_errors(value, where, redactor)


def _pager(config: GraphQLExtractorConfig) -> Pager:
    if not config.pagination_enabled:
        return OnePage()
    where = config.pagination_path
    return CursorPager(
        f"{where}.{config.pagination_cursor_field}",
        config.pagination_variable_name,
        f"{where}.{config.pagination_has_next_field}",
        strict=True,
    )


def _request(endpoint: str, query: str, variables: Mapping[str, Any], headers: Mapping[str, str]) -> Request:
    body = json.dumps({"query": query, "variables": dict(variables)}, ensure_ascii=False, allow_nan=False)
    return Request(endpoint, "POST", {"Content-Type": "application/json", **headers}, body.encode(), idempotent=True)
