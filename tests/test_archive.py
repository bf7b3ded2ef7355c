"""Archives: the same tree gives the same bytes and comes back whole; a hostile one writes nothing outside."""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest

from osiris_core.archive import pack, unpack
from osiris_core.errors import CollectError


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


def archive(path: Path, *members: tuple[str, dict[str, Any]], compress: bool = True) -> Path:
    """An archive of exactly these members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, fields in members:
            member = tarfile.TarInfo(name)
            content = fields.pop("content", b"")
            member.size = len(content)
            for key, value in fields.items():
                setattr(member, key, value)
            tar.addfile(member, io.BytesIO(content))
    path.write_bytes(gzip.compress(buffer.getvalue()) if compress else buffer.getvalue())
    return path


LINK, HARD, DIR = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE


def link(target: str, kind: bytes = LINK) -> dict[str, Any]:
    return {"type": kind, "linkname": target}


HOSTILE: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "climbs": [("../evil", {"content": b"x"})],
    "climbs inside": [("a/../../evil", {"content": b"x"})],
    "harmless dots": [("a/../b", {"content": b"x"})],
    "absolute": [("/tmp/evil", {"content": b"x"})],
    "absolute folder": [("/evil", {"type": DIR})],
    "link out": [("l", link("../outside"))],
    "link to root": [("l", link("/etc"))],
    "deep link out": [("a/b/l", link("../../../outside"))],
    "through a link": [("d", link("sub")), ("d/evil", {"content": b"x"})],
    "through a link out": [("d", link("..")), ("d/evil", {"content": b"x"})],
    "through a link to itself": [("d", link(".")), ("d/evil", {"content": b"x"})],
    "chain": [("d", link(".")), ("e", link("d/..")), ("e/evil", {"content": b"x"})],
    "chain of folders": [
        ("p/q", {"type": DIR}),
        ("d", link("p/q")),
        ("e", link("d/../../..")),
        ("e/evil", {"content": b"x"}),
    ],
    "folder over a link": [("d", link("sub")), ("d", {"type": DIR}), ("d/evil", {"content": b"x"})],
    "hard link": [("a", {"content": b"x"}), ("b", link("a", HARD))],
    "hard link out": [("b", link("/etc/passwd", HARD))],
    "device": [("dev", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3})],
    "block device": [("dev", {"type": tarfile.BLKTYPE})],
    "pipe": [("pipe", {"type": tarfile.FIFOTYPE})],
    "NUL": [("a\0b", {"content": b"x"}), ("../evil", {"content": b"x"})],
    "empty link": [(".", link("x"))],
}


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("trick", HOSTILE)
def test_a_hostile_archive_writes_nothing_outside(tmp_path: Path, trick: str, compress: bool) -> None:
    """Whatever trick a member tries, it is refused with its name, and nothing appears outside of the folder."""
    (tmp_path / "outside").mkdir()
    members = [(name, dict(fields)) for name, fields in HOSTILE[trick]]
    path = archive(tmp_path / "a.tar", *members, compress=compress)
    before = {name: value for name, value in tree(tmp_path).items() if not name.startswith(b"out/")}
    with pytest.raises(CollectError, match=r"may not be unpacked|cannot be unpacked"):
        unpack(path, tmp_path / "out")
    assert {name: value for name, value in tree(tmp_path).items() if name.split(b"/")[0] != b"out"} == before
    assert not Path("/tmp/evil").exists()


def test_a_file_over_a_link_replaces_the_link(tmp_path: Path) -> None:
    """A member that stands where a link is does not write through it."""
    (tmp_path / "out").mkdir()
    (tmp_path / "victim").write_bytes(b"victim")
    (tmp_path / "out/a").symlink_to(tmp_path / "victim")
    unpack(archive(tmp_path / "a.tar.gz", ("a", {"content": b"new"})), tmp_path / "out")
    assert (tmp_path / "victim").read_bytes() == b"victim"
    assert (tmp_path / "out/a").read_bytes() == b"new"


def test_set_uid_is_not_kept(tmp_path: Path) -> None:
    """Owner's execute is kept, other rights that could harm are not."""
    unpack(archive(tmp_path / "a", ("a", {"content": b"x", "mode": 0o6777})), tmp_path / "out")
    assert stat.S_IMODE((tmp_path / "out/a").stat().st_mode) == 0o755


def test_bombs_are_refused(tmp_path: Path) -> None:
    """Too many bytes, too many members, a name as large as memory: refused before they are written."""
    big = archive(tmp_path / "big", ("a", {"content": b"\0" * 5_000_000}))
    with pytest.raises(CollectError, match="more than 1000000 bytes"):
        unpack(big, tmp_path / "out1", max_bytes=1_000_000)
    assert tree(tmp_path / "out1") == {}
    many = archive(tmp_path / "many", *((f"f{n}", {}) for n in range(100)))
    with pytest.raises(CollectError, match="50 members"):
        unpack(many, tmp_path / "out2", max_members=50)
    unpack(many, tmp_path / "out3", max_members=100)
    name = archive(tmp_path / "name", ("x" * 3_000_000, {}))
    with pytest.raises(CollectError, match="header"):
        unpack(name, tmp_path / "out4")


def test_a_sparse_file_counts_in_full(tmp_path: Path) -> None:
    """A file of holes is as large as it says, not as large as it is packed."""
    content = tmp_path / "holes"
    with content.open("wb") as file:
        file.truncate(20_000_000)
    path = tmp_path / "s.tar"
    if os.system(f"tar --sparse -C {tmp_path} -cf {path} holes 2>/dev/null"):
        pytest.skip("no tar command that knows sparse files")
    assert path.stat().st_size < 100_000
    with pytest.raises(CollectError, match="more than"):
        unpack(path, tmp_path / "out", max_bytes=1_000_000)
    unpack(path, tmp_path / "out")
    assert (tmp_path / "out/holes").stat().st_size == 20_000_000


def test_any_cut_and_any_flipped_bit_is_noticed(folder: Path, tmp_path: Path) -> None:
    """An archive that is cut off anywhere, or whose content was changed, is never taken for whole."""
    path = tmp_path / "a.tar.gz"
    pack(folder, path)
    whole = path.read_bytes()
    for length in [*range(0, len(whole), max(1, len(whole) // 60)), len(whole) - 8, len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(CollectError):
            unpack(path, tmp_path / f"cut-{length}")
    changed = bytearray(gzip.decompress(whole))
    changed[changed.index(b"#!")] ^= 1
    path.write_bytes(gzip.compress(bytes(changed))[:-8] + whole[-8:])
    with pytest.raises(CollectError):
        unpack(path, tmp_path / "flipped")


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b", b"not an archive at all" * 100, b"\x1f\x8b\x08" + b"\xff" * 100])
def test_what_is_no_archive(tmp_path: Path, content: bytes) -> None:
    """Anything else is a CollectError with the file's name, and so is no file."""
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(CollectError, match=str(tmp_path / "a")):
        unpack(tmp_path / "a", tmp_path / "out")
    with pytest.raises(CollectError):
        unpack(tmp_path / "missing", tmp_path / "out")
