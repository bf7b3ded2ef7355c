"""Tables as files for a command, and back: always by batches, never a whole table."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from osiris_core.drivers.command_config import OutputFormat, TableFormat
    from osiris_core.step_context import StepContext

_ARROW_FILE_MAGIC = b"ARROW1"


class UnreadableOutput(ValueError):
    """A file that is not what it was declared to be."""


def write_input(value: Any, path: Path, table_format: TableFormat, ctx: StepContext) -> None:
    """
    Write a table to `path`, batch by batch; CSV as `filesystem.csv_writer` writes it.

    Raises:
        ValueError: The format cannot hold a column (a list in a CSV file).
    """
    if table_format == "csv":
        _write_csv(value, path, ctx)
        return
    reader = pa.RecordBatchReader.from_stream(value)
    if table_format == "parquet":
        import pyarrow.parquet as pq

        with pq.ParquetWriter(path, reader.schema) as writer:
            for batch in reader:
                writer.write_batch(batch)
    else:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, reader.schema) as ipc_writer:
            for batch in reader:
                ipc_writer.write_batch(batch)


def _write_csv(value: Any, path: Path, ctx: StepContext) -> None:
    from osiris_core.drivers.csv_writer import CsvWriterConfig, write_csv

    nested = [field.name for field in value.schema if pa.types.is_nested(field.type)]
    if nested:
        raise ValueError(
            f"CSV cannot hold the nested columns {', '.join(nested)}; set input_format to parquet or arrow"
        )
    write_csv(ctx.step_id, value, CsvWriterConfig(path=str(path)), ctx)


def read_output(path: Path, output_format: OutputFormat, ctx: StepContext) -> Any:
    """
    The table or the JSON value in a file; CSV as `filesystem.csv_extractor` reads it.

    A Parquet or Arrow table is a stream of batches, read when it is consumed.

    Raises:
        UnreadableOutput: The file is not of that format. Of a stream's later batches this is told, in the same
            words, while they are read.
        StepError: The same of a CSV file, with the line.
    """
    if output_format == "csv":
        from osiris_core.drivers.csv_extractor import read_csv
        from osiris_core.drivers.csv_extractor_config import CsvExtractorConfig

        return read_csv(ctx.step_id, CsvExtractorConfig(path=str(path)), ctx)
    try:
        if output_format == "json":
            return json.loads(path.read_bytes())
        schema, batches = _open(path, output_format)
    except (ValueError, OSError) as exc:
        raise UnreadableOutput(f"cannot be read as {output_format}: {exc}") from exc
    return pa.RecordBatchReader.from_batches(schema, _named(batches, path, output_format))


def _open(path: Path, output_format: OutputFormat) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    if output_format == "parquet":
        import pyarrow.parquet as pq

        file = pq.ParquetFile(path)
        return file.schema_arrow, file.iter_batches()
    with path.open("rb") as head:
        is_file = head.read(len(_ARROW_FILE_MAGIC)) == _ARROW_FILE_MAGIC
    if not is_file:
        stream = pa.ipc.open_stream(pa.OSFile(str(path), "rb"))
        return stream.schema, iter(stream)
    ipc_file = pa.ipc.open_file(pa.OSFile(str(path), "rb"))
    return ipc_file.schema, (ipc_file.get_batch(index) for index in range(ipc_file.num_record_batches))


def _named(batches: Iterator[pa.RecordBatch], path: Path, output_format: OutputFormat) -> Iterator[pa.RecordBatch]:
    try:
        yield from batches
    except (ValueError, OSError) as exc:
        raise UnreadableOutput(f"{path.name} cannot be read as {output_format}: {exc}") from exc
