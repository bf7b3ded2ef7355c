"""The driver `supabase.writer`: one table's rows, to the Postgres server or over the REST interface."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from osiris_core.drivers.http_client import HttpLimits
from osiris_core.drivers.http_reading import http_client
from osiris_core.drivers.http_retry import Again
from osiris_core.drivers.postgres_writer import PostgresWriterConfig, write_postgres
from osiris_core.drivers.supabase_check import PACKAGES, check_supabase
from osiris_core.drivers.supabase_config import SupabaseWriterConfig, uses_postgres
from osiris_core.drivers.supabase_connection import SupabaseConnection
from osiris_core.drivers.supabase_rest_writing import RestWriting
from osiris_core.drivers.writing import only_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from osiris_core.step_context import StepContext


class SupabaseWriter:
    """
    Writes its one input table into a table of a Supabase project.

    Where the connection names the Postgres server, it is `postgres.writer` that writes: one transaction, any size, and
    a table can be made. Over REST one request is one transaction: all rows go in one, or none; `partial_ok` allows
    several. A repeated try is safe by the rows' primary_key; without one, append is not tried again.
    """

    Config: ClassVar[type[SupabaseWriterConfig]] = SupabaseWriterConfig
    version: ClassVar[str] = "1"
    deterministic: ClassVar[bool] = False
    needs_network: ClassVar[bool] = True
    takes_inputs: ClassVar[str] = "one"
    packages: ClassVar[tuple[str, ...]] = PACKAGES
    connection_family: ClassVar[str] = "supabase"
    example: ClassVar[str] = """\
- id: write-stats
  driver: supabase.writer
  inputs: {df: stats}
  config:
    connection: "@supabase.shop"
    table: daily_stats
    write_mode: upsert
    primary_key: [day, country]
"""

    @classmethod
    def output_names(cls, config: Any) -> frozenset[str]:  # noqa: ARG003 - the contract's
        return frozenset()

    @classmethod
    def check_connection(cls, connection: Mapping[str, Any], timeout_s: float) -> str:
        return check_supabase(SupabaseConnection.model_validate(connection), timeout_s)

    def run(
        self, step_id: str, config: SupabaseWriterConfig, inputs: Mapping[str, Any], ctx: StepContext
    ) -> dict[str, Any] | None:
        table = only_table(inputs, step_id)
        if uses_postgres(config.via, config.connection):
            write_postgres(step_id, _for_server(config), table, ctx)
            return None
        connection = config.connection.rest()
        limits = HttpLimits(
            connect_timeout_s=min(10.0, config.timeout),
            read_timeout_s=config.timeout,
            request_timeout_s=config.timeout,
            again=Again(config.retries),
        )
        with http_client(connection, limits, ctx, step_id) as client:
            rows = RestWriting(client, connection.address, config, table, ctx).run()
        ctx.metric("rows_read", table.num_rows)
        ctx.metric("rows_written", rows)
        return None


def _for_server(config: SupabaseWriterConfig) -> PostgresWriterConfig:
    return PostgresWriterConfig(
        connection=config.connection.postgres(),
        table=config.table,
        schema=config.schema_,
        write_mode=config.write_mode,
        primary_key=config.primary_key,
        create_if_missing=config.create_if_missing,
        exactly_once=config.exactly_once,
    )
