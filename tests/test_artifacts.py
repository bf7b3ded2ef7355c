"""Artifacts: every file is found whatever its name, nothing from outside is, and publishing is all or nothing."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from osiris_core.artifacts import check_artifacts, find_artifacts, in_the_way, publish
from osiris_core.errors import CollectError, FailureClass
from osiris_core.journal import Journal, read_events

if TYPE_CHECKING:
    from osiris_core.records import ArtifactRecord


def find(folder: Path) -> tuple[list[ArtifactRecord], dict[str, str]]:
    left_out: dict[str, str] = {}
    return list(find_artifacts(folder, "step", left_out.__setitem__)), left_out


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "artifacts" / "step"
    path.mkdir(parents=True)
    return path


def test_every_file_at_any_depth(folder: Path) -> None:
    """Binary, empty, hidden and deep files, with size and sha256, sorted by path."""
    contents = {"b": b"\0\xff", "a/z": b"", "a.txt": b"x", "a/b/c/d/e": b"deep", ".hidden": b"h", "a/.x/y": b"1"}
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "empty/dir").mkdir(parents=True)
    found, left_out = find(folder)
    assert left_out == {}
    assert [record.path for record in found] == sorted(f"step/{name}" for name in contents)
    for record in found:
        content = contents[record.path.removeprefix("step/")]
        assert record.step_id == "step"
        assert record.size_bytes == len(content)
        assert record.sha256 == hashlib.sha256(content).hexdigest()


def test_odd_names_survive_the_journal(folder: Path) -> None:
    """A newline, an emoji, quotes, bytes that are not UTF-8: each is recorded, written as JSON, and found again."""
    names = [b"new\nline", "🎉".encode(), b"quo\"te'", b"\xff\xfe", b"\xc5\xbe", b" ", b"a\tb", b"-rf", b"x" * 255]
    for name in names:
        (Path(os.fsdecode(os.fsencode(folder) + b"/" + name))).write_bytes(name)
    found, left_out = find(folder)
    assert left_out == {}
    assert len(found) == len(names)
    with Journal(folder.parent.parent / "events", "s") as journal:
        for record in found:
            journal.origin("engine").emit("artifact", "step", path=record.path, sha256=record.sha256)
    again = [event["path"] for event in read_events(folder.parent.parent / "events")]
    assert again == [record.path for record in found]
    assert {os.fsencode((folder.parent / path).read_bytes()) for path in again} == set(names)
    check_artifacts(folder.parent, found)
    json.dumps([record.to_json() for record in found]).encode()


def test_links_and_special_files(folder: Path) -> None:
    """A link inside counts as its file; the rest is reported, and never waited for."""
    (folder / "real").write_bytes(b"real")
    (folder / "sub").mkdir()
    (folder / "sub/file").write_bytes(b"sub")
    (folder.parent / "other").write_bytes(b"other step")
    links = {
        "in": "real",
        "in-abs": str(folder / "sub/file"),
        "out": "/etc/passwd",
        "up": "../other",
        "dangling": "nope",
        "loop": "loop",
        "dir": "sub",
        "dir-out": "/etc",
        "self": ".",
    }
    for name, target in links.items():
        (folder / name).symlink_to(target)
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "sock"))
        found, left_out = find(folder)
    assert [record.path for record in found] == ["step/in", "step/in-abs", "step/real", "step/sub/file"]
    assert found[0].sha256 == found[2].sha256
    assert set(left_out) == {"out", "up", "dangling", "loop", "dir", "dir-out", "self", "pipe", "sock"}
    assert "link out" in left_out["out"]
    assert "link out" in left_out["dir-out"]
    assert "directory" in left_out["dir"]
    assert "not a regular file" in left_out["pipe"]


def test_a_folder_that_became_a_link_is_left_out(tmp_path: Path) -> None:
    """A step that replaces its folder by a link to elsewhere publishes nothing from there."""
    (tmp_path / "step").symlink_to("/etc")
    found, left_out = find(tmp_path / "step")
    assert found == []
    assert list(left_out) == ["."]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody who may not read")
def test_what_cannot_be_read_is_said(folder: Path) -> None:
    """An unreadable file and an unreadable folder are reported with the reason; the others are found."""
    (folder / "open").write_bytes(b"1")
    (folder / "closed").write_bytes(b"1")
    (folder / "closed").chmod(0)
    (folder / "room").mkdir(mode=0)
    for place in [folder, *folder.parents]:
        if place != Path("/tmp"):
            place.chmod(place.stat().st_mode | 0o055)
        if place == Path("/tmp"):
            break
    reader = os.fork()
    if reader == 0:
        code = 1
        try:
            os.setuid(65534)
            found, left_out = find(folder)
            good = [record.path for record in found] == ["step/open"] and set(left_out) == {"closed", "room"}
            code = 0 if good and all("Permission denied" in reason for reason in left_out.values()) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(reader, 0)[1]) == 0


def test_checking_names_every_artifact_that_is_not_as_it_was(folder: Path) -> None:
    """What is missing or has another size is named, all of it at once."""
    for name in ("a", "b", "c"):
        (folder / name).write_bytes(b"abc")
    found, _ = find(folder)
    check_artifacts(folder.parent, found)
    (folder / "a").unlink()
    (folder / "b").write_bytes(b"longer")
    with pytest.raises(CollectError) as caught:
        check_artifacts(folder.parent, found)
    assert "step/a: No such file" in str(caught.value)
    assert "step/b: 3 bytes when its step ended, 6 now" in str(caught.value)
    assert "step/c" not in str(caught.value)


# Publishing


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_publishing_copies_under_the_own_path(folder: Path, tmp_path: Path) -> None:
    """Folders are made, an older file is replaced, the executable bit is kept, and the artifact stays."""
    (folder / "out").mkdir()
    (folder / "out/run.sh").write_bytes(b"#!")
    (folder / "out/run.sh").chmod(0o755)
    (folder / "b.csv").write_bytes(b"new")
    target = tmp_path / "published"
    target.mkdir()
    (target / "b.csv").write_bytes(b"old")
    done = publish(folder.parent, [("step", "out/run.sh"), ("step", "b.csv")], target)
    assert done == [target / "out/run.sh", target / "b.csv"]
    assert tree(target) == {"out/run.sh": b"#!", "b.csv": b"new"}
    assert (target / "out/run.sh").stat().st_mode & 0o777 == 0o755
    assert (folder / "b.csv").read_bytes() == b"new"


def test_a_link_in_the_place_is_replaced_not_followed(folder: Path, tmp_path: Path) -> None:
    """Publishing over a link replaces the link and leaves the file it points to alone."""
    (folder / "a").write_bytes(b"new")
    (tmp_path / "victim").write_bytes(b"victim")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a").symlink_to(tmp_path / "victim")
    publish(folder.parent, [("step", "a")], tmp_path / "out")
    assert (tmp_path / "victim").read_bytes() == b"victim"
    assert (tmp_path / "out/a").read_bytes() == b"new"


@pytest.mark.parametrize(
    "fault", ["missing", "pipe", "directory", "folder is a file", "twice", "link out", "loop", "dir source"]
)
def test_a_failure_replaces_nothing(folder: Path, tmp_path: Path, fault: str) -> None:
    """Whatever is wrong with one output, every published file is as it was, and no temporary file stays."""
    target = tmp_path / "out"
    target.mkdir()
    (target / "a").write_bytes(b"old")
    (folder / "a").write_bytes(b"new")
    (folder / "b").write_bytes(b"new")
    wanted = [("step", "a"), ("step", "b")]
    if fault == "missing":
        (folder / "b").unlink()
    elif fault == "pipe":
        (folder / "b").unlink()
        os.mkfifo(folder / "b")
    elif fault == "directory":
        (target / "b/inner").mkdir(parents=True)
    elif fault == "folder is a file":
        (target / "sub").write_bytes(b"file")
        (folder / "sub").mkdir()
        (folder / "sub/b").write_bytes(b"new")
        wanted[1] = ("step", "sub/b")
    elif fault == "twice":
        (folder.parent / "other").mkdir()
        (folder.parent / "other/a").write_bytes(b"other")
        wanted[1] = ("other", "a")
    elif fault in ("link out", "loop"):
        (folder / "b").unlink()
        (folder / "b").symlink_to("/etc/hostname" if fault == "link out" else "b")
    else:
        (folder / "b").unlink()
        (folder / "b").mkdir()
    before = tree(target)
    with pytest.raises(CollectError) as caught:
        publish(folder.parent, wanted, target)
    assert tree(target) == before
    assert caught.value.failure_class is FailureClass.USER_ERROR


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a file system")
@pytest.mark.parametrize("how", ["full", "read-only"])
def test_a_full_or_read_only_target_replaces_nothing(folder: Path, tmp_path: Path, how: str) -> None:
    """A disk that fills up half-way, or cannot be written at all, keeps the old files whole."""
    target = tmp_path / "disk"
    target.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", target], capture_output=True)
    if mounted.returncode:
        pytest.skip("no right to mount a file system here")
    try:
        (target / "a").write_bytes(b"old")
        (folder / "a").write_bytes(b"new")
        (folder / "b").write_bytes(b"x" * (100_000 if how == "full" else 1))
        if how == "read-only":
            subprocess.run(["mount", "-o", "remount,ro", target], check=True)
            assert in_the_way(target / "sub") == f"{target} cannot be written to"
        with pytest.raises(CollectError, match=r"No space left|Read-only") as caught:
            publish(folder.parent, [("step", "a"), ("step", "b")], target)
        assert caught.value.failure_class is FailureClass.RESOURCE_DENIED
        assert tree(target) == {"a": b"old"}
    finally:
        subprocess.run(["umount", target], check=True)
