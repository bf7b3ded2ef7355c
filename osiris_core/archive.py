"""The only packing and unpacking of trees: gzip tar, streamed, the same bytes for the same tree."""

from __future__ import annotations

import gzip
import os
import tarfile
from pathlib import Path, PurePosixPath

from osiris_core.errors import CollectError

MAX_UNPACKED_BYTES = 64 << 30
MAX_MEMBERS = 1_000_000


def pack(folder: Path, archive: Path) -> None:
    """
    Write every file below `folder` into `archive`, sorted, without owners and times.

    Written beside and moved into place; nothing is left when it fails. Links are packed as links, other
    special files are left out.
    """
    beside = archive.with_name(f".{archive.name}.{os.getpid()}")
    try:
        with (
            beside.open("wb") as raw,
            gzip.GzipFile("", "wb", 1, raw, mtime=0) as zipped,
            tarfile.open(fileobj=zipped, mode="w|", format=tarfile.PAX_FORMAT) as tar,
        ):
            for path in sorted(folder.rglob("*")):
                if path.is_symlink() or path.is_file() or path.is_dir():
                    tar.add(path, arcname=path.relative_to(folder).as_posix(), recursive=False, filter=_plain)
        beside.replace(archive)
    finally:
        beside.unlink(missing_ok=True)


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime = 0
    return member


def unpack(archive: Path, folder: Path, *, max_bytes: int = MAX_UNPACKED_BYTES, max_members: int = MAX_MEMBERS) -> None:
    """
    Unpack what `pack` wrote, or anybody, into `folder`.

    Raises:
        CollectError: A member is absolute, contains `..`, links out of `folder` or is a device, or there is more than
            the limits allow; or the archive is broken. What was unpacked until then stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    size_bytes = members = 0
    try:
        with tarfile.open(archive, mode="r|*") as tar:
            for member in tar:
                members += 1
                size_bytes += member.size
                if members > max_members or size_bytes > max_bytes:
                    raise CollectError(f"{archive} unpacks to more than {max_bytes} bytes or {max_members} members")
                if ".." in PurePosixPath(member.name).parts or not (member.isreg() or member.isdir() or member.issym()):
                    raise CollectError(f"{archive} holds {member.name!r}, which may not be unpacked")
                tar.extract(member, folder, filter="data")
    except (tarfile.TarError, EOFError, OSError) as exc:
        raise CollectError(f"{archive} cannot be unpacked: {exc}") from exc
