"""The package of a run: everything that a worker needs and no secret, the same code zip everywhere, sealed inputs."""

from __future__ import annotations

import hashlib
import io
import json
import lzma
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from osiris_core import AdapterFactory, ExecutionContext
from osiris_core.errors import SealBroken
from remote.bundle import pack_bundle
from remote.code_zip import code_zip, squeezed_code
from tests.worker_process import DRIVERS, files_with, step

SECRET = "correct-horse-battery"


def prepare(folder: Path, steps: list[dict[str, Any]], code: tuple[str, ...] = (str(DRIVERS),), **more: Any) -> Any:
    adapter = AdapterFactory.create("process", code=list(code))
    context = ExecutionContext(session_id="s", session_dir=str(folder / "session"), base_dir=str(folder), **more)
    return adapter.prepare({"pipeline": "p", "steps": steps}, context)


def reader(step_id: str, path: str) -> dict[str, Any]:
    return {"id": step_id, "driver": "filesystem.csv_extractor", "config": {"path": path}}


def members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


def test_a_package_has_everything_and_lists_it(tmp_path: Path) -> None:
    """Every file has its size and sha256 in the list, whose own is the bundle's."""
    (tmp_path / "in.csv").write_text("a\n1\n")
    prepared = prepare(tmp_path, [reader("a", "in.csv"), reader("b", "in.csv"), step("Write")])
    bundle = pack_bundle(prepared, [str(DRIVERS)], tmp_path / "p.tar", in_place={})
    found = members(bundle.path)
    listed = json.loads(found["package.json"])
    assert found.keys() == {"code.zip", "prepared.json", "package.json", "inputs/0/in.csv", "code/worker_drivers.py"}
    assert bundle.size_bytes == bundle.path.stat().st_size
    assert bundle.package_sha256 == hashlib.sha256(found["package.json"]).hexdigest()
    for name in found.keys() - {"package.json"}:
        assert listed["files"][name] == {
            "size_bytes": len(found[name]),
            "sha256": hashlib.sha256(found[name]).hexdigest(),
        }
    assert listed["drivers"] == {"worker_drivers:Write": "worker_drivers:Write"}
    sent = json.loads(found["prepared.json"])
    assert {item["source"] for item in sent["input_files"]} == {"inputs/0/in.csv"}
    assert str(tmp_path) not in json.dumps({key: value for key, value in sent.items() if key != "configs"})
    assert [file.sha256 for file in prepared.input_files] == [hashlib.sha256(b"a\n1\n").hexdigest()] * 2


def test_files_that_are_there_already_do_not_travel(tmp_path: Path) -> None:
    """A mount is named by where it is in the sandbox."""
    (tmp_path / "in.csv").write_text("a\n1\n")
    prepared = prepare(tmp_path, [reader("a", "in.csv")])
    source = prepared.input_files[0].source
    bundle = pack_bundle(prepared, [], tmp_path / "p.tar", in_place={source: "/mnt/in.csv"})
    found = members(bundle.path)
    assert not any(name.startswith("inputs/") for name in found)
    assert json.loads(found["prepared.json"])["input_files"][0]["source"] == "/mnt/in.csv"


def test_files_of_one_name_stay_apart(tmp_path: Path) -> None:
    """Odd names too."""
    names = ["a/in put.csv", "b/in put.csv", "c/ž\n.csv", "d/-rf"]
    for name in names:
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(f"x\n{name[0]}\n")
    prepared = prepare(tmp_path, [reader(name[0], name) for name in names])
    found = members(pack_bundle(prepared, [], tmp_path / "p.tar", in_place={}).path)
    contents = {found[item["source"]] for item in json.loads(found["prepared.json"])["input_files"]}
    assert contents == {f"x\n{name[0]}\n".encode() for name in names}


def test_no_secret_is_packed(tmp_path: Path) -> None:
    """Not even inside the compressed code."""
    prepared = prepare(
        tmp_path,
        [step("Raise", config={"text": "${TOKEN}"})],
        environment={"TOKEN": SECRET},
    )
    bundle = pack_bundle(prepared, [str(DRIVERS)], tmp_path / "p.tar", in_place={})
    assert files_with(tmp_path, SECRET) == []
    assert all(SECRET.encode() not in data for data in members(bundle.path).values())


@pytest.mark.parametrize("how", ["content", "gone", "sealed"])
def test_an_input_that_changed_is_refused(tmp_path: Path, how: str) -> None:
    """Since it was prepared: by its stat, its absence, or its digest where that is known."""
    path = tmp_path / "in.csv"
    path.write_text("a\n1\n")
    prepared = prepare(tmp_path, [reader("a", "in.csv")])
    if how == "content":
        path.write_text("a\n22\n")
    elif how == "gone":
        path.unlink()
    else:
        prepared.input_files[0].sha256 = "0" * 64
    with pytest.raises((SealBroken, OSError)):
        pack_bundle(prepared, [], tmp_path / "p.tar", in_place={})


# The code zip.


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of our own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    code_zip.cache_clear()
    yield tmp_path / "cache" / "osiris"  # type: ignore[misc]
    code_zip.cache_clear()


MAKE = """
import hashlib
from remote.code_zip import code_zip
print(code_zip(), hashlib.sha256(code_zip().read_bytes()).hexdigest())
"""


def made_by(python: str, cache: Path, root: Path | None = None) -> list[str]:
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "PYTHONPATH": str(root or Path(__file__).parent.parent)}
    return subprocess.check_output([python, "-c", MAKE], text=True, env=environment, cwd="/").split()


def test_the_same_sources_give_the_same_zip(tmp_path: Path) -> None:
    """In name and bytes, wherever it is made and whatever the times of the files; a changed source gives another."""
    first = made_by(sys.executable, tmp_path / "a")
    root = tmp_path / "copy"
    for room in ("osiris_core", "remote"):
        shutil.copytree(Path(__file__).parent.parent / room, root / room, ignore=shutil.ignore_patterns("__pycache__"))
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True)
    second = made_by(str(bare / "bin/python"), tmp_path / "b", root)
    assert Path(first[0]).name == Path(second[0]).name
    assert first[1] == second[1]
    with (root / "remote/wire.py").open("a") as file:
        file.write("# more\n")
    assert Path(made_by(str(bare / "bin/python"), tmp_path / "b", root)[0]).name != Path(first[0]).name


def test_many_make_it_at_once(tmp_path: Path) -> None:
    """Processes that race get the same whole file, and leave nothing beside it."""
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: tuple(made_by(sys.executable, tmp_path)), range(4)))
    assert len(set(found)) == 1
    assert [path.name for path in (tmp_path / "osiris").iterdir()] == [Path(found[0][0]).name]
    assert zipfile.ZipFile(found[0][0]).testzip() is None


def test_the_zip_is_importable_and_complete(cache: Path) -> None:
    """Directories, sources, byte code and our version are in it; command line, tests and adapters are not."""
    archive = zipfile.ZipFile(io.BytesIO(code_zip().read_bytes()))
    names = set(archive.namelist())
    assert {"remote/", "osiris_core/", "remote/supervisor.py", "remote/supervisor.pyc"} <= names
    assert not [
        name for name in names if name.startswith(("osiris_core/cli", "osiris_core/testing", "adapters", "tests"))
    ]
    assert any(name.endswith(".dist-info/METADATA") for name in names)
    assert archive.testzip() is None


def test_a_cache_that_cannot_be_written_is_no_obstacle(cache: Path) -> None:
    """The temporary directory is taken instead."""
    cache.parent.mkdir(parents=True)
    cache.write_text("a file where the folder would be")
    assert code_zip().is_file()
    assert not code_zip().is_relative_to(cache)


def test_a_cached_zip_that_is_broken_is_not_taken_for_good(cache: Path) -> None:
    """One that a full disk left empty is made again."""
    path = code_zip()
    whole = path.read_bytes()
    path.write_bytes(b"")
    code_zip.cache_clear()
    assert code_zip().read_bytes() == whole


def test_the_squeezed_code_is_the_same_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its zip has the files of the other, byte for byte, and is what its name says; a spoilt one is made again."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    squeezed_code.cache_clear()
    code_zip.cache_clear()
    try:
        made = squeezed_code()
        content = lzma.decompress(made.path.read_bytes())
        assert (len(content), hashlib.sha256(content).hexdigest()) == (made.size_bytes, made.sha256)
        ours, other = zipfile.ZipFile(io.BytesIO(content)), zipfile.ZipFile(code_zip())
        assert {name: ours.read(name) for name in ours.namelist()} == {
            name: other.read(name) for name in other.namelist()
        }
        assert made.path.stat().st_size < 0.7 * code_zip().stat().st_size
        made.path.write_bytes(b"")
        squeezed_code.cache_clear()
        assert squeezed_code() == made
        assert made.path.stat().st_size > 0
    finally:
        squeezed_code.cache_clear()
        code_zip.cache_clear()
