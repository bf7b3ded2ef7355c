"""The only packing of trees: tar, gzipped or not, streamed, the same bytes for the same tree."""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
import tarfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

from osiris_core.errors import naming

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

BLOCK_BYTES = 1 << 20


def pack(folder: Path, archive: Path, names: Iterable[str] | None = None) -> None:
    """
    Write every file below `folder`, or only the named ones, into `archive`: sorted, without owners and times.

    Written beside and moved into place; nothing is left when it fails. Links are packed as links, hard links as
    files of their own, other special files are left out.
    """
    beside = archive.with_name(f".{archive.name}.{os.getpid()}")
    try:
        with (
            beside.open("wb") as raw,
            gzip.GzipFile("", "wb", 1, raw, mtime=0) as zipped,
            tarfile.open(fileobj=zipped, mode="w|", format=tarfile.PAX_FORMAT) as tar,
        ):
            for path in sorted(folder.rglob("*") if names is None else (folder / name for name in names)):
                if path in (archive, beside):
                    continue
                if path.is_symlink() or path.is_file() or path.is_dir():
                    tar.inodes.clear()  # type: ignore[attr-defined] # else a second name of a file becomes a link
                    tar.add(path, arcname=path.relative_to(folder).as_posix(), recursive=False, filter=_plain)
        beside.replace(archive)
    finally:
        beside.unlink(missing_ok=True)


def pack_stream(folder: Path, prefix: str) -> Iterator[bytes]:
    """
    Everything below `folder` as a tar without compression, in pieces; members' names start with `prefix`.

    Links are packed as links, hard links as files of their own, empty directories too; other special files are left
    out. What is read is never held in memory.

    Raises:
        OSError: A file cannot be read, or became shorter meanwhile.
    """
    for path in [folder, *sorted(folder.rglob("*"))]:
        if not (path.is_symlink() or path.is_file() or path.is_dir()):
            continue
        relative = path.relative_to(folder).as_posix()
        member = _plain(tarfile.TarInfo(prefix if relative == "." else f"{prefix}/{relative}"))
        status = path.lstat()
        member.mode = status.st_mode & 0o777
        if path.is_symlink():
            member.type, member.linkname = tarfile.SYMTYPE, str(path.readlink())
        elif path.is_dir():
            member.type = tarfile.DIRTYPE
        else:
            member.size = status.st_size
        yield member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        if member.isreg():
            yield from _content(path, member.size)
    yield b"\0" * (2 * tarfile.BLOCKSIZE)


def _content(path: Path, size_bytes: int, *, pad: bool = True) -> Iterator[bytes]:
    left_bytes = size_bytes
    with path.open("rb") as file:
        while left_bytes:
            block = file.read(min(BLOCK_BYTES, left_bytes))
            if not block:
                raise OSError(errno.EIO, "the file became shorter while it was packed", str(path))
            left_bytes -= len(block)
            yield block
    if pad and size_bytes % tarfile.BLOCKSIZE:
        yield b"\0" * (tarfile.BLOCKSIZE - size_bytes % tarfile.BLOCKSIZE)


def pack_files(
    files: Iterable[tuple[str, Path | bytes]], target: BinaryIO, *, end: bool = True
) -> Iterator[tuple[str, int, str]]:
    """
    Write files under the given names into `target`, a tar without compression; give name, size and sha256 of each.

    Lazy: a file is written when its result is asked for. When they are used up the archive gets its end, or with
    `end=False` another call may go on. Contents are hashed while they are written, and never held in memory. Folders
    are implied by names.

    Raises:
        OSError: A file cannot be read, or became shorter meanwhile; `target` is then of no use.
    """
    for name, content in files:
        member = _plain(tarfile.TarInfo(name))
        blocks: Iterable[bytes]
        if isinstance(content, bytes):
            member.size, member.mode = len(content), 0o644
            blocks = (content, b"\0" * (-len(content) % tarfile.BLOCKSIZE))
        else:
            status = content.stat()
            member.size, member.mode = status.st_size, status.st_mode & 0o777
            blocks = _content(content, member.size)
        target.write(member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))
        digest, left_bytes = hashlib.sha256(), member.size
        for block in blocks:
            target.write(block)
            digest.update(memoryview(block)[:left_bytes])
            left_bytes -= min(left_bytes, len(block))
        yield name, member.size, digest.hexdigest()
    if end:
        target.write(b"\0" * (2 * tarfile.BLOCKSIZE))


MANIFEST_NAME = "MANIFEST.sha256"
"""The last member of what `pack_hashed` writes: what `sha256sum -c` takes."""


def pack_hashed(folder: Path, names: Iterable[str], archive: Path, form: str) -> list[tuple[str, int, str]]:
    """
    Write the named files of `folder` into `archive` (`tar`, `tar.gz`, `tar.zst` or `zip`), and a list of their sha256
    as the last member; give name, size and sha256 of each. The same files give the same bytes.

    Written beside and moved into place; nothing is left when it fails. No content is held in memory.

    Raises:
        ValueError: There is no such form, or a file has the list's own name.
        OSError: A file cannot be read, became shorter meanwhile, or the archive cannot be written.
    """
    files = [(name, folder / name) for name in names]
    if any(name == MANIFEST_NAME for name, _ in files):
        raise ValueError(f"{MANIFEST_NAME} is written by the archive itself; rename that file")
    beside = archive.with_name(f".{archive.name}.{os.getpid()}")
    try:
        with naming(archive):
            if form == "zip":
                packed = _zip(files, beside)
            else:
                with _opened(beside, form) as target:
                    packed = list(pack_files(files, target, end=False))
                    for _ in pack_files([(MANIFEST_NAME, _manifest(packed))], target):
                        pass
            beside.replace(archive)
    finally:
        beside.unlink(missing_ok=True)
    return packed


def _manifest(packed: Iterable[tuple[str, int, str]]) -> bytes:
    return "".join(f"{sha256}  {name}\n" for name, _, sha256 in packed).encode("utf-8", "surrogateescape")


@contextmanager
def _opened(path: Path, form: str) -> Iterator[BinaryIO]:
    if form == "tar":
        with path.open("wb") as file:
            yield file
    elif form == "tar.gz":
        with path.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as zipped:
            yield zipped  # type: ignore[misc]
    elif form == "tar.zst":
        import pyarrow as pa

        with pa.CompressedOutputStream(str(path), "zstd") as stream:
            yield stream  # type: ignore[misc]
    else:
        raise ValueError(f"there is no archive of form {form!r}; known: tar, tar.gz, tar.zst, zip")


def _zip(files: Iterable[tuple[str, Path]], target: Path) -> list[tuple[str, int, str]]:
    import zipfile

    packed = []
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, allowZip64=True) as archive:
        for name, path in files:
            status = path.stat()
            info = _zip_member(name, status.st_mode)
            digest = hashlib.sha256()
            with archive.open(info, "w", force_zip64=status.st_size >= zipfile.ZIP64_LIMIT) as member:
                for block in _content(path, status.st_size, pad=False):
                    member.write(block)
                    digest.update(block)
            packed.append((name, status.st_size, digest.hexdigest()))
        archive.writestr(_zip_member(MANIFEST_NAME, 0o644), _manifest(packed))
    return packed


def _zip_member(name: str, mode: int) -> Any:
    import zipfile

    info = zipfile.ZipInfo(name)  # of 1980: the same bytes for the same tree
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = (0o100000 | mode & 0o777) << 16
    return info


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime = 0
    return member
