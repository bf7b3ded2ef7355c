"""Tables as files for a command, and back: always by batches, never a whole table."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from osiris_core.drivers.command_config import OutputFormat, TableFormat

CSV_BLOCK_BYTES = 4 << 20
_CSV_COLUMN = re.compile(r"In CSV column #(\d+)")
_ARROW_FILE_MAGIC = b"ARROW1"


class UnreadableOutput(ValueError):
    """A file that is not what it was declared to be."""


def write_input(value: Any, path: Path, table_format: TableFormat) -> None:
    """
    Write a table to `path`, batch by batch.

    Raises:
        ValueError: The format cannot hold a column (a list in a CSV file).
    """
    reader = pa.RecordBatchReader.from_stream(value)
    if table_format == "csv":
        _write_csv(reader, path)
    elif table_format == "parquet":
        import pyarrow.parquet as pq

        with pq.ParquetWriter(path, reader.schema) as writer:
            for batch in reader:
                writer.write_batch(batch)
    else:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, reader.schema) as ipc_writer:
            for batch in reader:
                ipc_writer.write_batch(batch)


def _write_csv(reader: pa.RecordBatchReader, path: Path) -> None:
    import pyarrow.csv as pa_csv

    nested = [field.name for field in reader.schema if pa.types.is_nested(field.type)]
    if nested:
        raise ValueError(
            f"CSV cannot hold the nested columns {', '.join(nested)}; set input_format to parquet or arrow"
        )
    with pa_csv.CSVWriter(str(path), reader.schema) as writer:
        for batch in reader:
            writer.write_batch(batch)


def read_output(path: Path, output_format: OutputFormat) -> Any:
    """
    The table (as a stream of batches, read when it is consumed) or the JSON value in a file.

    Raises:
        UnreadableOutput: The file is not of that format. Of a table's later batches this is told, in the same
            words, while they are read.
    """
    try:
        if output_format == "json":
            return json.loads(path.read_bytes())
        schema, batches = _open(path, output_format)
    except (ValueError, OSError) as exc:
        raise UnreadableOutput(f"cannot be read as {output_format}: {exc}") from exc
    return pa.RecordBatchReader.from_batches(schema, _named(batches, path, output_format))


def _open(path: Path, output_format: OutputFormat) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    if output_format == "csv":
        if not path.stat().st_size:
            raise ValueError("the file is empty, not even a header")
        reader = _open_csv(path, _widened_columns(path))
        return reader.schema, iter(reader)
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


def _open_csv(path: Path, types: dict[str, pa.DataType]) -> Any:
    import pyarrow.csv as pa_csv

    return pa_csv.open_csv(
        str(path),
        read_options=pa_csv.ReadOptions(block_size=CSV_BLOCK_BYTES),
        convert_options=pa_csv.ConvertOptions(column_types=types),
        parse_options=pa_csv.ParseOptions(newlines_in_values=True),
    )


def _widened_columns(path: Path) -> dict[str, pa.DataType]:
    """
    The columns of a CSV file whose type the first block does not tell; they are read as text.

    A file of one block tells all its types. A longer one is read once more, which still needs no memory.
    """
    types: dict[str, pa.DataType] = {}
    while path.stat().st_size > CSV_BLOCK_BYTES:
        reader = _open_csv(path, types)
        try:
            for _ in reader:
                pass
            break
        except pa.ArrowInvalid as exc:
            column = _CSV_COLUMN.search(str(exc))
            name = reader.schema.names[int(column[1])] if column else None
            if name is None or name in types:
                raise
            types[name] = pa.string()
    return types


def _named(batches: Iterator[pa.RecordBatch], path: Path, output_format: OutputFormat) -> Iterator[pa.RecordBatch]:
    try:
        yield from batches
    except (ValueError, OSError) as exc:
        raise UnreadableOutput(f"{path.name} cannot be read as {output_format}: {exc}") from exc
