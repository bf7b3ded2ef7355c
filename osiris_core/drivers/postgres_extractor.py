"""The driver `postgres.extractor`: the rows of a query or table, as they stream in."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa

from osiris_core.drivers.postgres_client import PACKAGES, PostgresSession, quoted
from osiris_core.drivers.postgres_extractor_config import PostgresExtractorConfig
from osiris_core.drivers.postgres_reading import (
    is_exact,
    is_foreign,
    nesting_query,
    read_column,
    unknown_oid,
    without_nesting,
)
from osiris_core.drivers.postgres_server import check_postgres
from osiris_core.drivers.postgres_tables import find_table
from osiris_core.drivers.sql_connection import PostgresConnection
from osiris_core.drivers.sql_errors import DatabaseFailed, failures_of_step, no_such_column

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from osiris_core.drivers.postgres_reading import Column
    from osiris_core.step_context import StepContext


class PostgresExtractor:
    """
    Reads a query, or columns and rows of a table, into the table `df`, in the types that PostgreSQL names.

    In a transaction that only reads, so a query changes nothing. Rows stream by COPY: memory holds some megabytes,
    whatever their number. NUMERIC(p,s) is decimal, timestamptz is UTC, uuid, json and enums are text, arrays are lists;
    a column of a type that Arrow does not have is read as text from a table, and an error in a query. A cancel or
    timeout ends the query at the server.
    """

    Config: ClassVar[type[PostgresExtractorConfig]] = PostgresExtractorConfig
    version: ClassVar[str] = "1"
    deterministic: ClassVar[bool] = False
    needs_network: ClassVar[bool] = True
    takes_inputs: ClassVar[str] = "none"
    packages: ClassVar[tuple[str, ...]] = PACKAGES
    connection_family: ClassVar[str] = "postgres"
    example: ClassVar[str] = """\
- id: extract-orders
  driver: postgres.extractor
  config:
    connection: "@postgres.shop"
    query: SELECT order_id, amount, ordered_at FROM orders WHERE paid
"""

    @classmethod
    def output_names(cls, config: Any) -> frozenset[str]:  # noqa: ARG003 - the contract's
        return frozenset({"df"})

    @classmethod
    def check_connection(cls, connection: Mapping[str, Any], timeout_s: float) -> str:
        return check_postgres(PostgresConnection.model_validate(connection), timeout_s)

    def run(
        self,
        step_id: str,
        config: PostgresExtractorConfig,
        inputs: Mapping[str, Any],  # noqa: ARG002 - the contract's
        ctx: StepContext,
    ) -> dict[str, Any]:
        """Connect and start the query; its rows are read while `df` is."""
        return {"df": read_postgres(step_id, config, ctx)}


def read_postgres(
    step_id: str, config: PostgresExtractorConfig, ctx: StepContext, clauses: str = ""
) -> pa.RecordBatchReader:
    """
    The rows of a query or table as they stream in, for every driver that reads from a PostgreSQL server.

    `clauses`: what stands behind the table's name, for a driver that has more to say of it than the configuration.

    Raises:
        StepError: As the server says it; also while the rows are read.
    """
    with ExitStack() as opened, failures_of_step(step_id, ctx, config.query):
        session = opened.enter_context(PostgresSession.open(config.connection, read_only=True, ctx=ctx))
        statement = _statement(config.query) if config.query else _table_query(session, config) + clauses
        described = session.describe(statement)
        columns = _columns(session, described, config)
        nesting = nesting_query(statement, described)
        batches = session.stream(statement) if nesting is None else map(without_nesting, session.stream(nesting))
        rest = opened.pop_all()
    schema = pa.schema([(column.name, column.kind) for column in columns])
    return pa.RecordBatchReader.from_batches(schema, _rows(step_id, config, ctx, columns, session, batches, rest))


def _statement(query: str) -> str:
    """The query so that it can stand in brackets: no semicolon behind it, and no comment that would not end."""
    return query.rstrip().rstrip(";") + "\n"


def _columns(session: PostgresSession, schema: pa.Schema, config: PostgresExtractorConfig) -> list[Column]:
    if len(schema) == 0:
        raise DatabaseFailed("the statement gives no rows", remedy="an extractor's query is a SELECT")
    names = {found for field in schema if (found := is_foreign(field)) is not None}
    senders = {name: f"{name}_send" for name in names}
    oids = {oid: name for name in names if (oid := unknown_oid(name)) is not None}
    if oids:
        asked = f"SELECT oid::int8, typsend::text FROM pg_type WHERE oid IN ({', '.join(map(str, oids))})"  # noqa: S608
        senders |= {oids[oid]: sender for oid, sender in session.rows(asked)}
    return [read_column(field, config, senders) for field in schema]


def _table_query(session: PostgresSession, config: PostgresExtractorConfig) -> str:
    assert config.table is not None
    table = find_table(session, config.schema_, config.table)
    known = {column.name: column for column in table.columns}
    for name in [*(config.columns or ()), *(config.order_by or ())]:
        if name not in known:
            raise no_such_column(name, known, config.table)
    wanted = [known[name] for name in config.columns] if config.columns else table.columns
    items = []
    for column in wanted:
        exact = is_exact(column.type_name, column.sender, is_own=column.is_own)
        items.append(quoted(column.name) if exact else f"{quoted(column.name)}::text AS {quoted(column.name)}")
    statement = f"SELECT {', '.join(items)} FROM {table.place}"  # noqa: S608 - quoted
    if config.order_by:
        statement += f" ORDER BY {', '.join(f'{table.place}.{quoted(name)}' for name in config.order_by)}"
    if config.limit is not None:
        statement += f" LIMIT {config.limit}"
    return statement + (f" OFFSET {config.offset}" if config.offset else "")


def _rows(
    step_id: str,
    config: PostgresExtractorConfig,
    ctx: StepContext,
    columns: list[Column],
    session: PostgresSession,
    batches: Iterator[pa.RecordBatch],
    opened: ExitStack,
) -> Iterator[pa.RecordBatch]:
    names, rows = [column.name for column in columns], 0
    with opened, failures_of_step(step_id, ctx):
        for batch in batches:
            ctx.raise_if_cancelled()
            arrays = [
                column.convert(values) if column.convert is not None else values
                for column, values in zip(columns, batch.columns, strict=True)
            ]
            made = pa.RecordBatch.from_arrays(arrays, names)
            rows += made.num_rows
            step = config.batch_size or max(1, made.num_rows)
            for start in range(0, made.num_rows, step):
                yield made.slice(start, step)
            ctx.progress(rows)
        ctx.raise_if_cancelled()
        ctx.metric("rows_read", rows)
        session.hand_on(ctx.pool)
