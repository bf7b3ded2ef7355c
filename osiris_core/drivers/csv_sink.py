"""A file that appears whole or not at all, encoded and compressed on the way."""

from __future__ import annotations

import codecs
import os
import secrets
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from osiris_core.errors import naming

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType


class TextSink:
    """
    Takes UTF-8 and writes it beside `path` in another encoding, compressed by the end of the name.

    `commit` moves the file into place; leaving the block without it leaves nothing.
    """

    def __init__(self, path: Path, encoding: str) -> None:
        self._path = path
        self._part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        utf8 = codecs.lookup(encoding).name == "utf-8"
        self._encoder = None if utf8 else codecs.getincrementalencoder(encoding)("strict")
        self._file: Any = None

    def __enter__(self) -> TextSink:
        self._raw = self._part.open("wb", buffering=0)
        self._file = _compressed(self._raw, self._path.suffix.lower())
        return self

    def write(self, data: pa.Buffer | bytes) -> None:
        """
        Write some UTF-8.

        Raises:
            UnicodeEncodeError: A character that the encoding does not have; `object` is the text given.
        """
        view = memoryview(data)
        out = view if self._encoder is None else memoryview(self._encoder.encode(str(view, "utf-8")))
        with naming(self._path):
            while out:
                written = self._file.write(out)
                out = out[len(out) if written is None else written :]

    def close(self) -> None:
        """Everything is in the file beside."""
        with naming(self._path):
            if self._file is not self._raw:
                self._file.close()
            self._raw.close()

    def commit(self) -> None:
        """Move the closed file into place."""
        os.replace(self._part, self._path)  # noqa: PTH105 - the name says what it promises

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if not self._raw.closed:
                self.close()
        finally:
            self._part.unlink(missing_ok=True)


def _compressed(raw: Any, suffix: str) -> Any:
    if suffix == ".gz":
        import gzip

        # No name and no time: the same rows are the same bytes.
        return gzip.GzipFile("", "wb", 6, raw, mtime=0)
    if suffix == ".bz2":
        import bz2

        return bz2.BZ2File(raw, "wb")
    if suffix == ".xz":
        import lzma

        return lzma.LZMAFile(raw, "wb")
    return pa.CompressedOutputStream(pa.PythonFile(raw, "w"), "zstd") if suffix == ".zst" else raw
