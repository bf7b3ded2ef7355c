"""The only unpacking of trees: one that arrives as a stream, hashed while it is written. Trusts nothing in it."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import zlib
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from osiris_core.errors import CollectError, FailureClass, NoRoom, TooLarge, classify, naming

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path
    from typing import Self

MAX_UNPACKED_BYTES = 64 << 30
MAX_MEMBERS = 1_000_000
MAX_NAME_BYTES = 1 << 20
"""How long the extended header of one member may be; `tarfile` reads it into memory as a whole."""
_EXTENDED = {
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
}


def unpack_stream(
    pieces: Iterable[bytes],
    folder: Path,
    *,
    wanted: Callable[[str], bool] = lambda _: True,
    max_bytes: int = MAX_UNPACKED_BYTES,
    max_members: int = MAX_MEMBERS,
    skip_strays: bool = False,
) -> dict[str, str]:
    """
    Unpack a tar without compression that comes in pieces into `folder`; give the sha256 of every regular file by name.

    Members that are not `wanted` are skipped; with `skip_strays` links out of `folder` and pipes are too: user code may
    leave them among its artifacts, and they are none. Files and folders get the permission bits that they had, and the
    caller as owner.

    Raises:
        CollectError: A member is absolute, contains `..`, goes through a link, links out of `folder`, is a device, or
            a hard link to what is not in the stream before it; or the stream is broken or ends early.
        NoRoom: The disk is full.
        TooLarge: There is more than the limits allow. What was unpacked until then stays, as in the other cases.
    """
    digests: dict[str, str] = {}
    modes: dict[str, int] = {}
    size_bytes = members = 0
    source = _Source(iter(pieces))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.TarFile(fileobj=source, mode="r", tarinfo=_Member) as tar:  # type: ignore[arg-type]
            for member in tar:
                members += 1
                size_bytes += member.size
                if wanted(member.name) and not (skip_strays and _is_stray(member)):
                    original = _original(member, digests)
                    if (reason := _refused(member, folder)) is not None:
                        raise CollectError(f"{member.name!r} may not be unpacked: {reason}")
                    if original is not None:
                        size_bytes += (folder / original).stat().st_size
                    _refuse_too_much(size_bytes, max_bytes, members, max_members)
                    if member.isdir():
                        modes[member.name] = member.mode & 0o777
                    if original is None:
                        _place(source, member, folder, digests)
                    else:
                        _copy(folder / original, folder / member.name)
                        digests[member.name] = digests[original]
                _refuse_too_much(size_bytes, max_bytes, members, max_members)
                tar.members.clear()  # type: ignore[attr-defined]
        source.read_to_end()
        for name in sorted(modes, reverse=True):  # at last: a folder that cannot be written to has to be filled first
            (folder / name).chmod(modes[name] | 0o500)
    except (tarfile.TarError, EOFError, OSError, ValueError, zlib.error) as exc:
        if classify(exc) is FailureClass.RESOURCE_DENIED:
            raise NoRoom(f"what arrived finds no room: {exc} (make some, or choose another session directory)") from exc
        raise CollectError(f"what arrived cannot be unpacked: {exc}") from exc
    return digests


def _refuse_too_much(size_bytes: int, max_bytes: int, members: int, max_members: int) -> None:
    if members > max_members or size_bytes > max_bytes:
        raise TooLarge(f"what arrives is more than {max_bytes} bytes or {max_members} members")


def _original(member: tarfile.TarInfo, digests: dict[str, str]) -> str | None:
    """The file that a hard link is another name of, if that came before; the member is then as good as a file."""
    if not member.islnk() or member.linkname not in digests:
        return None
    member.type, member.size = tarfile.REGTYPE, 0
    return member.linkname


def _copy(original: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    shutil.copyfile(original, target)
    shutil.copymode(original, target)


def _is_stray(member: tarfile.TarInfo) -> bool:
    return member.isfifo() or (member.issym() and _leads_out(member))


def _place(source: _Source, member: tarfile.TarInfo, folder: Path, digests: dict[str, str]) -> None:
    target = folder / member.name
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        target.chmod(member.mode & 0o777 | 0o700)  # until it is filled
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)  # else it would be written where a link points
    if member.issym():
        target.symlink_to(member.linkname)
        return
    if member.issparse():
        raise CollectError(f"{member.name!r} may not be unpacked: it is packed as a file with holes")
    source.seek(member.offset_data)
    digest = hashlib.sha256()
    with target.open("xb", buffering=0) as file:
        for piece in source.pieces(member.size, member.name):
            # Both at once, while the piece is in the processor's cache: a thread for one of them was slower.
            digest.update(piece)
            left = piece
            with naming(target):
                while left:
                    left = left[file.write(left) :]
    digests[member.name] = digest.hexdigest()
    target.chmod(member.mode & 0o777)


class _Member(tarfile.TarInfo):
    """A member whose extended headers are bounded: `tarfile` reads those into memory."""

    @classmethod
    def frombuf(cls, *args: Any, **kwargs: Any) -> Self:
        member = super().frombuf(*args, **kwargs)
        if member.type in _EXTENDED and member.size > MAX_NAME_BYTES:
            raise CollectError(f"a member's header of {member.size} bytes may not be unpacked")
        return member


def _refused(member: tarfile.TarInfo, folder: Path) -> str | None:
    """
    Why a member may not be unpacked; None if it may.

    Checked here as well as by the filter of `tarfile`, which some Python versions let be outwitted by chains of links.
    """
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts:
        return "it leaves the folder"
    if not (member.isreg() or member.isdir() or member.issym()):
        return "it is neither file, directory nor symbolic link"
    if any((folder / parent).is_symlink() for parent in name.parents[:-1]):
        return "it goes through a link"
    if member.isdir() and (folder / name).is_symlink():
        return "a link is in its place"
    return "it links out of the folder" if member.issym() and _leads_out(member) else None


def _leads_out(link: tarfile.TarInfo) -> bool:
    """Whether a symbolic link could lead out of the folder that its archive is unpacked into."""
    target = PurePosixPath(link.linkname)
    ups = 0
    while target.parts[ups : ups + 1] == ("..",):
        ups += 1
    # `..` behind a name could climb out of what another link points to; in front, it climbs from a real directory.
    return target.is_absolute() or ups >= len(PurePosixPath(link.name).parts) or ".." in target.parts[ups:]


class _Source:
    """
    Reads pieces of any size as a file that can only be read forwards; holds one piece.

    Contents are taken from it past `tarfile`, which would copy each byte four times.
    """

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._piece = memoryview(b"")
        self._position = 0

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> None:
        for _ in self.pieces(position - self._position, "the archive"):
            pass

    def read(self, size: int) -> bytes:
        found = []
        while size and (view := self._take(size)):
            found.append(view)
            size -= len(view)
        return b"".join(found)

    def pieces(self, size: int, what: str) -> Iterator[memoryview]:
        """The next `size` bytes, as they came; raises EOFError when there are less."""
        while size > 0:
            view = self._take(size)
            if not view:
                raise EOFError(f"the stream ends within {what!r}")
            size -= len(view)
            yield view

    def _take(self, size: int) -> memoryview:
        """At most `size` of what is there; empty at the end."""
        while not self._piece and (piece := next(self._pieces, None)) is not None:
            self._piece = memoryview(piece)
        taken, self._piece = self._piece[:size], self._piece[size:]
        self._position += len(taken)
        return taken

    def read_to_end(self) -> None:
        """Let the sender finish: what follows the end of the archive is padding, and there is not much of it."""
        for _ in range(1 << 10):
            if next(self._pieces, None) is None:
                return
        raise CollectError("data follows the end of the archive")
