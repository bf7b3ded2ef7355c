"""What is written, as every writer of a database looks at it: batches of plain types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from osiris_core.tables import SpilledTable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from osiris_core.tables import Table


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type of the values behind dictionaries, views, large offsets, run lengths and extension types."""
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return plain_type(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind) or pa.types.is_fixed_size_binary(kind):
        return pa.binary()
    if pa.types.is_date64(kind):
        return pa.date32()
    if pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind):
        return pa.list_(plain_type(kind.value_type))
    return kind


def plain_batches(table: Table, batch_size: int) -> Iterator[pa.RecordBatch]:
    """The rows in batches of at most `batch_size`, each column in its `plain_type`."""
    kinds = [plain_type(field.type) for field in table.schema]
    names = list(table.schema.names)
    for batch in table.iter_batches() if isinstance(table, SpilledTable) else table.to_batches():
        columns = [
            column if column.type == kind else _plain(column, kind)
            for column, kind in zip(batch.columns, kinds, strict=True)
        ]
        made = pa.RecordBatch.from_arrays(columns, names)
        for start in range(0, made.num_rows, batch_size):
            yield made.slice(start, batch_size)


def _plain(column: Any, kind: pa.DataType) -> Any:
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    return column if column.type == kind else column.cast(kind)
