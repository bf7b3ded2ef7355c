"""A tar archive on its way into a container: the run's folders in front, everything owned by the run's user."""

from __future__ import annotations

import tarfile
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from adapters.docker_engine.spec import HOME_DIR, TEMP_DIR, WORK_DIR

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

COPY_BYTES = 1 << 20


def owned_archive(archive: Path | None, uid: int, gid: int) -> Generator[bytes, None, None]:
    """
    The stream to unpack where the run's volume is mounted: `archive` comes to lie below the work directory.

    Nothing of it is held in memory. Without an archive it is only the folders.

    Raises:
        tarfile.TarError: `archive` is none, or is cut short.
        OSError: It cannot be read.
    """
    for folder in (WORK_DIR, HOME_DIR, TEMP_DIR):
        yield _folder(folder.name, uid, gid)
    if archive is not None:
        made = {WORK_DIR.name}
        with archive.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as source:
            for member in source:
                member = _owned(member, uid, gid)
                # The engine makes a folder that is not in the archive too, but as root's.
                for parent in list(PurePosixPath(member.name).parents)[-2::-1]:
                    if str(parent) not in made:
                        made.add(str(parent))
                        yield _folder(str(parent), uid, gid)
                made.add(member.name)
                yield member.tobuf(tarfile.PAX_FORMAT)
                if member.isreg():
                    file.seek(member.offset_data)
                    yield from _padded(file.read, member.size, member.name)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _folder(name: str, uid: int, gid: int) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.uid, entry.gid = tarfile.DIRTYPE, 0o700, uid, gid
    return entry.tobuf(tarfile.PAX_FORMAT)


def _owned(member: tarfile.TarInfo, uid: int, gid: int) -> tarfile.TarInfo:
    name = member.name.removeprefix("./").strip("/")
    member.name = f"{WORK_DIR.name}/{name}" if name not in ("", ".") else WORK_DIR.name
    if member.islnk():
        member.linkname = f"{WORK_DIR.name}/{member.linkname.removeprefix('./')}"
    member.uid, member.gid, member.uname, member.gname = uid, gid, "", ""
    member.pax_headers = {}  # they would win over the fields
    return member


def _padded(read: Callable[[int], bytes], size_bytes: int, name: str) -> Iterator[bytes]:
    left = size_bytes
    while left:
        data = read(min(left, COPY_BYTES))
        if not data:
            raise tarfile.ReadError(f"{name} is cut short")
        left -= len(data)
        yield data
    if rest := size_bytes % tarfile.BLOCKSIZE:
        yield bytes(tarfile.BLOCKSIZE - rest)
