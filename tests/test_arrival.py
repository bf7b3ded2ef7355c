"""What arrives from elsewhere: bytes, modes and digests come through, nothing hostile does, memory stays small."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import subprocess
import sys
import tarfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_core.archive import pack_files, pack_stream
from osiris_core.arrival import unpack_stream
from osiris_core.errors import CollectError, TooLarge

if TYPE_CHECKING:
    from collections.abc import Iterator


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with odd names, modes, links and sizes around the block size."""
    folder = tmp_path / "session"
    (folder / "artifacts/empty").mkdir(parents=True)
    for size in (0, 1, 511, 512, 513, 1 << 20, (1 << 20) + 1):
        (folder / f"artifacts/{size}").write_bytes(os.urandom(size))
    (folder / "artifacts/ž\nnew").write_bytes(b"x")
    Path(os.fsdecode(os.fsencode(folder) + b"/artifacts/\xff")).write_bytes(b"y")
    (folder / f"artifacts/{'n' * 200}").write_bytes(b"long")
    (folder / "artifacts/run.sh").write_bytes(b"#!")
    (folder / "artifacts/run.sh").chmod(0o750)
    (folder / "artifacts/link").symlink_to("run.sh")
    os.link(folder / "artifacts/run.sh", folder / "artifacts/hard")
    return folder


def seen(folder: Path) -> dict[bytes, Any]:
    found: dict[bytes, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = os.fsencode(path.relative_to(folder))
        if path.is_symlink():
            found[name] = os.readlink(path)
        elif path.is_dir():
            found[name] = "folder"
        else:
            found[name] = (stat.S_IMODE(path.stat().st_mode), path.read_bytes())
    return found


@pytest.mark.parametrize("size", [7, 512, 10_000, 1 << 22])
def test_a_tree_arrives_as_it_left(tree: Path, tmp_path: Path, size: int) -> None:
    """In pieces of any size; the digest of every file comes with it."""
    if size == 7:
        (tree / f"artifacts/{1 << 20}").unlink()
        (tree / f"artifacts/{(1 << 20) + 1}").unlink()
    data = b"".join(pack_stream(tree, "session"))
    digests = unpack_stream(pieces(data, size), tmp_path / "home")
    assert seen(tmp_path / "home/session") == seen(tree)
    files = [path for path in tree.rglob("*") if path.is_file() and not path.is_symlink()]
    wanted = {f"session/{path.relative_to(tree)}": hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    assert digests == wanted


def test_only_what_is_wanted_arrives(tree: Path, tmp_path: Path) -> None:
    """The rest is read past, whatever it is."""
    data = b"".join(pack_stream(tree, "session"))
    digests = unpack_stream(pieces(data, 999), tmp_path / "home", wanted=lambda name: name.endswith("run.sh"))
    assert list(digests) == ["session/artifacts/run.sh"]
    assert [path.name for path in (tmp_path / "home").rglob("*") if path.is_file()] == ["run.sh"]


def member(name: str, **more: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for key, value in more.items():
        setattr(info, key, value)
    return info


def tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, content in members:
            info.size = len(content) if info.isreg() else 0
            tar.addfile(info, io.BytesIO(content))
    return target.getvalue()


LINK, HARD, DEVICE, PIPE, FOLDER = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE


def test_a_hard_link_is_a_file_of_its_own(tmp_path: Path) -> None:
    """A second name of a file that came before has its bytes and mode; what it adds counts against the limit."""
    members = [(member("a", mode=0o755), b"x" * 100), (member("d/b", type=HARD, linkname="a"), b"")]
    digests = unpack_stream([tar_of(*members)], tmp_path / "home")
    assert digests["a"] == digests["d/b"]
    assert (tmp_path / "home/d/b").read_bytes() == b"x" * 100
    assert (tmp_path / "home/d/b").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "home/d/b").stat().st_nlink == 1
    with pytest.raises(TooLarge):
        unpack_stream([tar_of(*members)], tmp_path / "other", max_bytes=150)


def link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, type=LINK, linkname=target), b""


HOSTILE: dict[str, list[tuple[tarfile.TarInfo, bytes]]] = {
    "climbs": [(member("../evil"), b"x")],
    "climbs inside": [(member("a/../../evil"), b"x")],
    "harmless dots": [(member("a/../b"), b"x")],
    "absolute": [(member("/tmp/osiris-evil"), b"x")],
    "absolute folder": [(member("/osiris-evil", type=FOLDER), b"")],
    "the folder above": [(member("..", type=FOLDER), b"")],
    "link out": [link("l", "../outside")],
    "link above": [link("l", "..")],
    "link to root": [link("l", "/etc")],
    "link to root, and through it": [link("l", "/etc"), (member("l/evil"), b"x")],
    "deep link out": [link("a/b/l", "../../../outside")],
    "link that climbs inside": [link("l", "a/../../evil")],
    "through a link": [link("d", "sub"), (member("d/evil"), b"x")],
    "through a link out": [link("d", ".."), (member("d/evil"), b"x")],
    "through a link to itself": [link("d", "."), (member("d/evil"), b"x")],
    "chain": [link("d", "."), link("e", "d/.."), (member("e/evil"), b"x")],
    "chain of folders": [
        (member("p/q", type=FOLDER), b""),
        link("d", "p/q"),
        link("e", "d/../../.."),
        (member("e/evil"), b"x"),
    ],
    "folder over a link": [link("d", "sub"), (member("d", type=FOLDER), b""), (member("d/evil"), b"x")],
    "hard link out": [(member("b", type=HARD, linkname="/etc/passwd"), b"")],
    "hard link to nothing": [(member("a"), b"x"), (member("b", type=HARD, linkname="c"), b"")],
    "hard link that climbs": [(member("a"), b"x"), (member("../b", type=HARD, linkname="a"), b"")],
    "hard link to a link": [link("a", "b"), (member("b", type=HARD, linkname="a"), b"")],
    "device": [(member("dev", type=DEVICE, devmajor=1, devminor=3), b"")],
    "block device": [(member("dev", type=tarfile.BLKTYPE), b"")],
    "pipe": [(member("pipe", type=PIPE), b"")],
    "NUL": [(member("a\0b"), b"x"), (member("../evil"), b"x")],
    "link in the folder's place": [link(".", "x")],
}


@pytest.mark.parametrize("trick", HOSTILE)
def test_nothing_hostile_is_unpacked(tmp_path: Path, trick: str) -> None:
    """Whatever trick a member tries, it is refused, and nothing is written outside of the folder."""
    home = tmp_path / "deep" / "home"
    (tmp_path / "deep" / "outside").mkdir(parents=True)
    before = seen(tmp_path)
    with pytest.raises(CollectError, match=r"may not be unpacked|cannot be unpacked"):
        unpack_stream(pieces(tar_of(*HOSTILE[trick]), 1000), home)
    assert {name: what for name, what in seen(tmp_path).items() if not name.startswith(b"deep/home")} == before
    assert not Path("/tmp/osiris-evil").exists()
    assert not Path("/osiris-evil").exists()
    assert not [path for path in home.rglob("*") if not (path.is_file() or path.is_dir() or path.is_symlink())]


def test_a_file_in_the_place_of_a_link_replaces_it(tmp_path: Path) -> None:
    """It is not written where the link points."""
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "home").mkdir()
    (tmp_path / "home/a").symlink_to(tmp_path / "victim")
    unpack_stream([tar_of((member("a"), b"theirs"))], tmp_path / "home")
    assert (tmp_path / "victim").read_text() == "mine"
    assert (tmp_path / "home/a").read_text() == "theirs"


def test_set_user_id_does_not_arrive(tmp_path: Path) -> None:
    """Nor other bits beyond read, write and execute, nor another owner."""
    unpack_stream([tar_of((member("a", mode=0o6755, uid=12345, gid=12345), b"x"))], tmp_path)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o755
    assert (tmp_path / "a").stat().st_uid == os.getuid()


def test_bombs_are_refused(tmp_path: Path) -> None:
    """By what a header claims, before it is written; too many members; a header that would fill the memory."""
    huge = member("huge")
    huge.size = 1 << 50
    with pytest.raises(CollectError, match="more than"):
        unpack_stream([huge.tobuf()], tmp_path)
    with pytest.raises(CollectError, match="more than"):
        unpack_stream([tar_of(*[(member(f"f{n}"), b"x" * 100) for n in range(11)])], tmp_path, max_bytes=1000)
    with pytest.raises(CollectError, match="members"):
        unpack_stream([tar_of(*[(member(f"f{n}"), b"") for n in range(11)])], tmp_path, max_members=10)
    long_name = member("x", type=tarfile.GNUTYPE_LONGNAME)
    long_name.size = 1 << 40
    with pytest.raises(CollectError):
        unpack_stream([long_name.tobuf(), b"x" * 100_000], tmp_path)
    assert not (tmp_path / "huge").exists()


def test_a_file_of_holes_is_as_large_as_it_says(tmp_path: Path) -> None:
    """What is packed as holes counts in full against the limit, and is refused within it: nothing of ours packs so."""
    with (tmp_path / "holes").open("wb") as file:
        file.truncate(20_000_000)
    archive = tmp_path / "s.tar"
    if os.system(f"tar --sparse -C {tmp_path} -cf {archive} holes 2>/dev/null"):
        pytest.skip("no tar command that knows sparse files")
    assert archive.stat().st_size < 100_000
    with pytest.raises(TooLarge, match="more than 1000000 bytes"):
        unpack_stream([archive.read_bytes()], tmp_path / "out", max_bytes=1_000_000)
    with pytest.raises(CollectError, match="holes"):
        unpack_stream([archive.read_bytes()], tmp_path / "out")
    assert not (tmp_path / "out/holes").exists()


def test_a_flipped_bit_shows_in_the_digest(tree: Path, tmp_path: Path) -> None:
    """Content that was changed on the way is not given the digest that it left with."""
    (tree / "artifacts/only").write_bytes(b"once in all of it")
    data = bytearray(b"".join(pack_stream(tree, "session")))
    whole = unpack_stream([bytes(data)], tmp_path / "whole")
    data[data.index(b"once in all of it")] ^= 1
    changed = unpack_stream([bytes(data)], tmp_path / "changed")
    assert [name for name in whole if whole[name] != changed[name]] == ["session/artifacts/only"]


@pytest.mark.parametrize("keep", [0, 1, 100, 511, 512, 700, 1024 + 511, -1024, -1])
def test_a_stream_that_ends_early(tmp_path: Path, keep: int) -> None:
    """Is an error wherever it is cut off within a member; the archive's own padding may be missing."""
    data = tar_of((member("a"), b"x" * 600), (member("b"), b"y"))
    content = 512 + 1024 + 512 + 512
    cut = data[:content][:keep] if keep >= 0 else data[: content + 1024 + keep]
    if 0 < keep < content or keep == 0:
        try:
            digests = unpack_stream(pieces(cut, 100), tmp_path)
        except CollectError:
            return
        assert set(digests) < {"a", "b"}
        assert keep in (0, 512 + 1024)
    else:
        assert set(unpack_stream(pieces(cut, 100), tmp_path)) == {"a", "b"}


@given(data=st.binary(max_size=3000))
@settings(max_examples=60, deadline=None)
def test_any_bytes_are_refused_or_harmless(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """No other exception comes out of garbage."""
    with suppress(CollectError):
        unpack_stream(pieces(data, 100), tmp_path_factory.mktemp("any"))


@given(where=st.integers(0, 511), value=st.integers(0, 255))
@settings(max_examples=150, deadline=None)
def test_any_header_is_refused_or_harmless(tmp_path_factory: pytest.TempPathFactory, where: int, value: int) -> None:
    """A flipped byte with a checksum that fits: sizes below zero, unknown types, sparse maps, names that climb."""
    folder = tmp_path_factory.mktemp("any")
    header = bytearray(member("name", size=100).tobuf())
    header[where] = value
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    with suppress(CollectError):
        unpack_stream([bytes(header), b"x" * 512, b"\0" * 1024], folder / "home")
    assert [path.name for path in folder.iterdir()] in (["home"], [])


BIG = """
import io, json, sys
from pathlib import Path
from osiris_core.archive import pack_files, pack_stream
from osiris_core.arrival import unpack_stream

folder = Path(sys.argv[1])
(folder / "there").mkdir()
with (folder / "there/big").open("wb") as file:
    file.truncate(1 << 30)
def peak_mb():  # not `ru_maxrss`: that is the parent's at first
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024


before = peak_mb()
if sys.argv[2] == "down":
    unpack_stream(pack_stream(folder / "there", "session"), folder / "home")
    assert (folder / "home/session/big").stat().st_size == 1 << 30
else:
    class Nowhere(io.RawIOBase):
        def write(self, data):
            return len(data)
    list(pack_files([("big", folder / "there/big")], Nowhere()))
print(json.dumps({"mb": peak_mb(), "before": before}))
"""


@pytest.mark.timeout(120)
@pytest.mark.parametrize("way", ["up", "down"])
def test_a_gigabyte_passes_through_little_memory(tmp_path: Path, way: str) -> None:
    """Up and down, the whole process stays below 64 MB."""
    run = subprocess.run([sys.executable, "-c", BIG, str(tmp_path), way], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    used = json.loads(run.stdout)
    print(f"1 GB {way}: {used['mb']:.0f} MB, of which {used['before']:.0f} before")
    assert used["mb"] < 64
    for path in tmp_path.rglob("big"):
        path.unlink()


def test_packing_says_what_it_packed(tmp_path: Path) -> None:
    """Name, size and digest of each, also of bytes; two calls may make one archive."""
    (tmp_path / "a").write_bytes(b"x" * 1000)
    target = io.BytesIO()
    first = list(pack_files([("one/a", tmp_path / "a")], target, end=False))
    second = list(pack_files([("two", b"yy")], target))
    assert first == [("one/a", 1000, hashlib.sha256(b"x" * 1000).hexdigest())]
    assert second == [("two", 2, hashlib.sha256(b"yy").hexdigest())]
    assert unpack_stream([target.getvalue()], tmp_path / "out") == {name: digest for name, _, digest in first + second}


def test_a_file_that_shrinks_while_it_is_packed(tmp_path: Path) -> None:
    """Is an error, not an archive that is out of step."""
    (tmp_path / "there").mkdir()
    (tmp_path / "there/a").write_bytes(b"x" * (3 << 20))
    stream = pack_stream(tmp_path / "there", "p")
    for _ in range(3):
        next(stream)
    (tmp_path / "there/a").write_bytes(b"")
    with pytest.raises(OSError, match="shorter"):
        list(stream)
