"""Sealing files: what changed is noticed, and nothing that is no file can hold a run up."""

from __future__ import annotations

import hashlib
import os
import socket
from typing import TYPE_CHECKING

import pytest

from osiris_core.sealing import SMALL_BYTES, DigestQueue, SealedFile, seal, sha256_of

if TYPE_CHECKING:
    from pathlib import Path


def test_a_small_file_is_hashed_at_once(tmp_path: Path) -> None:
    """Up to 1 MiB the digest is there when `seal` returns; JSON carries all of it."""
    path = tmp_path / "a"
    for content in (b"", b"abc", b"x" * SMALL_BYTES):
        path.write_bytes(content)
        sealed = seal(path, "a", step_id="s", key="path")
        assert sealed.sha256 == hashlib.sha256(content).hexdigest() == sha256_of(path)
        assert SealedFile(**sealed.to_json()) == sealed
        assert sealed.changed() is None


def test_large_files_are_hashed_beside_other_work(tmp_path: Path) -> None:
    """A larger file has its digest after `wait`; the same file twice, a file that is gone: no error."""
    content = b"y" * (SMALL_BYTES + 1)
    for name in "ab":
        (tmp_path / name).write_bytes(content)
    files = [seal(tmp_path / name) for name in "aab"]
    assert [file.sha256 for file in files] == ["", "", ""]
    (tmp_path / "b").unlink()
    queue = DigestQueue(files)
    queue.wait()
    queue.stop()
    queue.stop()
    assert [file.sha256 for file in files] == [hashlib.sha256(content).hexdigest()] * 2 + [""]


def test_stopping_gives_up(tmp_path: Path) -> None:
    """A stopped queue leaves no wrong digest behind."""
    with (tmp_path / "big").open("wb") as file:
        file.truncate(2 << 30)
    sealed = seal(tmp_path / "big")
    queue = DigestQueue([sealed])
    queue.stop()
    assert sealed.sha256 == ""


def test_every_change_is_noticed(tmp_path: Path) -> None:
    """Another size, another time, another file of the same size, and no file at all: each is said in words."""
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    sealed = seal(path)
    status = path.stat()
    path.write_bytes(b"abcd")
    assert "3 bytes then, 4 now" in str(sealed.changed())
    path.write_bytes(b"abc")
    os.utime(path, ns=(0, 0))
    assert "written or replaced" in str(sealed.changed())
    (tmp_path / "b").write_bytes(b"xyz")
    (tmp_path / "b").replace(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert "written or replaced" in str(sealed.changed())
    path.unlink()
    assert "cannot be read" in str(sealed.changed())


def test_the_fingerprint_takes_content_of_small_and_stat_of_large_files(tmp_path: Path) -> None:
    """A copied small file counts as the same, a large one does not."""
    for name in "ab":
        (tmp_path / f"small-{name}").write_bytes(b"abc")
        (tmp_path / f"large-{name}").write_bytes(b"x" * (SMALL_BYTES + 1))
    assert seal(tmp_path / "small-a").identity == seal(tmp_path / "small-b").identity
    assert seal(tmp_path / "large-a").identity != seal(tmp_path / "large-b").identity


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    """A named pipe without a writer, a socket, an endless device, a folder: an error, never a wait."""
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        (tmp_path / "loop").symlink_to("loop")
        for name in ("pipe", "socket", "loop", "missing", "/dev/zero", "/dev/stdin"):
            with pytest.raises(OSError, match=r".+"):
                seal(tmp_path / name)
    with pytest.raises(IsADirectoryError):
        seal(tmp_path)
    with pytest.raises(FileNotFoundError):
        seal(tmp_path / "missing")
