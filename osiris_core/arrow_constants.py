"""
Arrow values made of Python ones without `pyarrow.array` and `pyarrow.scalar`.

Their first call imports pandas wherever it is installed (150 ms), only to ask whether the value is a pandas object.
"""

from __future__ import annotations

import struct
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Sequence


def text_array(values: Sequence[str]) -> Any:
    """The texts as a `pyarrow.StringArray`."""
    encoded = [value.encode() for value in values]
    offsets = struct.pack(f"={len(encoded) + 1}i", 0, *accumulate(map(len, encoded)))
    return pa.StringArray.from_buffers(len(encoded), pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded)))


def text_scalar(value: str) -> Any:
    """One text as a `pyarrow.StringScalar`."""
    return text_array([value])[0]


def int32_scalar(value: int) -> Any:
    """One number as a `pyarrow.Int32Scalar`."""
    return pa.Array.from_buffers(pa.int32(), 1, [None, pa.py_buffer(struct.pack("=i", value))])[0]


def int64_scalar(value: int) -> Any:
    """One number as a `pyarrow.Int64Scalar`."""
    return pa.Array.from_buffers(pa.int64(), 1, [None, pa.py_buffer(struct.pack("=q", value))])[0]


def float64_scalar(value: float) -> Any:
    """One number as a `pyarrow.DoubleScalar`."""
    return pa.Array.from_buffers(pa.float64(), 1, [None, pa.py_buffer(struct.pack("=d", value))])[0]


def null_scalar(kind: Any) -> Any:
    """The null of a type."""
    return pa.nulls(1, kind)[0]
