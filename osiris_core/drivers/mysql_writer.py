"""The driver `mysql.writer`: one table's rows into a table of MariaDB or MySQL, all of them or none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from osiris_core.drivers.mysql_client import MysqlSession
from osiris_core.drivers.mysql_loading import MysqlLoad
from osiris_core.drivers.mysql_login import PACKAGES
from osiris_core.drivers.mysql_server import check_mysql
from osiris_core.drivers.sql_connection import MysqlConnection
from osiris_core.drivers.sql_errors import failures_of_step
from osiris_core.drivers.sql_writer_config import SqlWriterConfig
from osiris_core.drivers.writing import only_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from osiris_core.step_context import StepContext


class MysqlWriterConfig(SqlWriterConfig):
    """Settings of `mysql.writer`."""

    connection: MysqlConnection = Field(description="A connection of family mysql.")


class MysqlWriter:
    """
    Writes its one input table into a table of MariaDB or MySQL, column by name, in one transaction: all rows or none.

    Rows stream by LOAD DATA, or by INSERT where the server does not take that. What the server only warns of (a value
    that it would round, cut off or leave out) is an error. The table is never altered, and made only with
    create_if_missing; engines without transactions are refused. Columns that the input lacks get their defaults.
    `rows_written` is what the server counted. A try after a lost answer does not write again.
    """

    Config: ClassVar[type[MysqlWriterConfig]] = MysqlWriterConfig
    version: ClassVar[str] = "1"
    deterministic: ClassVar[bool] = False
    needs_network: ClassVar[bool] = True
    takes_inputs: ClassVar[str] = "one"
    packages: ClassVar[tuple[str, ...]] = PACKAGES
    connection_family: ClassVar[str] = "mysql"
    example: ClassVar[str] = """\
- id: write-totals
  driver: mysql.writer
  inputs: {df: totals}
  config:
    connection: "@mysql.billing"
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
        return check_mysql(MysqlConnection.model_validate(connection), timeout_s)

    def run(
        self, step_id: str, config: MysqlWriterConfig, inputs: Mapping[str, Any], ctx: StepContext
    ) -> dict[str, Any] | None:
        """Write and commit. Nothing of it is in the table when this raises, but for an answer lost on the way."""
        table = only_table(inputs, step_id)
        with (
            failures_of_step(step_id, ctx),
            MysqlSession.open(config.connection, loads=True, ctx=ctx) as session,
        ):
            rows = MysqlLoad(session, config, table, ctx).run()
            session.hand_on(ctx.pool)
        ctx.metric("rows_read", table.num_rows)
        ctx.metric("rows_written", rows)
        return None
