"""The `duckdb.processor` driver: SQL over the tables of earlier steps, its result streamed to the next ones."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn, Self

import duckdb
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, model_validator

from osiris_core.drivers.duckdb_inputs import register_inputs
from osiris_core.drivers.duckdb_statements import check_values, gives_rows, text_of, values_of
from osiris_core.drivers.duckdb_types import WideIntegers, plain_select, unique_names
from osiris_core.duckdb_session import Fault, open_duckdb, read_fault
from osiris_core.errors import FailureClass, StepError
from osiris_core.suggestion import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from osiris_core.redaction import Redactor
    from osiris_core.step_context import StepContext

BATCH_ROWS = 16_384
SHOWN_LINE_CHARS = 120
_REFUSED = re.compile(r"disabled (by|through) configuration|configuration has been locked")


class DuckDBProcessorConfig(BaseModel):
    """Configuration of `duckdb.processor`."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    query: str = Field(
        min_length=1,
        description="SQL; inputs are tables under their input names. Of several statements (`;` between them) the last "
        "one gives the rows.",
    )
    values: dict[str, Any] = Field(
        default_factory=dict,
        description="What `$name` in the query stands for: a text, number, boolean, null or list of these, never SQL.",
    )
    threads: int | None = Field(
        default=None,
        ge=1,
        description="Threads of the query; 1 gives the same bytes on every run. Default: the step's share.",
    )
    allow_files: bool = Field(
        default=False,
        description="Let the SQL reach outside: read and write files, ATTACH databases, load extensions, change "
        "settings. Such a step counts as not deterministic: what it reads is not sealed.",
    )
    mode: Literal["transform"] = Field(
        default="transform",
        description="Accepted because compiled Osiris manifests carry it; there is no other mode and nothing reads it.",
    )

    @model_validator(mode="after")
    def _every_value_has_a_place(self) -> Self:
        check_values(self.query, self.values)
        return self


class DuckDBProcessor:
    """
    Runs SQL over the tables of earlier steps and hands the result on as `df`.

    What comes from outside belongs into `values`: `values: {since: "${params.since}"}` is `$since` in the query,
    whatever characters it has.

    Every input is a table under its input name; a name that is no plain word is written in double quotes. No
    input is needed. A JSON input that is a list of objects is a table of their keys; any other JSON value is a
    table of one row with one column `value`, holding JSON text.

    The query may hold several statements (temporary tables, macros); the last one gives the rows. SQL cannot reach
    files, other databases, extensions or settings unless `allow_files: true`. With `threads: 1` and no use of
    `random()`, `now()` and the like the same inputs give the same bytes.

    Results are plain and lose nothing: integers wider than 64 bits (every `sum` of integers) come as decimal(38,0);
    ENUM, INTERVAL, BIT, BIGNUM, GEOMETRY and TIME WITH TIME ZONE come as text, UNION and VARIANT as JSON text. A
    column name that is there twice gets `_1`, `_2` behind it.
    """

    Config: ClassVar[type[BaseModel]] = DuckDBProcessorConfig
    version: ClassVar[str] = "1"
    deterministic: ClassVar[bool] = False
    needs_network: ClassVar[bool] = False
    example: ClassVar[str] = """\
id: per-zone
driver: duckdb.processor
inputs: {trips: extract-trips}
config:
  query: |
    SELECT zone, count(*) AS trips, sum(fare) AS fares
    FROM trips
    GROUP BY zone
    ORDER BY zone
"""

    @classmethod
    def is_deterministic(cls, config: Any) -> bool:
        """Whether the same inputs give the same bytes with this configuration (a model or its plain dict)."""
        settings = config if isinstance(config, DuckDBProcessorConfig) else DuckDBProcessorConfig.model_validate(config)
        return settings.threads == 1 and not settings.allow_files

    @classmethod
    def is_repeatable(cls, config: Any) -> bool:
        """Whether it changes nothing outside of the run with this configuration."""
        settings = config if isinstance(config, DuckDBProcessorConfig) else DuckDBProcessorConfig.model_validate(config)
        return not settings.allow_files

    @classmethod
    def output_names(cls, config: Any) -> frozenset[str]:  # noqa: ARG003 - the contract's
        return frozenset({"df"})

    def run(
        self, step_id: str, config: DuckDBProcessorConfig, inputs: Mapping[str, Any], ctx: StepContext
    ) -> Mapping[str, Any]:
        """Run the query up to its first rows; the rest is computed while `df` is read."""
        ctx.raise_if_cancelled()
        connection = open_duckdb(ctx, threads=config.threads, locked=not config.allow_files, errors_as_json=True)
        try:
            ctx.metric("rows_read", register_inputs(connection, step_id, inputs))
            query = _Query(config.query, config.values, connection, list(inputs), ctx)
            return {"df": query.result()}
        except BaseException:
            connection.close()
            raise


class _Query:
    """One query text on one connection: runs its statements, and explains errors by their place in the text."""

    def __init__(
        self,
        text: str,
        values: Mapping[str, Any],
        connection: duckdb.DuckDBPyConnection,
        inputs: list[str],
        ctx: StepContext,
    ) -> None:
        self._bytes = text.encode()
        self._text, self._values = text, values
        self._connection = connection
        self._inputs = inputs
        self._ctx = ctx

    def result(self) -> pa.RecordBatchReader:
        """
        The rows of the last statement, computed while they are read. The connection is closed after the last one.

        Raises:
            StepError: A statement failed, or the last one gives no rows. Also raised while the rows are read.
        """
        with self._explained():
            statements = self._connection.extract_statements(self._text)
        if not statements or not gives_rows(statements[-1]):
            self._fail("the query must end with a statement that gives rows (SELECT ...); its last one gives none")
        start = 0
        for statement in statements:
            self._ctx.raise_if_cancelled()
            text = text_of(statement)
            start = max(self._bytes.find(text.encode(), start), start)
            with self._explained(statement, start):
                relation = self._connection.sql(text, params=values_of(statement, self._values))
            if statement is not statements[-1]:
                start += len(text.encode())
        return self._stream(relation, statements[-1], start)

    def _stream(
        self, relation: duckdb.DuckDBPyRelation, statement: duckdb.Statement, start: int
    ) -> pa.RecordBatchReader:
        names = unique_names(relation.columns)
        if names != relation.columns:
            self._ctx.log(f"the result has columns of the same name; they are now {', '.join(names)}", level="warning")
        wide = WideIntegers(relation.types)
        select = plain_select(relation.types, names)
        rewritten = select is not None
        with self._explained(statement, start, rewritten=rewritten):
            reader = (relation if select is None else relation.project(select)).to_arrow_reader(BATCH_ROWS)
        schema = pa.schema(
            [field.with_name(name) for field, name in zip(reader.schema, names, strict=True)], reader.schema.metadata
        )

        def batches() -> Iterator[pa.RecordBatch]:
            try:
                while True:
                    self._ctx.raise_if_cancelled()
                    with self._explained(statement, start, rewritten=rewritten):
                        batch = next(reader, None)
                    if batch is None:
                        return
                    if misfit := wide.misfit(batch):
                        self._fail(
                            f"column '{names[misfit[0]]}' holds an integer of more than 38 digits ({misfit[1]}): "
                            "cast it in the query to VARCHAR to keep it, or to DOUBLE to round it"
                        )
                    yield batch if names == relation.columns else batch.rename_columns(names)
            finally:
                self._connection.close()

        return pa.RecordBatchReader.from_batches(schema, batches())

    @contextmanager
    def _explained(
        self, statement: duckdb.Statement | None = None, start: int = 0, *, rewritten: bool = False
    ) -> Iterator[None]:
        """Errors of `statement`, which begins at byte `start`, as ours; in a `rewritten` one positions mean nothing."""
        try:
            yield
        except (duckdb.Error, OSError) as exc:
            self._ctx.raise_if_cancelled()
            fault = read_fault(exc)
            if fault.position is None and statement is not None:
                fault = self._located(fault, statement)
            place = None if fault.position is None or rewritten else start + fault.position
            self._fail_with(fault, place, exc)

    def _located(self, fault: Fault, statement: duckdb.Statement) -> Fault:
        """The same fault with its position: a relation does not tell where its SQL is wrong, EXPLAIN does."""
        if statement.type != duckdb.StatementType.SELECT:
            return fault
        prefix = "EXPLAIN "
        try:
            self._connection.execute(prefix + text_of(statement), values_of(statement, self._values))
        except duckdb.Error as exc:
            again = read_fault(exc)
            if again.message == fault.message and again.position is not None:
                return replace(again, position=again.position - len(prefix))
        return fault

    def _fail_with(self, fault: Fault, place: int | None, cause: BaseException) -> NoReturn:
        message, failure_class = self._message(fault)
        details: dict[str, Any] = {"error_type": fault.kind}
        if place is not None:
            line, column, drawing = _drawn(self._bytes, place, fault.length, self._ctx.redactor)
            message = f"SQL error in line {line}, column {column}: {message}\n{drawing}"
            details |= {"line": line, "column": column}
        else:
            message = f"SQL error: {message}"
        raise StepError(message, step_id=self._ctx.step_id, failure_class=failure_class, details=details) from cause

    def _fail(self, message: str) -> NoReturn:
        raise StepError(message, step_id=self._ctx.step_id, failure_class=FailureClass.USER_ERROR)

    def _message(self, fault: Fault) -> tuple[str, FailureClass]:
        if _REFUSED.search(fault.message):
            return (
                f"SQL of this step may not reach outside (files, other databases, extensions, settings): "
                f"{fault.message}. Read files with an extractor step, or set allow_files: true"
            ), FailureClass.USER_ERROR
        if fault.kind.lower().startswith("out of memory"):
            return (
                f"the query needs more memory than the step's {self._ctx.memory_budget_bytes >> 20} MiB, also with "
                f"its spill to disk: {fault.message}. Give the run a larger memory budget, set threads: 1, or filter "
                "and aggregate earlier"
            ), FailureClass.OUT_OF_MEMORY
        if "No space left on device" in fault.message:
            return f"no disk space for the query's spill: {fault.message}", FailureClass.RESOURCE_DENIED
        if "Unexpected prepared parameter" in fault.message:
            return "a view or macro cannot hold a $value; make it a temporary table", FailureClass.USER_ERROR
        if fault.missing_table is not None:
            return self._missing_table(fault, fault.missing_table), FailureClass.USER_ERROR
        return fault.message, FailureClass.USER_ERROR

    def _missing_table(self, fault: Fault, name: str) -> str:
        inputs = ", ".join(f"'{known}'" for known in self._inputs)
        known = f"inputs of this step: {inputs}" if inputs else "this step has no inputs"
        if name.lower() == "input_df":
            return f"there is no table '{name}' (an old name); a table is called after its input; {known}"
        # DuckDB's own guess is of use for a table that the query made, not for one of its catalogs.
        made = [near for near in fault.candidates if not near.startswith(("pg_", "duckdb_", "sqlite_"))]
        hint = did_you_mean(name, [*self._inputs, *made])
        return f"there is no table '{name}'; {f'{hint} ' if hint else ''}({known})"


def _drawn(text: bytes, position: int, length: int, redactor: Redactor) -> tuple[int, int, str]:
    """Line and column (from 1, in characters) of a byte position, and that line with carets below it."""
    before = text[:position].decode(errors="ignore")
    marked = text[position : position + length].decode(errors="ignore").partition("\n")[0]
    head = before.rpartition("\n")[2]
    tail = text[position + len(marked.encode()) :].decode(errors="ignore").partition("\n")[0].rstrip("\r")
    line, column = before.count("\n") + 1, len(head) + 1
    whole = head + marked + tail
    if (masked := redactor.text(whole)) != whole:
        # Cut to fit, half a secret would no longer be known as one.
        return line, column, f"  {masked}"
    if len(head) > SHOWN_LINE_CHARS // 2:
        head = "…" + head[-SHOWN_LINE_CHARS // 2 :]
    if len(tail) > SHOWN_LINE_CHARS // 2:
        tail = tail[: SHOWN_LINE_CHARS // 2] + "…"
    below = "".join("\t" if char == "\t" else " " for char in head) + "^" * max(len(marked), 1)
    return line, column, f"  {head}{marked}{tail}\n  {below}"
