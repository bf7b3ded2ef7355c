"""A digest of rows that two tries of a step share, however their batches were cut and whatever lies under a null."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from osiris_core.arrow_constants import int64_scalar
from osiris_core.drivers.sql_content import plain_batches, plain_type

if TYPE_CHECKING:
    from collections.abc import Iterator

    from osiris_core.tables import Table

BATCH_ROWS = 1 << 16


def content_digest(table: Table) -> str:
    """Of columns, types and values. Reads the whole table."""
    kinds = [plain_type(field.type) for field in table.schema]
    columns = [_Digest(kind) for kind in kinds]
    for batch in plain_batches(table, BATCH_ROWS):
        for digest, values in zip(columns, batch.columns, strict=True):
            digest.update(values)
    named = [
        (name, str(kind), digest.parts()) for name, kind, digest in zip(table.schema.names, kinds, columns, strict=True)
    ]
    return hashlib.sha256(repr((table.num_rows, named)).encode()).hexdigest()


class _Digest:
    """Of the values of one column: one hash of where its nulls are, one of the values between them, in parts."""

    def __init__(self, kind: pa.DataType) -> None:
        self._rows = 0
        self._nulls = hashlib.sha256()
        self._lengths = hashlib.sha256()
        self._values = hashlib.sha256()
        self._items = [_Digest(item) for item in _item_types(kind)]

    def update(self, values: Any) -> None:
        rows = len(values)
        if values.null_count:
            places = pc.indices_nonzero(values.is_null()).cast(pa.int64())
            self._nulls.update(_bytes(pc.add(places, int64_scalar(self._rows)), 8))
            values = values.drop_null()
        self._rows += rows
        if pa.types.is_map(values.type):
            values = values.cast(_pairs_type(values.type))
        kind = values.type
        if pa.types.is_null(kind) or not len(values):
            return
        if pa.types.is_struct(kind):
            for digest, item in zip(self._items, values.flatten(), strict=True):
                digest.update(_plain(item))
        elif pa.types.is_list(kind):
            self._lengths.update(_bytes(pc.list_value_length(values), 4))
            self._items[0].update(_plain(values.flatten()))
        elif pa.types.is_string(kind) or pa.types.is_binary(kind):
            self._lengths.update(_bytes(pc.binary_length(values), 4))
            for piece in _text_bytes(values):
                self._values.update(piece)
        elif pa.types.is_boolean(kind):
            self._values.update(_bytes(values.cast(pa.int8()), 1))
        elif pa.types.is_primitive(kind) or pa.types.is_decimal(kind) or pa.types.is_interval(kind):
            self._values.update(_bytes(values, kind.bit_width // 8))
        else:
            for value in values.to_pylist():
                self._values.update(repr(value).encode() + b"\0")

    def parts(self) -> list[Any]:
        hashes = [found.hexdigest() for found in (self._nulls, self._lengths, self._values)]
        return [*hashes, *(item.parts() for item in self._items)]


def _item_types(kind: pa.DataType) -> list[pa.DataType]:
    if pa.types.is_map(kind):
        return _item_types(_pairs_type(kind))
    if pa.types.is_list(kind):
        return [plain_type(kind.value_type)]
    if pa.types.is_struct(kind):
        return [plain_type(kind.field(index).type) for index in range(kind.num_fields)]
    return []


def _pairs_type(kind: Any) -> pa.DataType:
    return pa.list_(pa.struct([("key", kind.key_type), ("value", kind.item_type)]))


def _plain(values: Any) -> Any:
    kind = plain_type(values.type)
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    return values if values.type == kind else values.cast(kind)


def _bytes(values: Any, width_bytes: int) -> pa.Buffer:
    buffer = values.buffers()[1]
    found: pa.Buffer = buffer.slice(values.offset * width_bytes, len(values) * width_bytes)
    return found


def _text_bytes(values: Any) -> Iterator[pa.Buffer]:
    _, offsets, data = values.buffers()
    if data is None:
        return
    start, end = (
        int.from_bytes(offsets.slice((values.offset + index) * 4, 4).to_pybytes(), "little")
        for index in (0, len(values))
    )
    yield data.slice(start, end - start)
