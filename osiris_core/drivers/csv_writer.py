"""The driver `filesystem.csv_writer`: one table as a CSV file."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, model_validator

from osiris_core.drivers.csv_settings import Mark, TextCodec, check_different
from osiris_core.drivers.csv_sink import TextSink
from osiris_core.drivers.csv_text import Format, Quoting, Unquotable, as_text
from osiris_core.drivers.writing import make_folder_of, only_table
from osiris_core.errors import StepError
from osiris_core.paths import OutputPath  # noqa: TC001 - pydantic needs it at run time
from osiris_core.tables import SpilledTable, Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from osiris_core.step_context import StepContext

SLICE_ROWS = 32768


class CsvWriterConfig(BaseModel):
    """Settings of `filesystem.csv_writer`; the names and defaults are those of Osiris."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    path: OutputPath = Field(
        min_length=1, description="The file to write; .gz, .bz2, .xz and .zst at its end compress it."
    )
    mode: Literal["write"] = Field(default="write", description="Accepted because compiled manifests carry it.")
    connection: dict[str, Any] | None = Field(
        default=None,
        description="A filesystem connection. Accepted only: its base_dir is in `path` before the step runs.",
    )
    delimiter: Mark = Field(default=",", description="The character between fields.")
    newline: Literal["lf", "crlf"] = Field(default="lf", description="The end of a row.")
    quoting: Quoting = Field(
        default="minimal", description="Which fields are quoted; none: a text that needs it is an error."
    )
    quote: Mark = Field(default='"', description="The quote character.")
    encoding: TextCodec = Field(
        default="utf-8", description="Any Python codec; a character that it does not have is an error."
    )
    header: bool = Field(default=True, description="Write the column names first.")
    na_rep: str = Field(default="", description="What a null is written as.")
    create_dirs: bool = Field(default=True, description="Make missing folders; otherwise they are an error.")
    chunk_size: int = Field(
        default=1000,
        ge=1,
        description="Accepted because compiled manifests carry it; rows are written in larger pieces.",
    )

    @model_validator(mode="after")
    def _different_marks(self) -> Self:
        check_different({"delimiter": self.delimiter, "quote": self.quote})
        return self

    @property
    def format(self) -> Format:
        newline = "\r\n" if self.newline == "crlf" else "\n"
        return Format(self.delimiter, newline, self.quoting, self.quote, self.na_rep)


class CsvWriter:
    """
    Writes its one input table to a CSV file, columns in their order. The file appears whole or not at all.

    A null is nothing, an empty text is "". In a table of one column both are "", because nothing would be a blank
    line, which is no row to most readers: `na_rep` tells them apart there. Floats are written in their shortest exact
    form (1.0 stays 1.0), bools as true and false, timestamps as ISO 8601, binary as base64, lists and structs as JSON.
    """

    Config = CsvWriterConfig
    version = "1"
    deterministic = True
    repeatable = True
    needs_network = False
    takes_inputs = "one"
    example = """\
- id: write-orders
  driver: filesystem.csv_writer
  inputs: {df: clean-orders}
  config:
    path: orders.csv
"""

    @classmethod
    def output_names(cls, config: Any) -> frozenset[str]:  # noqa: ARG003 - the contract's
        return frozenset()

    def run(
        self, step_id: str, config: CsvWriterConfig, inputs: Mapping[str, Any], ctx: StepContext
    ) -> dict[str, Any] | None:
        ctx.metric("rows_written", write_csv(step_id, only_table(inputs, step_id), config, ctx))
        return None


def write_csv(step_id: str, table: Table, config: CsvWriterConfig, ctx: StepContext) -> int:
    """
    Write a table to `config.path`, batch by batch, and return the number of rows.

    Written beside and moved into place: nothing is left of it when this raises.

    Raises:
        StepError: A value cannot be written, naming its column and row.
    """
    path = Path(config.path)
    make_folder_of(path, step_id, create_dirs=config.create_dirs)
    try:
        return _write(table, config, path, ctx)
    except Unquotable as exc:
        raise StepError(
            f"{path.name}: {exc}", step_id=step_id, details={"column": exc.column, "row": exc.row + 1}
        ) from exc
    except _Unencodable as exc:
        raise StepError(f"{path.name}: {exc}; choose another `encoding`", step_id=step_id, details=exc.details) from exc
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as exc:
        raise StepError(f"{path.name}: a column cannot be written as text: {exc}", step_id=step_id) from exc


class _Unencodable(ValueError):
    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.details = details


def _write(table: Table, config: CsvWriterConfig, path: Path, ctx: StepContext) -> int:
    form, rows = config.format, 0
    with TextSink(path, config.encoding) as sink, ThreadPoolExecutor(ctx.threads, "csv") as pool:
        if config.header:
            _put(sink, form.header(list(table.schema.names)), None, 0)
        waiting: deque[tuple[pa.RecordBatch, int, Future[Any]]] = deque()
        try:
            for batch in _slices(table):
                ctx.raise_if_cancelled()
                waiting.append((batch, rows, pool.submit(form.rows, batch, rows)))
                rows += batch.num_rows
                if len(waiting) > ctx.threads + 1:
                    _put_next(sink, waiting)
                ctx.progress(rows, table.num_rows)
            while waiting:
                ctx.raise_if_cancelled()
                _put_next(sink, waiting)
        finally:
            for _, _, future in waiting:
                future.cancel()
        sink.close()
        ctx.raise_if_cancelled()
        sink.commit()
    return rows


def _put_next(sink: TextSink, waiting: deque[tuple[pa.RecordBatch, int, Future[Any]]]) -> None:
    batch, first_row, future = waiting.popleft()
    _put(sink, future.result(), batch, first_row)


def _slices(table: Table) -> Iterator[pa.RecordBatch]:
    batches = table.iter_batches() if isinstance(table, SpilledTable) else table.to_batches()
    for batch in batches:
        for start in range(0, batch.num_rows, SLICE_ROWS):
            yield batch.slice(start, SLICE_ROWS)


def _put(sink: TextSink, data: Any, batch: pa.RecordBatch | None, first_row: int) -> None:
    try:
        sink.write(data)
    except UnicodeEncodeError as exc:
        char = exc.object[exc.start]
        if batch is not None:
            for name, column in zip(batch.schema.names, batch.columns, strict=True):
                for index, text in enumerate(as_text(column).to_pylist()):
                    if text is not None and char in text:
                        row = first_row + index + 1
                        raise _Unencodable(
                            f"row {row}, column {name!r}: {char!r} is not in {exc.encoding}", row=row, column=name
                        ) from exc
        raise _Unencodable(f"the header holds {char!r}, which is not in {exc.encoding}") from exc
