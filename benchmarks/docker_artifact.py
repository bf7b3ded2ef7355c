"""A large artifact's way out of a container, hashed while it comes, beside `docker cp`; and a large file's way in."""

from __future__ import annotations

import resource
import shutil
import subprocess
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter, sleep
from typing import TYPE_CHECKING, Any

from benchmarks.bare_worker import place
from benchmarks.docker_engine import NOT_THERE, docker_place
from benchmarks.table import Row, main
from osiris_core import AdapterFactory
from osiris_core.archive import pack_files
from osiris_core.arrival import unpack_stream
from remote import folders

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME = "artifact.bin"
WRITE = """
import os, sys
os.makedirs(sys.argv[1])
with open(sys.argv[1] + "/artifact.bin", "wb") as file:
    block = os.urandom(1 << 20)
    for _ in range(int(sys.argv[2]) >> 20):
        file.write(block)
os.write(1, b"written")
os.read(0, 1)
"""


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def took_s(action: Callable[[], Any]) -> float:
    started_s = perf_counter()
    action()
    return perf_counter() - started_s


class Transfers:
    """Both ways of both candidates, in one container that has the artifact in its volume."""

    def __init__(self, sandbox: Any, folder: Path, size_bytes: int) -> None:
        self._sandbox = sandbox
        self._folder = folder
        self._size_bytes = size_bytes
        self._session = f"{sandbox.work_dir}/{folders.SESSION_FOLDER}"

    def out(self) -> None:
        """As `collect` does it."""
        target = self._folder / "ours"
        digests = unpack_stream(self._sandbox.get(folders.SESSION_FOLDER), target)
        name = f"{folders.SESSION_FOLDER}/{NAME}"
        assert len(digests[name]) == 64
        assert (target / name).stat().st_size == self._size_bytes
        shutil.rmtree(target)

    def docker_out(self) -> None:
        target = self._folder / "theirs"
        subprocess.run(["docker", "cp", f"{self._sandbox.name}:{self._session}", target], check=True)
        assert (target / NAME).stat().st_size == self._size_bytes
        shutil.rmtree(target)

    def into(self) -> None:
        """As `execute` does it: packed and hashed first."""
        archive = self._folder / "package.tar"
        with archive.open("wb") as file:
            for _ in pack_files([("inputs/0/artifact.bin", self._folder / NAME)], file):
                pass
        self._sandbox.put(archive)
        archive.unlink()

    def docker_into(self) -> None:
        command = ["docker", "cp", str(self._folder / NAME), f"{self._sandbox.name}:{self._sandbox.work_dir}/theirs"]
        subprocess.run(command, check=True)


def measure(quick: bool) -> Iterator[Row]:
    docker = docker_place()
    if docker is None:
        yield Row("docker: a large artifact", NOT_THERE)
        return
    size_bytes = 2 << 20 if quick else 1 << 30
    with (
        TemporaryDirectory() as name,
        AdapterFactory.create("docker", **docker.config) as adapter,
        place(adapter) as made,
    ):
        sandbox, folder = made.sandbox, Path(name)
        session = f"{sandbox.work_dir}/{folders.SESSION_FOLDER}"
        transport = made.open([sandbox.python, "-I", "-c", WRITE, session, str(size_bytes)])
        while not transport.receive(1.0):
            sleep(0.1)
        transfers = Transfers(sandbox, folder, size_bytes)
        before_mib = peak_mib()
        pairs = {"out": (transfers.out, transfers.docker_out), "in": (transfers.into, transfers.docker_into)}
        for way, (ours, theirs) in pairs.items():
            if way == "in":
                with (folder / NAME).open("wb") as file:
                    file.truncate(size_bytes)
            found = [(took_s(ours), took_s(theirs)) for _ in range(1 if quick else 3)]
            own, beside = (median(times) for times in zip(*found, strict=True))
            rate = f"{size_bytes / own / 1e6:.0f} MB/s", f"{size_bytes / beside / 1e6:.0f} MB/s"
            what = f"{size_bytes >> 20} MiB {way}, hashed, over docker cp: speed"
            yield Row(what, *rate, beside / own, "0.8" if way == "out" else "-")
        yield Row(
            "memory of the host's process above what it had", f"{peak_mib() - before_mib:.1f} MiB", reach="64 MiB"
        )


if __name__ == "__main__":
    main(measure)
