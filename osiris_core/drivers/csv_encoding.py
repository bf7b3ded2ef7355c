"""A file of any encoding and compression as one stream of UTF-8 bytes."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import IO, Any, Protocol, cast

import pyarrow as pa

_BY_SUFFIX = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".xz": "xz", ".zip": "zip"}
_BOMS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


class UnreadableText(ValueError):
    """Bytes that are not what the configuration says; the message names place and remedy."""


class ByteStream(Protocol):
    """Anything that is read in pieces until it returns nothing."""

    def read(self, size: int, /) -> bytes: ...

    def close(self) -> Any: ...


def open_utf8(path: str, encoding: str, compression: str) -> ByteStream:
    """
    Open `path` as UTF-8 bytes without a byte-order mark. A UTF-16 mark wins over `encoding`.

    UTF-8 itself is passed on unchecked: whoever parses it checks it.

    Raises:
        LookupError: There is no such codec (a `TextCodec` is one).
        UnreadableText: The text is UTF-16 and nothing says so; from `read`: a byte that cannot be decoded, a broken
            or truncated archive.
    """
    raw = _Archive(path, compression)
    try:
        codec = codecs.lookup(encoding).name
        head = raw.read(4096)
        encoding, skip = _real_encoding(codec, head)
        return _Prefixed(raw, head[skip:]) if encoding == "utf-8" else _Transcoder(raw, encoding, head[skip:], skip)
    except BaseException:
        raw.close()
        raise


def _real_encoding(codec: str, head: bytes) -> tuple[str, int]:
    """The encoding to decode with, and the size of the byte-order mark in bytes."""
    codec = "utf-8" if codec == "utf-8-sig" else codec
    for mark, marked in _BOMS.items():
        if head.startswith(mark) and (codec.startswith("utf-16") or codec == "utf-8" or marked == "utf-8"):
            return marked, len(mark)
    if codec == "utf-16":
        # Without a mark only the text tells: a header is mostly ASCII, so zeros stand at one parity.
        return ("utf-16-be" if head[0::2].count(0) > head[1::2].count(0) else "utf-16-le"), 0
    if codec == "utf-8" and b"\0" in head:
        order = "be" if head[0::2].count(0) > head[1::2].count(0) else "le"
        if head.count(0) * 4 < len(head):
            line = head[: head.index(0)].count(b"\n") + 1
            raise UnreadableText(f"line {line} holds a NUL byte, which is no text")
        raise UnreadableText(f"the text holds NUL bytes and is not UTF-8; try encoding: utf-16-{order}")
    return codec, 0


class _Archive:
    """The bytes of a file, decompressed; whatever its library says about a broken archive becomes `UnreadableText`."""

    def __init__(self, path: str, compression: str) -> None:
        kind = _BY_SUFFIX.get(Path(path).suffix.lower(), "none") if compression == "infer" else compression
        self._kind = kind
        self._file: Any = _open_archive(path, kind)

    def read(self, size: int, /) -> bytes:
        if self._kind == "none":
            data: bytes = self._file.read(size)
            return data
        try:
            return bytes(self._file.read(size))
        except Exception as exc:
            raise UnreadableText(f"the {self._kind} archive is broken or truncated: {exc}") from exc

    def close(self) -> None:
        self._file.close()


def _open_archive(path: str, kind: str) -> IO[bytes] | Any:
    if kind == "none":
        return Path(path).open("rb", buffering=0)
    if kind == "xz":
        import lzma

        return lzma.open(path)
    if kind == "zip":
        return _open_zip(path)
    return pa.CompressedInputStream(pa.OSFile(path, "rb"), cast("Any", kind))


def _open_zip(path: str) -> IO[bytes]:
    import zipfile

    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as exc:
        raise UnreadableText(f"the zip archive is broken or truncated: {exc}") from exc
    names = [name for name in archive.namelist() if not name.endswith("/")]
    if len(names) != 1:
        raise UnreadableText(f"the zip archive must hold exactly one file, it holds {len(names)}")
    return archive.open(names[0])


class _Prefixed:
    """A stream whose head was read already."""

    def __init__(self, raw: _Archive, head: bytes) -> None:
        self._raw, self._head = raw, head

    def read(self, size: int, /) -> bytes:
        if self._head:
            head, self._head = self._head, b""
            return head
        return self._raw.read(size)

    def close(self) -> None:
        self._raw.close()


class _Transcoder:
    """Another encoding as UTF-8."""

    def __init__(self, raw: _Archive, encoding: str, head: bytes, skipped_bytes: int) -> None:
        self._raw, self._encoding, self._head = raw, encoding, head
        self._decoder = codecs.getincrementaldecoder(encoding)("strict")
        self._fed_bytes, self._lines = skipped_bytes, 0

    def read(self, size: int, /) -> bytes:
        while True:
            data, self._head = self._head or self._raw.read(size), b""
            self._fed_bytes += len(data)
            text = self._decode(data)
            self._lines += text.count("\n")
            if text or not data:
                return text.encode("utf-8", "surrogatepass")

    def _decode(self, data: bytes) -> str:
        try:
            return self._decoder.decode(data, final=not data)
        except UnicodeDecodeError as exc:
            offset = self._fed_bytes - len(exc.object) + exc.start
            good = exc.object[: exc.start].decode(self._encoding, "replace")
            raise UnreadableText(
                f"line {self._lines + good.count(chr(10)) + 1}: byte {offset} "
                f"(0x{exc.object[exc.start]:02x}) is not {self._encoding}; check `encoding`"
            ) from exc

    def close(self) -> None:
        self._raw.close()


def find_bad_utf8(path: str, compression: str) -> str | None:
    """Where the first byte is that is not UTF-8, for people; None if there is none."""
    raw = _Archive(path, compression)
    stream = _Transcoder(raw, "utf-8", b"", 0)
    try:
        while stream.read(1 << 20):
            pass
    except UnreadableText as exc:
        return str(exc)
    finally:
        raw.close()
    return None
