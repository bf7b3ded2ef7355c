"""Seals files between prepare and execute: by size, time and inode at once, by sha256 beside other work."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any

SMALL_BYTES = 1 << 20
"""Up to this size a file is hashed when it is sealed; larger ones by `DigestQueue`."""


@dataclass
class SealedFile:
    """
    A file as it was when the run was prepared.

    `path` is what the configuration says, `source` where it was found. `sha256` is empty until somebody hashed it.
    """

    path: str
    source: str
    size_bytes: int
    mtime_ns: int
    inode: int
    sha256: str = ""
    step_id: str = ""
    key: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def identity(self) -> list[str | int]:
        """What the run's fingerprint takes of the file: its digest if it is small, its stat if it is not."""
        if self.size_bytes <= SMALL_BYTES:
            return [self.size_bytes, self.sha256]
        return [self.size_bytes, self.mtime_ns, self.inode]

    def changed(self) -> str | None:
        """What differs from the sealed state, in words; None when nothing does. Looks at the file's stat only."""
        try:
            stat = Path(self.source).stat()
        except OSError as exc:
            return f"{self.source} cannot be read any more: {exc.strerror}"
        if stat.st_size != self.size_bytes:
            return f"{self.source} changed after prepare: {self.size_bytes} bytes then, {stat.st_size} now"
        if (stat.st_mtime_ns, stat.st_ino) != (self.mtime_ns, self.inode):
            return f"{self.source} was written or replaced after prepare"
        return None


def seal(source: Path, path: str | None = None, *, step_id: str = "", key: str = "") -> SealedFile:
    """
    Seal one file. A small one is hashed at once.

    Raises:
        OSError: It is missing, not a regular file (IsADirectoryError for a directory) or unreadable.
    """
    # Not waiting: opening a named pipe would otherwise hang until somebody writes into it.
    fd = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        stat = os.fstat(fd)
        if S_ISDIR(stat.st_mode):
            raise IsADirectoryError(errno.EISDIR, "it is a directory", str(source))
        if not S_ISREG(stat.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(source))
        digest = ""
        if stat.st_size <= SMALL_BYTES:
            with open(fd, "rb", closefd=False) as file:
                digest = hashlib.sha256(file.read()).hexdigest()
    finally:
        os.close(fd)
    return SealedFile(
        path=path if path is not None else str(source),
        source=str(source),
        size_bytes=stat.st_size,
        mtime_ns=stat.st_mtime_ns,
        inode=stat.st_ino,
        sha256=digest,
        step_id=step_id,
        key=key,
    )


def sha256_of(path: Path) -> str:
    """The sha256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class DigestQueue:
    """
    Hashes sealed files in one background thread, so that steps need not wait for it.

    A file that is no longer what was sealed gets no digest.
    """

    def __init__(self, files: list[SealedFile]) -> None:
        self._files = [file for file in files if not file.sha256]
        self._stopped = False
        self._thread: threading.Thread | None = None
        if self._files:
            self._thread = threading.Thread(target=self._work, name="osiris-digest", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        known: dict[str, str] = {}
        for file in self._files:
            if self._stopped:
                return
            try:
                digest = known.get(file.source) or self._hash(Path(file.source))
            except OSError:
                continue  # whoever reads the file next reports it better
            if file.changed() is None:
                file.sha256 = known[file.source] = digest

    def _hash(self, path: Path) -> str:
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while not self._stopped and (block := file.read(1 << 20)):
                digest.update(block)
        return "" if self._stopped else digest.hexdigest()

    def wait(self) -> None:
        """Return when every file is hashed."""
        if self._thread is not None:
            self._thread.join()

    def stop(self) -> None:
        """Give up what is not hashed yet. May be called twice."""
        self._stopped = True
        self.wait()
