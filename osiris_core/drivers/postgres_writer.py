"""The driver `postgres.writer`: one table's rows into a table of PostgreSQL, all of them or none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from osiris_core.drivers.postgres_client import PACKAGES, PostgresSession
from osiris_core.drivers.postgres_loading import PostgresLoad
from osiris_core.drivers.postgres_server import check_postgres
from osiris_core.drivers.sql_connection import PostgresConnection
from osiris_core.drivers.sql_errors import failures_of_step
from osiris_core.drivers.sql_writer_config import SqlWriterConfig
from osiris_core.drivers.writing import only_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from osiris_core.step_context import StepContext
    from osiris_core.tables import Table


class PostgresWriterConfig(SqlWriterConfig):
    """Settings of `postgres.writer`."""

    connection: PostgresConnection = Field(description="A connection of family postgres.")


class PostgresWriter:
    """
    Writes its one input table into a table of PostgreSQL, column by name, in one transaction: all rows or none.

    Rows go by COPY in the wire's own types; a column of another type (jsonb, uuid, an enum) is read by the server from
    text. A value that does not fit is an error: nothing is cut off or left out, and nothing but a floating-point number
    is rounded, to its column's places. The table is never altered, and made only with create_if_missing. Columns that
    the input lacks get their defaults. `rows_written` is what the server counted. A try
    after a lost answer does not write again.
    """

    Config: ClassVar[type[PostgresWriterConfig]] = PostgresWriterConfig
    version: ClassVar[str] = "1"
    deterministic: ClassVar[bool] = False
    needs_network: ClassVar[bool] = True
    takes_inputs: ClassVar[str] = "one"
    packages: ClassVar[tuple[str, ...]] = PACKAGES
    connection_family: ClassVar[str] = "postgres"
    example: ClassVar[str] = """\
- id: write-totals
  driver: postgres.writer
  inputs: {df: totals}
  config:
    connection: "@postgres.shop"
    table: totals
    write_mode: upsert
    primary_key: [country]
    create_if_missing: true
"""

    @classmethod
    def output_names(cls, config: Any) -> frozenset[str]:  # noqa: ARG003 - the contract's
        return frozenset()

    @classmethod
    def check_connection(cls, connection: Mapping[str, Any], timeout_s: float) -> str:
        return check_postgres(PostgresConnection.model_validate(connection), timeout_s)

    def run(
        self, step_id: str, config: PostgresWriterConfig, inputs: Mapping[str, Any], ctx: StepContext
    ) -> dict[str, Any] | None:
        """Write and commit. Nothing of it is in the table when this raises, but for an answer lost on the way."""
        write_postgres(step_id, config, only_table(inputs, step_id), ctx)
        return None


def write_postgres(step_id: str, config: PostgresWriterConfig, table: Table, ctx: StepContext) -> None:
    """
    Write a table and commit, for every driver that writes to a PostgreSQL server.

    Raises:
        StepError: Nothing of it is in the table then, but for an answer lost on the way.
    """
    with (
        failures_of_step(step_id, ctx),
        PostgresSession.open(config.connection, ctx=ctx) as session,
    ):
        rows = PostgresLoad(session, config, table, ctx).run()
        session.hand_on(ctx.pool)
    ctx.metric("rows_read", table.num_rows)
    ctx.metric("rows_written", rows)
