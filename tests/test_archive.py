"""Packing: the same tree gives the same bytes, and comes back whole."""

from __future__ import annotations

import os
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest

from osiris_core.archive import pack


def unpack(archive: Path, folder: Path) -> None:
    """As anybody does."""
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="tar")


def tree(folder: Path) -> dict[bytes, Any]:
    """Every entry with type, mode and content."""
    found: dict[bytes, Any] = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        name = os.fsencode(path.relative_to(folder))
        if path.is_symlink():
            found[name] = ("link", os.readlink(path))
        elif path.is_dir():
            found[name] = "dir"
        else:
            found[name] = (stat.S_IMODE(status.st_mode), path.read_bytes())
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "tree"
    (path / "empty/dir").mkdir(parents=True)
    (path / "sub").mkdir()
    names = [b"plain", b"sub/new\nline", "🎉 žluť".encode(), b"\xff\xfe", b"x" * 250, b"sub/-rf", b" ", b"zero"]
    for name in names:
        Path(os.fsdecode(os.fsencode(path) + b"/" + name)).write_bytes(b"" if name == b"zero" else name)
    (path / "run.sh").write_bytes(b"#!")
    (path / "run.sh").chmod(0o755)
    (path / "link").symlink_to("sub")
    (path / "sub/up").symlink_to("../plain")
    os.link(path / "plain", path / "sub/hard")
    return path


def test_a_tree_comes_back_as_it_was(folder: Path, tmp_path: Path) -> None:
    """Odd names, empty folders, executables, links and second names of a file: all there, byte for byte."""
    pack(folder, tmp_path / "a.tar.gz")
    unpack(tmp_path / "a.tar.gz", tmp_path / "out")
    assert tree(tmp_path / "out") == tree(folder)
    assert list(tmp_path.glob(".*")) == []


def test_the_same_tree_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    """Neither times, owners nor the order of making decide the bytes."""
    pack(folder, tmp_path / "a.tar.gz")
    unpack(tmp_path / "a.tar.gz", tmp_path / "other-name")
    for path in sorted((tmp_path / "other-name").rglob("*"), reverse=True):
        os.utime(path, (1, 1), follow_symlinks=False)
        if os.geteuid() == 0:
            os.chown(path, 12, 34, follow_symlinks=False)
    pack(tmp_path / "other-name", tmp_path / "b.tar.gz")
    assert (tmp_path / "a.tar.gz").read_bytes() == (tmp_path / "b.tar.gz").read_bytes()


def test_special_files_are_left_out_and_not_waited_for(folder: Path, tmp_path: Path) -> None:
    """A named pipe cannot hang the packing; an archive made in its own folder does not contain itself."""
    before = tree(folder)
    os.mkfifo(folder / "pipe")
    pack(folder, folder / "own.tar.gz")
    unpack(folder / "own.tar.gz", tmp_path / "out")
    assert tree(tmp_path / "out") == before


def test_nothing_is_left_when_packing_fails(folder: Path, tmp_path: Path) -> None:
    """An archive that cannot be finished leaves the old one, and no half one."""
    target = tmp_path / "sealed"
    target.mkdir()
    (target / "a.tar.gz").mkdir()
    with pytest.raises(OSError, match="directory"):
        pack(folder, target / "a.tar.gz")
    assert os.listdir(target) == ["a.tar.gz"]
