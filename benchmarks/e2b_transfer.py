"""A large file's way into an E2B sandbox and out of it, hashed both ways, beside the SDK's own calls."""

from __future__ import annotations

import asyncio
import os
import resource
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks.e2b_far_end import NOT_THERE, FarEnd, far_end
from benchmarks.table import Row, main
from osiris_core import AdapterFactory, ExecutionContext

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME = "large.bin"


def write_random(path: Path, size_bytes: int) -> None:
    with path.open("wb") as file:
        for _ in range(size_bytes >> 20):
            file.write(os.urandom(1 << 20))


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def ours_s(place: FarEnd, folder: Path) -> tuple[float, float]:
    """The times of both transfers of a run that takes the file as its input and gives it back as its artifact."""
    config = {"argv": ["cp", NAME, "back.bin"], "files": {NAME: str(folder / NAME)}, "artifacts": ["back.bin"]}
    manifest = {"steps": [{"id": "copy", "driver": "command", "config": config}]}
    with (
        TemporaryDirectory(dir=folder) as session,
        AdapterFactory.create("e2b", **place.config) as adapter,
    ):
        report = adapter.run(manifest, ExecutionContext(session_dir=session))
        assert report.succeeded, report.error
        (found,) = Path(session).glob("artifacts/copy/**/back.bin")
        assert found.stat().st_size == (folder / NAME).stat().st_size
        return report["transfer"]["up_ms"] / 1000, report["transfer"]["down_ms"] / 1000


async def _by_hand(place: FarEnd, folder: Path) -> tuple[float, float]:
    from e2b import AsyncSandbox

    sandbox = await AsyncSandbox.create("base", timeout=600, **place.address)
    try:
        started_s = perf_counter()
        with (folder / NAME).open("rb") as file:
            await sandbox.files.write(NAME, file)
        up_s = perf_counter() - started_s
        started_s = perf_counter()
        with (folder / "theirs").open("wb") as target:
            async with await sandbox.files.read(NAME, format="stream") as stream:
                async for piece in stream:
                    target.write(piece)
        return up_s, perf_counter() - started_s
    finally:
        await sandbox.kill()


def by_hand_s(place: FarEnd, folder: Path) -> tuple[float, float]:
    return asyncio.run(_by_hand(place, folder))


def timed(place: FarEnd, folder: Path, run: Callable[[FarEnd, Path], tuple[float, float]]) -> dict[str, float]:
    """What each way took, and what its request alone took, seen from the server."""
    place.ask(act="clear")
    up_s, down_s = run(place, folder)
    alone = {request["kind"]: request["ended_s"] - request["started_s"] for request in place.requests()}
    return {"up": up_s, "down": down_s, "up alone": alone["upload"], "down alone": alone["download"]}


def measure(quick: bool) -> Iterator[Row]:
    size_bytes = 4 << 20 if quick else 128 << 20
    with far_end() as place, TemporaryDirectory() as name:
        if place is None:
            yield Row("e2b: a large file", NOT_THERE)
            return
        folder = Path(name)
        write_random(folder / NAME, 2 << 20)
        ours_s(place, folder)  # everything is imported
        write_random(folder / NAME, size_bytes)
        before_mib = peak_mib()
        own = [timed(place, folder, ours_s) for _ in range(1 if quick else 3)]
        more_mib = peak_mib() - before_mib
        theirs = [timed(place, folder, by_hand_s) for _ in range(1 if quick else 3)]
        for way, what, reach in (
            ("up alone", "up, the request", "0.7"),
            ("down alone", "down, the request", "0.7"),
            ("up", "up, packed and hashed", "-"),
            ("down", "down, unpacked and verified", "-"),
        ):
            ours, beside = (median(times[way] for times in found) for found in (own, theirs))
            rates = f"{size_bytes / ours / 1e6:.0f} MB/s", f"{size_bytes / beside / 1e6:.0f} MB/s"
            yield Row(f"{size_bytes >> 20} MiB {what}, over the SDK by hand: speed", *rates, beside / ours, reach)
        yield Row("memory of the host's process above what it had", f"{more_mib:.1f} MiB", reach="64 MiB")


if __name__ == "__main__":
    main(measure)
