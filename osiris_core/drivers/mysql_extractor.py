"""The driver `mysql.extractor`: the rows of a query or table of MariaDB or MySQL, as they stream in."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa

from osiris_core.drivers.mysql_client import MysqlSession, quoted
from osiris_core.drivers.mysql_extractor_config import MysqlExtractorConfig
from osiris_core.drivers.mysql_login import PACKAGES
from osiris_core.drivers.mysql_reading import as_float, read_column
from osiris_core.drivers.mysql_server import check_mysql
from osiris_core.drivers.mysql_tables import find_table
from osiris_core.drivers.sql_connection import MysqlConnection
from osiris_core.drivers.sql_errors import DatabaseFailed, failures_of_step, no_such_column

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from osiris_core.drivers.mysql_reading import Column
    from osiris_core.step_context import StepContext

_ALL_ROWS = 2**64 - 1


class MysqlExtractor:
    """
    Reads a query, or columns and rows of a table, into the table `df`, in the types that the server names.

    In a transaction that only reads, so a query changes nothing. Rows stream: memory holds some megabytes, whatever
    their number. DECIMAL is decimal, TIMESTAMP is UTC, tinyint(1) is bool, BIT is an unsigned number, JSON, ENUM and
    SET are text. A cancel or timeout ends the query at the server.
    """

    Config: ClassVar[type[MysqlExtractorConfig]] = MysqlExtractorConfig
    version: ClassVar[str] = "1"
    deterministic: ClassVar[bool] = False
    needs_network: ClassVar[bool] = True
    takes_inputs: ClassVar[str] = "none"
    packages: ClassVar[tuple[str, ...]] = PACKAGES
    connection_family: ClassVar[str] = "mysql"
    example: ClassVar[str] = """\
- id: extract-orders
  driver: mysql.extractor
  config:
    connection: "@mysql.billing"
    query: SELECT order_id, amount, ordered_at FROM orders WHERE paid
"""

    @classmethod
    def output_names(cls, config: Any) -> frozenset[str]:  # noqa: ARG003 - the contract's
        return frozenset({"df"})

    @classmethod
    def check_connection(cls, connection: Mapping[str, Any], timeout_s: float) -> str:
        return check_mysql(MysqlConnection.model_validate(connection), timeout_s)

    def run(
        self,
        step_id: str,
        config: MysqlExtractorConfig,
        inputs: Mapping[str, Any],  # noqa: ARG002 - the contract's
        ctx: StepContext,
    ) -> dict[str, Any]:
        """Connect and start the query; its rows are read while `df` is."""
        with ExitStack() as opened, failures_of_step(step_id, ctx, config.query):
            session = opened.enter_context(MysqlSession.open(config.connection, read_only=True, ctx=ctx))
            floats: set[str] = set()
            fields, blocks = session.stream(config.query or _table_query(session, config, floats))
            if not fields:
                raise DatabaseFailed("the statement gives no rows", remedy="an extractor's query is a SELECT")
            columns = [as_float(field) if field.name in floats else read_column(field, config) for field in fields]
            rest = opened.pop_all()
        schema = pa.schema([(column.name, column.kind) for column in columns])
        return {
            "df": pa.RecordBatchReader.from_batches(schema, _rows(step_id, config, ctx, columns, session, blocks, rest))
        }


def _table_query(session: MysqlSession, config: MysqlExtractorConfig, floats: set[str]) -> str:
    """The statement; `floats` gets the names of those of its columns that hold a FLOAT."""
    assert config.table is not None
    table = find_table(session, config.schema_, config.table)
    known = {column.name: column for column in table.columns}
    for name in [*(config.columns or ()), *(config.order_by or ())]:
        if name not in known:
            raise no_such_column(name, known, config.table)
    wanted = [known[name] for name in config.columns] if config.columns else table.columns
    floats.update(column.name for column in wanted if column.type_name == "float")
    items = [
        # The server shows six digits of a FLOAT, and all of a DOUBLE.
        f"CAST({quoted(column.name)} AS DOUBLE) AS {quoted(column.name)}"
        if column.name in floats
        else quoted(column.name)
        for column in wanted
    ]
    statement = f"SELECT {', '.join(items)} FROM {table.place}"  # noqa: S608 - quoted
    if config.order_by:
        statement += f" ORDER BY {', '.join(f'{table.place}.{quoted(name)}' for name in config.order_by)}"
    if config.limit is not None or config.offset:
        statement += f" LIMIT {_ALL_ROWS if config.limit is None else config.limit} OFFSET {config.offset}"
    return statement


def _rows(
    step_id: str,
    config: MysqlExtractorConfig,
    ctx: StepContext,
    columns: list[Column],
    session: MysqlSession,
    blocks: Iterator[list[pa.BinaryArray]],
    opened: ExitStack,
) -> Iterator[pa.RecordBatch]:
    names, rows = [column.name for column in columns], 0
    with opened, failures_of_step(step_id, ctx):
        for block in blocks:
            ctx.raise_if_cancelled()
            arrays = [column.convert(values) for column, values in zip(columns, block, strict=True)]
            made = pa.RecordBatch.from_arrays(arrays, names)
            rows += made.num_rows
            step = config.batch_size or max(1, made.num_rows)
            for start in range(0, made.num_rows, step):
                yield made.slice(start, step)
            ctx.progress(rows)
        ctx.raise_if_cancelled()
        ctx.metric("rows_read", rows)
        session.hand_on(ctx.pool)
