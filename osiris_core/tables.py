"""
The only hand-over of data between steps: Arrow, by reference while it fits the budget, from disk when it does not.

What outgrows the budget is written as an Arrow IPC stream while it is being produced. It is read back in batches,
never mapped (mapped pages count as the process's memory), through an object that can be scanned any number of times.
(The stream format, because the file format takes only one dictionary a column, known from the first batch on.)
"""

from __future__ import annotations

import json
import re
import threading
import weakref
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from osiris_core.errors import naming

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

BATCH_OVERHEAD_BYTES = 400
"""What a batch, and each column of it, weighs in memory besides its data, about."""
_PANDAS_INDEX = re.compile(r"__index_level_\d+__")


class SpilledTable:
    """
    A table on disk that answers like a `pyarrow.Table`.

    `iter_batches`, `to_reader` and `__arrow_c_stream__` read batch by batch, as often as wanted: DuckDB, polars
    and pandas scan it without loading it. Every other method of `pyarrow.Table`, and `table[column]`, works by
    loading the whole table first.
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

    @property
    def shape(self) -> tuple[int, int]:
        return self.num_rows, self.num_columns

    def __len__(self) -> int:
        return self.num_rows

    def __repr__(self) -> str:
        return f"<SpilledTable of {self.num_rows} rows: {', '.join(self.column_names)}>"

    def __getitem__(self, key: Any) -> Any:
        return self.to_table()[key]

    def iter_batches(self) -> Iterator[pa.RecordBatch]:
        """A new scan from the first row."""
        with pa.OSFile(str(self.path), "rb") as source, pa.ipc.open_stream(source) as reader:
            yield from reader

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
        if name.startswith("__") or not hasattr(pa.Table, name):  # asking for a name must not load the table
            raise AttributeError(f"a table has no {name!r}")
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
        self._lock = threading.RLock()  # a table that the garbage collector ends gives back from within
        self._held_bytes = 0
        self._spilled = 0
        self._kept: dict[int, weakref.finalize[..., Any]] = {}

    @property
    def held_bytes(self) -> int:
        """What is held in memory now."""
        return self._held_bytes

    def keep(self, outputs: Mapping[str, Any], own_dir: Path | None = None) -> dict[str, Any]:
        """
        Take over what a step returned: tables are consumed here and now, JSON values are copied.

        A `SpilledTable` that the step wrote below `own_dir`, its own work directory, is not written again: its file
        is moved. A table that nobody refers to any more is let go of as if it was released.

        Raises:
            TypeError: A value is neither a table nor JSON; nothing is held then of what came before it.
        """
        kept: dict[str, Any] = {}
        try:
            for name, value in outputs.items():
                adopted = self._adopted(value, own_dir)
                kept[str(name)] = adopted if adopted is not None else self._keep_one(str(name), value)
        except BaseException:
            for value in kept.values():
                self.release(value)
            raise
        return kept

    def _adopted(self, value: Any, own_dir: Path | None) -> SpilledTable | None:
        """The table with its file moved here; None for what is no file of the step's own."""
        if own_dir is None or not isinstance(value, SpilledTable) or value.path.is_symlink():
            return None
        if not value.path.resolve().is_relative_to(own_dir.resolve()):
            return None
        path = self._new_path()
        value.path.replace(path)
        value.path = path  # the same one may be returned twice, under two names
        table = SpilledTable(path, value.schema, value.num_rows, value.nbytes)
        self._kept[id(table)] = weakref.finalize(table, path.unlink, missing_ok=True)
        return table

    def _keep_one(self, name: str, value: Any) -> Any:
        if isinstance(value, SpilledTable):
            return self._keep_batches(value.schema, value.iter_batches())
        if isinstance(value, pa.Table):
            return self._keep_table(value)
        if isinstance(value, pa.RecordBatch):
            return self._keep_table(pa.Table.from_batches([value]))
        if hasattr(value, "__arrow_c_stream__"):
            # Through the C interface an error of a driver's own generator would arrive as a bare ArrowInvalid.
            direct = isinstance(value, pa.RecordBatchReader)
            reader = value if direct else _reader(name, value)
            schema = _without_pandas_index(reader.schema)
            if schema is not reader.schema:
                return self._keep_batches(schema, (batch.select(schema.names) for batch in reader))
            return self._keep_batches(schema, reader)
        try:
            return json.loads(json.dumps(value, default=_plain))
        except (TypeError, ValueError) as exc:
            raise TypeError(
                f"output {name!r} is a {type(value).__name__}: return a table (anything with "
                f"__arrow_c_stream__) or a JSON value ({exc})"
            ) from exc

    def _keep_table(self, table: pa.Table) -> Table:
        # A slice keeps the whole of what it was cut from in memory.
        size_bytes = table.get_total_buffer_size()
        if self._admit(size_bytes):
            # A new object: the same one may be returned twice, under two names or by two steps.
            return self._hold(table.slice(), size_bytes)
        return self._spill(table.schema, table.to_batches())

    def _hold(self, table: pa.Table, size_bytes: int) -> pa.Table:
        self._kept[id(table)] = weakref.finalize(table, self._give_back, size_bytes)
        return table

    def _keep_batches(self, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Table:
        held: list[pa.RecordBatch] = []
        admitted = 0
        source = iter(batches)
        try:
            for batch in source:
                # Thousands of tiny batches weigh more than what is in them.
                size_bytes = batch.nbytes + BATCH_OVERHEAD_BYTES * (1 + batch.num_columns)
                if not self._admit(size_bytes):
                    return self._spill(schema, _chain(held, batch, source))
                admitted += size_bytes
                held.append(batch)
            table = self._hold(pa.Table.from_batches(held, schema), admitted)
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
        path = self._new_path()
        table = write_ipc(path, schema, batches)
        self._kept[id(table)] = weakref.finalize(table, path.unlink, missing_ok=True)
        return table

    def _new_path(self) -> Path:
        with self._lock:
            self._spilled += 1
            path = self._spill_dir / f"table-{self._spilled}.arrow"
        self._spill_dir.mkdir(parents=True, exist_ok=True)
        return path

    def release(self, value: Any) -> None:
        """Let go of one output, for good: nobody reads it any more. Anything else than a table is ignored."""
        if is_table(value) and (finalizer := self._kept.get(id(value))) is not None:
            found = finalizer.peek()
            if found is not None and found[0] is value:  # else the id belonged to a table that is gone
                finalizer()
                self._kept.pop(id(value), None)


def write_ipc(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> SpilledTable:
    """
    Write batches as an Arrow IPC stream into a file and return the table that scans it.

    Nothing is left at `path` when a batch cannot be produced or written.
    """
    num_rows = nbytes = 0
    try:
        with naming(path), pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
                num_rows += batch.num_rows
                nbytes += batch.nbytes
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return SpilledTable(path, schema, num_rows, nbytes)


def open_ipc(path: Path) -> SpilledTable:
    """The table in a file that `write_ipc` wrote, without loading it as a whole."""
    with pa.OSFile(str(path), "rb") as source, pa.ipc.open_stream(source) as reader:
        num_rows = nbytes = 0
        for batch in reader:
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


def _reader(name: str, value: Any) -> pa.RecordBatchReader:
    try:
        return pa.RecordBatchReader.from_stream(value)
    except pa.ArrowInvalid as exc:
        raise TypeError(f"output {name!r} is a {type(value).__name__}, which is no table: {exc}") from exc


def _plain(value: Any) -> Any:
    """A numpy number as a plain one."""
    if hasattr(value, "dtype") and getattr(value, "ndim", None) == 0:
        return value.item()
    raise TypeError(f"{type(value).__name__} is no JSON value")


def _without_pandas_index(schema: pa.Schema) -> pa.Schema:
    """pandas sends an index that is not a plain range as an extra column; no other step asked for it."""
    names = [name for name in schema.names if not _PANDAS_INDEX.fullmatch(name)]
    if len(names) == len(schema.names):
        return schema
    return pa.schema([schema.field(name) for name in names])


def is_table(value: Any) -> bool:
    """Whether a kept output is a table (and not a JSON value)."""
    return isinstance(value, (pa.Table, SpilledTable))
