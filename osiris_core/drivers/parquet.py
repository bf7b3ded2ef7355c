"""The Parquet drivers: a file into a table and a table into a file, batch by batch."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn
from uuid import uuid4

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from osiris_core.drivers.writing import make_folder_of, only_table
from osiris_core.errors import FailureClass, StepError, naming
from osiris_core.paths import InputPath, OutputPath  # noqa: TC001 - pydantic resolves the fields' types
from osiris_core.suggestion import did_you_mean
from osiris_core.tables import SpilledTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import pyarrow.parquet as pq

    from osiris_core.step_context import StepContext


class ParquetExtractorConfig(BaseModel):
    """Configuration of `filesystem.parquet_extractor`."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    path: InputPath = Field(min_length=1, description="The Parquet file to read.")
    columns: list[str] | None = Field(
        default=None, min_length=1, description="The columns to read, in this order; by default all of the file."
    )
    limit: int | None = Field(default=None, ge=0, description="Read at most so many rows, from the first one.")
    batch_rows: int = Field(default=65_536, ge=1, description="Rows in memory at a time; fewer for very wide rows.")
    connection: dict[str, Any] | None = Field(
        default=None,
        description="A filesystem connection. Accepted only: its base_dir is in `path` before the step runs.",
    )


class ParquetExtractor:
    """
    Reads a Parquet file and hands it on as `df`.

    The file is read batch by batch, so memory does not depend on its size. Column types stay what they are in the
    file, but dictionary-encoded columns come as their values. `columns` reads only those columns from disk.
    """

    Config: ClassVar[type[BaseModel]] = ParquetExtractorConfig
    version: ClassVar[str] = "1"
    deterministic: ClassVar[bool] = True
    repeatable: ClassVar[bool] = True
    needs_network: ClassVar[bool] = False
    takes_inputs: ClassVar[str] = "none"
    example: ClassVar[str] = """\
id: extract-trips
driver: filesystem.parquet_extractor
config:
  path: data/trips.parquet
  columns: [trip_id, zone, fare]
"""

    @classmethod
    def output_names(cls, config: Any) -> frozenset[str]:  # noqa: ARG003 - the contract's
        return frozenset({"df"})

    def run(
        self,
        step_id: str,
        config: ParquetExtractorConfig,
        inputs: Mapping[str, Any],  # noqa: ARG002 - the drivers' signature
        ctx: StepContext,
    ) -> Mapping[str, Any]:
        """Open the file and check the columns; its rows are read while `df` is."""
        with _explained(step_id, config.path):
            file = _open(config.path)
        try:
            schema = _plain_schema(_selected(step_id, config, file.schema_arrow))
        except BaseException:
            file.close(force=True)
            raise
        return {"df": pa.RecordBatchReader.from_batches(schema, _batches(step_id, config, file, schema, ctx))}


def _open(path: str) -> pq.ParquetFile:
    import pyarrow.parquet as pq

    # Buffered: otherwise the whole row group is read ahead, whatever the size of a batch.
    return pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False)


def _selected(step_id: str, config: ParquetExtractorConfig, schema: pa.Schema) -> pa.Schema:
    if config.columns is None:
        return schema
    file = Path(config.path).name
    for name in config.columns:
        count = schema.names.count(name)
        if count == 1 and config.columns.count(name) == 1:
            continue
        if count:
            _fail(step_id, f"{file}: column '{name}' is asked for, or is in the file, more than once", "columns")
        hint = did_you_mean(name, schema.names) or f"columns of the file: {', '.join(schema.names)}"
        _fail(step_id, f"{file} has no column '{name}'; {hint}", "columns")
    return pa.schema([schema.field(name) for name in config.columns])


def _batches(
    step_id: str, config: ParquetExtractorConfig, file: pq.ParquetFile, schema: pa.Schema, ctx: StepContext
) -> Iterator[pa.RecordBatch]:
    left = file.metadata.num_rows if config.limit is None else min(config.limit, file.metadata.num_rows)
    rows = 0
    try:
        # Names with dots would be taken for paths into structs; `_plain` takes the wanted columns only.
        source = file.iter_batches(min(config.batch_rows, max(left, 1)), columns=config.columns)
        while left > 0:
            ctx.raise_if_cancelled()
            with _explained(step_id, config.path):
                batch = next(source, None)
            if batch is None:
                break
            batch = batch.slice(0, left)
            left -= batch.num_rows
            rows += batch.num_rows
            yield _plain(batch, schema)
        ctx.metric("rows_read", rows)
    finally:
        file.close(force=True)


class ParquetWriterConfig(BaseModel):
    """Configuration of `filesystem.parquet_writer`."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    path: OutputPath = Field(min_length=1, description="The file to write, below the step's artifacts.")
    compression: Literal["zstd", "snappy", "gzip", "none"] = Field(
        default="zstd", description="How columns are compressed."
    )
    row_group_size: int = Field(
        default=122_880, ge=1, description="Rows in a row group; as many are in memory while it is written."
    )
    create_dirs: bool = Field(default=True, description="Make missing folders of `path`; otherwise they are an error.")
    connection: dict[str, Any] | None = Field(
        default=None,
        description="A filesystem connection. Accepted only: its base_dir is in `path` before the step runs.",
    )


class ParquetWriter:
    """
    Writes its one input table as a Parquet file.

    The file appears whole or not at all. The same rows give the same bytes, however they were batched. Types
    that Parquet does not have (intervals, unions) are an error.
    """

    Config: ClassVar[type[BaseModel]] = ParquetWriterConfig
    version: ClassVar[str] = "1"
    deterministic: ClassVar[bool] = True
    repeatable: ClassVar[bool] = True
    needs_network: ClassVar[bool] = False
    takes_inputs: ClassVar[str] = "one"
    example: ClassVar[str] = """\
id: write-zones
driver: filesystem.parquet_writer
inputs: {df: per-zone}
config:
  path: zones.parquet
"""

    @classmethod
    def output_names(cls, config: Any) -> frozenset[str]:  # noqa: ARG003 - the contract's
        return frozenset()

    def run(
        self, step_id: str, config: ParquetWriterConfig, inputs: Mapping[str, Any], ctx: StepContext
    ) -> Mapping[str, Any] | None:
        """Write the file, replacing one of that name. Nothing is left of it when the step fails."""
        table = only_table(inputs, step_id)
        target = Path(config.path)
        make_folder_of(target, step_id, create_dirs=config.create_dirs)
        temporary = target.with_name(f".{uuid4().hex}.tmp")
        try:
            with _explained(step_id, str(target)), naming(target):
                rows = _write(temporary, table, config, ctx)
            ctx.raise_if_cancelled()
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        ctx.metric("rows_read", rows)
        ctx.metric("rows_written", rows)
        return None


def _write(path: Path, table: pa.Table | SpilledTable, config: ParquetWriterConfig, ctx: StepContext) -> int:
    import pyarrow.parquet as pq

    rows = 0
    batches = table.iter_batches() if isinstance(table, SpilledTable) else table.to_batches()
    schema = _plain_schema(table.schema)
    with pq.ParquetWriter(path, schema, compression=config.compression) as writer:
        for group in _groups((_plain(batch, schema) for batch in batches), schema, config.row_group_size):
            ctx.raise_if_cancelled()
            # One chunk a column: how the rows were batched must not show in the pages.
            writer.write_table(group.combine_chunks(), row_group_size=config.row_group_size)
            rows += group.num_rows
            ctx.progress(rows, table.num_rows)
    return rows


def _groups(batches: Iterable[pa.RecordBatch], schema: pa.Schema, size_rows: int) -> Iterator[pa.Table]:
    """The batches cut into tables of exactly `size_rows` rows, the last one excepted."""
    held: list[pa.RecordBatch] = []
    held_rows = 0
    for batch in batches:
        start = 0
        while start < batch.num_rows:
            part = batch.slice(start, size_rows - held_rows)
            held.append(part)
            held_rows += part.num_rows
            start += part.num_rows
            if held_rows == size_rows:
                yield pa.Table.from_batches(held, schema)
                held, held_rows = [], 0
    if held:
        yield pa.Table.from_batches(held, schema)


def _plain_schema(schema: pa.Schema) -> pa.Schema:
    """`schema` with the type of the values for dictionary-encoded columns."""
    for index, field in enumerate(schema):
        if pa.types.is_dictionary(field.type):
            schema = schema.set(index, field.with_type(field.type.value_type))
    return schema


def _plain(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """
    The columns of `schema` with dictionary-encoded ones as their values.

    Dictionaries differ from batch to batch: they would show in the bytes, and Arrow files cannot hold that.
    """
    columns = [batch.column(name) for name in schema.names] if len(set(schema.names)) == len(schema) else batch.columns
    return pa.RecordBatch.from_arrays(
        [c.cast(schema.field(i).type) if pa.types.is_dictionary(c.type) else c for i, c in enumerate(columns)],
        schema=schema,
    )


@contextmanager
def _explained(step_id: str, path: str) -> Iterator[None]:
    name = Path(path).name  # where it lies differs from place to place
    try:
        yield
    except FileNotFoundError as exc:
        raise StepError(f"{name} does not exist", step_id=step_id, details={"file": name}) from exc
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError, OSError) as exc:
        if isinstance(exc, OSError) and exc.errno is not None:
            raise  # the disk or the rights, not the file's content
        message = f"{name}: {exc}"
        if Path(path).is_dir():
            message = f"{name} is a folder, not a file"
        elif "magic bytes" in str(exc) or "file size is" in str(exc):
            message = f"{name} is not a Parquet file, or it is cut off: {exc}"
        elif isinstance(exc, OSError):
            message = f"{name} is damaged: {exc}"
        raise StepError(
            message, step_id=step_id, failure_class=FailureClass.USER_ERROR, details={"file": name}
        ) from exc


def _fail(step_id: str, message: str, key: str) -> NoReturn:
    raise StepError(message, step_id=step_id, failure_class=FailureClass.USER_ERROR, details={"key": key})
