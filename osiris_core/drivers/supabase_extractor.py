"""The driver `supabase.extractor`: rows of a table, from the Postgres server or over the REST interface."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from osiris_core.drivers.http_address import below, with_parameters
from osiris_core.drivers.http_client import HttpLimits, Request
from osiris_core.drivers.http_extractor import read_table
from osiris_core.drivers.http_paging import BadPaging, Page, Turn
from osiris_core.drivers.http_reading import Reading, http_client
from osiris_core.drivers.http_retry import Again
from osiris_core.drivers.postgres_extractor import read_postgres
from osiris_core.drivers.postgres_extractor_config import PostgresExtractorConfig
from osiris_core.drivers.supabase_check import PACKAGES, check_supabase
from osiris_core.drivers.supabase_config import SupabaseExtractorConfig, uses_postgres
from osiris_core.drivers.supabase_connection import SupabaseConnection
from osiris_core.drivers.supabase_query import filter_pairs
from osiris_core.errors import FailureClass

if TYPE_CHECKING:
    from collections.abc import Mapping

    from osiris_core.step_context import StepContext


class SupabaseExtractor:
    """
    Reads a table of a Supabase project into the table `df`.

    Where the connection names the Postgres server, it is `postgres.extractor` that reads: exact types, any size, one
    transaction. Over REST types are those of JSON (see `http.extractor`), and rows come page by page, for which they
    must be ordered.
    """

    Config: ClassVar[type[SupabaseExtractorConfig]] = SupabaseExtractorConfig
    version: ClassVar[str] = "1"
    deterministic: ClassVar[bool] = False
    needs_network: ClassVar[bool] = True
    takes_inputs: ClassVar[str] = "none"
    packages: ClassVar[tuple[str, ...]] = PACKAGES
    connection_family: ClassVar[str] = "supabase"
    example: ClassVar[str] = """\
- id: extract-paid
  driver: supabase.extractor
  config:
    connection: "@supabase.shop"
    table: orders
    select: id,amount,created_at
    filter: {status: eq.paid}
    order: id.asc
"""

    @classmethod
    def output_names(cls, config: Any) -> frozenset[str]:  # noqa: ARG003 - the contract's
        return frozenset({"df"})

    @classmethod
    def check_connection(cls, connection: Mapping[str, Any], timeout_s: float) -> str:
        return check_supabase(SupabaseConnection.model_validate(connection), timeout_s)

    def run(
        self,
        step_id: str,
        config: SupabaseExtractorConfig,
        inputs: Mapping[str, Any],  # noqa: ARG002 - the contract's
        ctx: StepContext,
    ) -> dict[str, Any]:
        if uses_postgres(config.via, config.connection):
            columns, asked = config.columns_and_clauses()
            server = PostgresExtractorConfig(
                connection=config.connection.postgres(), table=config.table, schema=config.schema_, columns=columns
            )
            return {"df": read_postgres(step_id, server, ctx, asked)}
        connection = config.connection.rest()
        url = _address(config, connection.address)
        headers = {"Accept-Profile": config.schema_}

        def request(turn: Turn) -> Request:
            pairs = [(name, str(value)) for name, value in turn.parameters.items()]
            return Request(with_parameters(url, pairs), headers=headers)

        reading = Reading(request=request, pager=_Rows(config), data_path=[], decimals=config.decimals)
        limits = HttpLimits(
            connect_timeout_s=min(10.0, config.timeout),
            read_timeout_s=config.timeout,
            request_timeout_s=config.timeout,
            max_response_bytes=config.max_response_bytes,
            again=Again(config.retries),
        )
        with http_client(connection, limits, ctx, step_id, config.ca_file) as client:
            return {"df": read_table(client, reading, config, ctx, step_id)}


def _address(config: SupabaseExtractorConfig, base: str) -> str:
    pairs = [("select", config.select), *filter_pairs(config.filter)]
    if config.order:
        pairs.append(("order", config.order))
    return with_parameters(below(base, config.table), pairs)


class _Rows:
    """Turns pages by counting the rows that came, up to the limit."""

    def __init__(self, config: SupabaseExtractorConfig) -> None:
        self._config = config
        self._done = 0

    def first(self) -> Turn:
        config = self._config
        left = config.page_size if config.limit is None else min(config.page_size, config.limit - self._done)
        return Turn({"limit": left, "offset": config.offset + self._done})

    def after(self, page: Page) -> Turn | None:
        if self._done and page.records and self._config.order is None:
            raise BadPaging(
                "there are more rows than the server gives at once, and without an order the next ones may be any: "
                "set order to columns that are unique together",
                FailureClass.USER_ERROR,
            )
        self._done += len(page.records)
        if not page.records or self._done == self._config.limit:
            return None
        return self.first()
