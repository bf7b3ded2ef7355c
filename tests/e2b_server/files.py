"""envd's /files: up, whole or in parts, and down, whole or in part."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import re
import zlib
from time import time
from typing import TYPE_CHECKING, BinaryIO

from python_multipart import MultipartParser
from python_multipart.multipart import parse_options_header

from tests.e2b_server.sandbox import OutsideSandbox

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2b_server.exchange import Exchange
    from tests.e2b_server.sandbox import Sandbox

PIECE_BYTES = 1 << 18
METADATA = "x-metadata-"


class DiskFull(Exception):
    """The sandbox may not hold more."""


def is_signed(exchange: Exchange, sandbox: Sandbox) -> bool:
    """Whether the request carries the sandbox's token, or an address that was signed with it and still holds."""
    if hmac.compare_digest(exchange.headers.get("x-access-token", ""), sandbox.token):
        return True
    query = exchange.query
    operation = "read" if exchange.seen.method == "GET" else "write"
    parts = [query.get("path", ""), operation, query.get("username", ""), sandbox.token]
    if expiration := query.get("signature_expiration"):
        parts.append(expiration)
        if int(expiration) < time():
            return False
    digest = hashlib.sha256(":".join(parts).encode()).digest()
    expected = "v1_" + base64.b64encode(digest).rstrip(b"=").decode()
    return hmac.compare_digest(query.get("signature", ""), expected)


async def serve(exchange: Exchange, sandbox: Sandbox) -> None:
    if not is_signed(exchange, sandbox):
        await exchange.refuse(401, "invalid signature" if "signature" in exchange.query else "missing access token")
        return
    if (user := exchange.query.get("username", "user")) not in ("user", "root"):
        await exchange.refuse(401, f"error looking up user '{user}': user: unknown user {user}")
        return
    try:
        if exchange.seen.method == "GET":
            await _download(exchange, sandbox.path(exchange.query.get("path", "")))
        else:
            await _upload(exchange, sandbox)
    except OutsideSandbox as exc:
        await exchange.refuse(400, str(exc))
    except DiskFull:
        await exchange.refuse(507, "not enough disk space available")
    except OSError as exc:
        await exchange.refuse(500, f"error at '{exc.filename}': {exc.strerror}")


async def _download(exchange: Exchange, path: Path) -> None:
    if not path.exists():
        await exchange.refuse(404, f"path '{path}' does not exist")
        return
    if path.is_dir():
        await exchange.refuse(400, f"path '{path}' is a directory")
        return
    with path.open("rb") as file:
        size = path.stat().st_size
        start, end = 0, size
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", exchange.headers.get("range", ""))
        headers = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes"}
        if wanted:
            start = int(wanted[1])
            end = min(size, int(wanted[2]) + 1) if wanted[2] else size
            if start >= size:
                await exchange.answer(416, headers={"Content-Range": f"bytes */{size}"})
                return
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        # Asked for or not by the caller: the SDK always says that it takes it, and envd then does it.
        if "gzip" in exchange.headers.get("accept-encoding", "") and not wanted:
            await exchange.begin(200, {**headers, "Content-Encoding": "gzip"})
            packer = zlib.compressobj(6, zlib.DEFLATED, 31)
            while data := file.read(PIECE_BYTES):
                if packed := await asyncio.to_thread(packer.compress, data):
                    await exchange.send(packed)
            await exchange.send(packer.flush())
        else:
            await exchange.begin(206 if wanted else 200, {**headers, "Content-Length": str(end - start)})
            file.seek(start)
            while start < end and (data := file.read(min(PIECE_BYTES, end - start))):
                start += len(data)
                await exchange.send(data)
        await exchange.finish()


async def _upload(exchange: Exchange, sandbox: Sandbox) -> None:
    kind, options = parse_options_header(exchange.headers.get("content-type", ""))
    if kind == b"multipart/form-data":
        writer: _Writer = _MultipartWriter(sandbox, exchange.query.get("path"), options[b"boundary"])
    else:
        writer = _PlainWriter(sandbox, exchange.query.get("path", ""), exchange.headers.get("content-encoding", ""))
    try:
        async for piece in exchange.body_pieces():
            writer.feed(piece)
        writer.end()
    finally:
        writer.close()
    given = {
        name.removeprefix(METADATA): value for name, value in exchange.headers.items() if name.startswith(METADATA)
    }
    for path in writer.written:
        sandbox.file_metadata[path] = given
    metadata = {"metadata": given} if given else {}
    written = [{"name": path.name, "path": str(path), "type": "file", **metadata} for path in writer.written]
    await exchange.answer_json(200, written)


class _Writer:
    """Writes to the files themselves: what was cut off on the way stays as far as it came."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self.written: list[Path] = []
        self._file: BinaryIO | None = None
        limit = sandbox.policy.disk_bytes
        self._room = None if limit is None else limit - _size_of(sandbox.home)

    def feed(self, data: bytes) -> None:
        raise NotImplementedError

    def end(self) -> None:
        self.close()

    def close(self) -> None:
        if self._file:
            self._file.close()
            self._file = None

    def open(self, name: str) -> None:
        self.close()
        path = self._sandbox.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("wb")
        self.written.append(path)

    def write(self, data: bytes) -> None:
        if self._room is not None:
            self._room -= len(data)
            if self._room < 0:
                raise DiskFull
        assert self._file
        self._file.write(data)


class _PlainWriter(_Writer):
    def __init__(self, sandbox: Sandbox, name: str, encoding: str) -> None:
        super().__init__(sandbox)
        self._unpacker = zlib.decompressobj(31) if encoding == "gzip" else None
        self.open(name)

    def feed(self, data: bytes) -> None:
        self.write(self._unpacker.decompress(data) if self._unpacker else data)

    def end(self) -> None:
        if self._unpacker:
            self.write(self._unpacker.flush())
        super().end()


class _MultipartWriter(_Writer):
    """Of several files each one's whole path is its file name; of a single one it may be in the address."""

    def __init__(self, sandbox: Sandbox, name: str | None, boundary: bytes) -> None:
        super().__init__(sandbox)
        self._name = name
        self._header = self._value = b""
        self._parser = MultipartParser(
            boundary,
            {
                "on_header_field": self._on_field,
                "on_header_value": self._on_value,
                "on_header_end": self._on_header_end,
                "on_part_data": lambda data, start, end: self.write(data[start:end]),
                "on_part_end": self.close,
            },
        )

    def _on_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            _, options = parse_options_header(self._value)
            self.open(self._name or options[b"filename"].decode())
        self._header = self._value = b""

    def feed(self, data: bytes) -> None:
        self._parser.write(data)

    def end(self) -> None:
        self._parser.finalize()
        super().end()


def _size_of(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
