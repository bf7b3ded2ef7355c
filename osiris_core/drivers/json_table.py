"""Pages of records into one table, held on disk until the types of every column are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from osiris_core.drivers.json_exact import json_text
from osiris_core.drivers.json_flatten import NameClash, flatten
from osiris_core.drivers.json_kinds import Shape, final, held, nulls, shape_of
from osiris_core.suggestion import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

HELD_BYTES = 8 << 20
"""How much of the pages waits in memory; what comes then goes to disk."""
BATCH_ROWS = 10_000


class BadRecord(ValueError):
    """A record, or a value of one, that the table cannot hold as asked."""


class RecordTable:
    """
    Takes records page by page, gives them back as one stream of batches.

    Column types hold for all pages: see `json_kinds`. Memory holds a page, and `HELD_BYTES` of those before.

    Args:
        work_dir: Gives a private folder when one is needed.
        separator: Between the names of nested objects; None keeps them whole.
        columns: Only these, in this order; every one that there is without it, in the order of first sight.
        types: Types asked for, by column.
        raw_column: A column that has each record as the JSON it was.
    """

    def __init__(
        self,
        work_dir: Callable[[], Path],
        *,
        separator: str | None = ".",
        columns: Sequence[str] | None = None,
        types: Mapping[str, pa.DataType] | None = None,
        raw_column: str | None = None,
    ) -> None:
        self._work_dir = work_dir
        self._separator = separator
        self._columns = list(columns) if columns is not None else None
        self._types = dict(types or {})
        self._raw_column = raw_column
        self._shapes: dict[str, Shape] = {}
        self._held: list[pa.RecordBatch] = []
        self._held_bytes = 0
        self._file: Path | None = None
        self.num_rows = 0

    def add(self, records: Sequence[Any]) -> None:
        """
        Take a page.

        Raises:
            BadRecord: A record cannot be a row.
        """
        for start in range(0, len(records), BATCH_ROWS):
            self._add(records[start : start + BATCH_ROWS])

    def _add(self, records: Sequence[Any]) -> None:
        rows = []
        for number, record in enumerate(records, self.num_rows + 1):
            try:
                row = flatten(record, self._separator)
            except NameClash as exc:
                raise BadRecord(f"record {number}: {exc}") from None
            if self._raw_column is not None:
                if self._raw_column in row:
                    raise BadRecord(f"record {number} has a {self._raw_column!r} of its own; set another raw_column")
                row[self._raw_column] = json_text(record)
            rows.append(row)
        names = dict.fromkeys(name for row in rows for name in row)
        arrays: list[Any] = []
        for name in names:
            values = [row.get(name) for row in rows]
            shape = shape_of(values)
            known = self._shapes.get(name)
            self._shapes[name] = shape if known is None else known.join(shape)
            try:
                arrays.append(held(values, shape))
            except UnicodeEncodeError:
                raise BadRecord(f"column {name!r}: a text in it is broken (half of a surrogate pair)") from None
        self.num_rows += len(rows)
        if arrays:
            self._hold(pa.RecordBatch.from_arrays(arrays, list(names)))
        else:  # records without anything in them are rows all the same
            nothing: Any = pa.array([{}] * len(rows), pa.struct([]))
            self._hold(pa.RecordBatch.from_struct_array(nothing))

    def _hold(self, batch: pa.RecordBatch) -> None:
        self._held.append(batch)
        self._held_bytes += batch.nbytes
        if self._held_bytes > HELD_BYTES:
            self._file = self._file or self._work_dir() / "records.arrow"
            with self._file.open("ab") as sink:
                for one in self._held:
                    with pa.ipc.new_stream(sink, one.schema) as writer:
                        writer.write_batch(one)
            self._held, self._held_bytes = [], 0

    def schema(self) -> pa.Schema:
        """
        The columns and their types, once every page is in.

        Raises:
            BadRecord: A column that was asked for is in no record.
        """
        shapes = {name: shape for name, shape in self._shapes.items() if not self._stands_for_object(name)}
        names = self._columns if self._columns is not None else list(shapes)
        if self.num_rows:
            for name in [*names, *self._types]:
                if name not in shapes:
                    hint = did_you_mean(name, shapes) or f"there are: {', '.join(list(shapes)[:20])}"
                    raise BadRecord(f"no record has a column {name!r} ({hint})")
        else:
            names = list(dict.fromkeys([*names, *(self._types if self._columns is None else ())]))
        empty = Shape()
        return pa.schema([(name, self._types.get(name, shapes.get(name, empty).arrow)) for name in names])

    def _stands_for_object(self, name: str) -> bool:
        """Whether a column only says where a nested object was null."""
        if self._separator is None or self._shapes[name] != Shape():
            return False
        return any(other.startswith(name + self._separator) for other in self._shapes)

    def batches(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """
        Every row in order, in the columns of `schema`.

        Raises:
            BadRecord: A value does not fit the type that was asked for its column.
        """
        done = 0
        for batch in self._pages():
            columns = []
            for field in schema:
                index = batch.schema.get_field_index(field.name)
                if index < 0:
                    columns.append(nulls(batch.num_rows, field.type))
                    continue
                columns.append(self._final(batch.column(index), field, done))
            done += batch.num_rows
            if columns:
                yield pa.RecordBatch.from_arrays(columns, schema=schema)

    def _final(self, array: Any, field: Any, done: int) -> Any:
        try:
            return final(array, field.type)
        except pa.ArrowInvalid as exc:
            for index in range(len(array)):
                try:
                    final(array.slice(index, 1), field.type)
                except pa.ArrowInvalid:
                    value = str(array[index].as_py())[:100]
                    message = f"column {field.name!r}: {value!r} in record {done + index + 1} is no {field.type}"
                    raise BadRecord(message) from exc
            raise BadRecord(f"column {field.name!r}: {exc}") from exc

    def _pages(self) -> Iterator[pa.RecordBatch]:
        if self._file is not None:
            with pa.OSFile(str(self._file), "rb") as source:
                size_bytes = source.size()
                while source.tell() < size_bytes:
                    with pa.ipc.open_stream(source) as stream:
                        yield from stream
        yield from self._held
