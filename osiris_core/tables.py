"""
The only hand-over of data between steps: Arrow, by reference while it fits the budget, from disk when it does not.

What outgrows the budget is written as an Arrow IPC file while it is being produced. It is read back in batches,
never mapped (mapped pages count as the process's memory), through an object that can be scanned any number of times.
"""

from __future__ import annotations

import json
import re
import threading
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

_PANDAS_INDEX = re.compile(r"__index_level_\d+__")


class SpilledTable:
    """
    A table on disk that answers like a `pyarrow.Table`.

    `iter_batches`, `to_reader` and `__arrow_c_stream__` read batch by batch, as often as wanted: DuckDB, polars
    and pandas scan it without loading it. Every other method of `pyarrow.Table` works by loading the whole
    table first.
    """

    def __init__(self, path: Path, schema: pa.Schema, num_rows: int, nbytes: int) -> None:
        self.path = path
        self.schema = schema
        self.num_rows = num_rows
        self.nbytes = nbytes

    @property
    def column_names(self) -> list[str]:
        return list(self.schema.names)

    @property
    def num_columns(self) -> int:
        return len(self.schema)

    def __len__(self) -> int:
        return self.num_rows

    def iter_batches(self) -> Iterator[pa.RecordBatch]:
        """A new scan from the first row."""
        with pa.OSFile(str(self.path), "rb") as source, pa.ipc.open_file(source) as reader:
            for index in range(reader.num_record_batches):
                yield reader.get_batch(index)

    def to_reader(self) -> pa.RecordBatchReader:
        """A new scan as a `pyarrow.RecordBatchReader`."""
        return pa.RecordBatchReader.from_batches(self.schema, self.iter_batches())

    def to_table(self) -> pa.Table:
        """The whole table in memory."""
        return pa.Table.from_batches(list(self.iter_batches()), self.schema)

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        reader: Any = self.to_reader()
        stream: object = reader.__arrow_c_stream__(requested_schema)
        return stream

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.to_table(), name)


Table = pa.Table | SpilledTable


class TableStore:
    """
    Holds the outputs of steps until their last reader is done.

    Args:
        spill_dir: Where tables go that do not fit; made on first use.
        budget_bytes: How much may be held in memory at a time, over all tables.
    """

    def __init__(self, spill_dir: Path, budget_bytes: int) -> None:
        self._spill_dir = spill_dir
        self._budget_bytes = budget_bytes
        self._lock = threading.Lock()
        self._held_bytes = 0
        self._spilled = 0
        self._held: dict[int, int] = {}

    @property
    def held_bytes(self) -> int:
        """What is held in memory now."""
        return self._held_bytes

    def keep(self, outputs: Mapping[str, Any]) -> dict[str, Any]:
        """
        Take over what a step returned: tables are consumed here and now, JSON values are copied.

        Raises:
            TypeError: A value is neither a table nor JSON.
        """
        return {str(name): self._keep_one(str(name), value) for name, value in outputs.items()}

    def _keep_one(self, name: str, value: Any) -> Any:
        if isinstance(value, SpilledTable):
            return self._keep_batches(value.schema, value.iter_batches())
        if isinstance(value, pa.Table):
            return self._keep_table(value)
        if hasattr(value, "__arrow_c_stream__"):
            # Through the C interface an error of a driver's own generator would arrive as a bare ArrowInvalid.
            direct = isinstance(value, pa.RecordBatchReader)
            reader = value if direct else pa.RecordBatchReader.from_stream(value)
            schema = _without_pandas_index(reader.schema)
            if schema is not reader.schema:
                return self._keep_batches(schema, (batch.select(schema.names) for batch in reader))
            return self._keep_batches(schema, reader)
        try:
            return json.loads(json.dumps(value))
        except (TypeError, ValueError) as exc:
            raise TypeError(
                f"output {name!r} is a {type(value).__name__}: return a table (anything with "
                f"__arrow_c_stream__) or a JSON value ({exc})"
            ) from exc

    def _keep_table(self, table: pa.Table) -> Table:
        if self._admit(table.nbytes):
            self._held[id(table)] = table.nbytes
            return table
        return self._spill(table.schema, table.to_batches())

    def _keep_batches(self, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Table:
        held: list[pa.RecordBatch] = []
        admitted = 0
        source = iter(batches)
        try:
            for batch in source:
                if not self._admit(batch.nbytes):
                    return self._spill(schema, _chain(held, batch, source))
                admitted += batch.nbytes
                held.append(batch)
            table = pa.Table.from_batches(held, schema)
            self._held[id(table)] = admitted
            admitted = 0
            return table
        finally:
            self._give_back(admitted)

    def _admit(self, size_bytes: int) -> bool:
        with self._lock:
            if self._held_bytes + size_bytes > self._budget_bytes:
                return False
            self._held_bytes += size_bytes
            return True

    def _give_back(self, size_bytes: int) -> None:
        with self._lock:
            self._held_bytes -= size_bytes

    def _spill(self, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> SpilledTable:
        with self._lock:
            self._spilled += 1
            path = self._spill_dir / f"table-{self._spilled}.arrow"
        self._spill_dir.mkdir(parents=True, exist_ok=True)
        return write_ipc(path, schema, batches)

    def release(self, value: Any) -> None:
        """Let go of one output, for good: nobody reads it any more. Anything else than a table is ignored."""
        if isinstance(value, SpilledTable):
            if value.path.is_relative_to(self._spill_dir):
                value.path.unlink(missing_ok=True)
        elif isinstance(value, pa.Table):
            self._give_back(self._held.pop(id(value), 0))


def write_ipc(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> SpilledTable:
    """
    Write batches as an Arrow IPC file and return the table that scans it.

    Nothing is left at `path` when a batch cannot be produced or written.
    """
    num_rows = nbytes = 0
    try:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
                num_rows += batch.num_rows
                nbytes += batch.nbytes
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return SpilledTable(path, schema, num_rows, nbytes)


def open_ipc(path: Path) -> SpilledTable:
    """The table in an Arrow IPC file, without loading it."""
    with pa.OSFile(str(path), "rb") as source, pa.ipc.open_file(source) as reader:
        num_rows = nbytes = 0
        for index in range(reader.num_record_batches):
            batch = reader.get_batch(index)
            num_rows += batch.num_rows
            nbytes += batch.nbytes
        return SpilledTable(path, reader.schema, num_rows, nbytes)


def _chain(
    held: list[pa.RecordBatch], batch: pa.RecordBatch, rest: Iterator[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """What was held, then the rest; what was held is let go as it is written."""
    held.reverse()
    while held:
        yield held.pop()
    yield batch
    yield from rest


def _without_pandas_index(schema: pa.Schema) -> pa.Schema:
    """pandas sends an index that is not a plain range as an extra column; no other step asked for it."""
    names = [name for name in schema.names if not _PANDAS_INDEX.fullmatch(name)]
    if len(names) == len(schema.names):
        return schema
    return pa.schema([schema.field(name) for name in names])


def is_table(value: Any) -> bool:
    """Whether a kept output is a table (and not a JSON value)."""
    return isinstance(value, (pa.Table, SpilledTable))
