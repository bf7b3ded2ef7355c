"""Runs on a Slurm cluster beside what Slurm itself takes: a job, a pilot's run, an array, and how often it is asked."""

from __future__ import annotations

import subprocess
from contextlib import closing
from pathlib import Path
from shutil import which
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter, sleep
from typing import TYPE_CHECKING, Any

from benchmarks.table import Row, main
from osiris_core import AdapterFactory, ExecutionContext

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from adapters.slurm import SlurmAdapter

NOT_THERE = "no Slurm whose nodes are ready: not measured"
NOOP = "class Noop:\n    def run(self, step_id, config, inputs, ctx):\n        return None\n"
MANIFEST = {"pipeline": "noop", "steps": [{"id": "noop", "driver": "noop_driver:Noop"}]}
TRUE = "#!/bin/sh\ntrue\n"
ENDED = ("", "COMPLETED", "FAILED", "CANCELLED")


def is_ready() -> bool:
    """Whether there is a cluster with an idle node."""
    if which("sinfo") is None:
        return False
    asked = subprocess.run(["sinfo", "-h", "-t", "idle", "-o", "%n"], capture_output=True, text=True, check=False)
    return asked.returncode == 0 and bool(asked.stdout.strip())


def took_s(action: Callable[[], Any]) -> float:
    started_s = perf_counter()
    action()
    return perf_counter() - started_s


class Bare:
    """What Slurm takes for the same, without us: `sbatch` of a script that does nothing."""

    def __init__(self, folder: Path) -> None:
        self._script = folder / "true.sh"
        self._script.write_text(TRUE)

    def job(self, *options: str) -> None:
        """From `sbatch` until Slurm says that all of it has ended, asked every 0.1 s."""
        argv = ["sbatch", "--parsable", "--output=/dev/null", *options, str(self._script)]
        job_id = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()
        look = ["squeue", "-h", "-t", "PD,R,CG", "-j", job_id, "-o", "%T"]
        while subprocess.run(look, capture_output=True, text=True, check=False).stdout.strip():
            sleep(0.1)


class Runs:
    """Runs of one no-op step, each in a session of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        (folder / "noop_driver.py").write_text(NOOP)

    def adapter(self, **settings: Any) -> SlurmAdapter:
        code = [str(self._folder / "noop_driver.py")]
        shared = str(self._folder / "shared")
        return AdapterFactory.create("slurm", shared_dir=shared, code=code, **settings)  # type: ignore[return-value]

    def contexts(self, count: int) -> list[ExecutionContext]:
        self._count += count
        first = self._count - count
        return [ExecutionContext(session_dir=str(self._folder / f"s{first + number}")) for number in range(count)]

    def one(self, adapter: SlurmAdapter) -> None:
        report = adapter.run(MANIFEST, self.contexts(1)[0])
        assert report.succeeded, report.error

    def many(self, adapter: SlurmAdapter, count: int) -> None:
        reports = adapter.run_many([MANIFEST] * count, self.contexts(count))
        assert all(report.succeeded for report in reports)


def measure(quick: bool) -> Iterator[Row]:
    if not is_ready():
        yield Row("slurm", NOT_THERE)
        return
    with TemporaryDirectory() as name:
        folder = Path(name)
        runs, bare = Runs(folder), Bare(folder)
        yield from short_job(runs, bare, 1 if quick else 7)
        yield from pilot(runs, bare, 5 if quick else 200)
        yield from array(runs, bare, 4 if quick else 50)


def short_job(runs: Runs, bare: Bare, count: int) -> Iterator[Row]:
    with closing(runs.adapter()) as adapter:
        found = [(took_s(lambda: runs.one(adapter)), took_s(bare.job)) for _ in range(count)]
    own, beside = (median(times) for times in zip(*found, strict=True))
    more = f"{own - beside:+.2f} s"
    yield Row(f"a run as a job, submit to report, over sbatch of true ({more})", f"{own:.2f} s", f"{beside:.2f} s",
              own / beside, "+1 s")  # fmt: skip


def pilot(runs: Runs, bare: Bare, count: int) -> Iterator[Row]:
    with closing(runs.adapter(mode="pilot")) as adapter:
        runs.one(adapter)
        one_ms = median(took_s(lambda: runs.one(adapter)) for _ in range(min(count, 50))) * 1000
    beside_s = median(took_s(bare.job) for _ in range(1 if count < 10 else 3))
    yield Row("a run in a pilot, one after another, over sbatch of true", f"{one_ms:.1f} ms", f"{beside_s:.2f} s",
              one_ms / 1000 / beside_s, "20 ms")  # fmt: skip
    with closing(runs.adapter(mode="pilot", nodes=2)) as adapter:
        runs.many(adapter, 4)
        each_ms = took_s(lambda: runs.many(adapter, count)) / count * 1000
    yield Row(f"{count} runs in two pilots, each", f"{each_ms:.1f} ms", f"{beside_s:.2f} s", each_ms / 1000 / beside_s,
              "20 ms")  # fmt: skip


def array(runs: Runs, bare: Bare, count: int) -> Iterator[Row]:
    with closing(runs.adapter(mode="array")) as adapter:
        own_s = took_s(lambda: runs.many(adapter, count))
        asked = adapter._board.calls
    beside_s = took_s(lambda: bare.job(f"--array=0-{count - 1}"))
    yield Row(f"{count} runs as one array, over sbatch --array of true", f"{own_s:.2f} s", f"{beside_s:.2f} s",
              own_s / beside_s, "1.2")  # fmt: skip
    yield Row("questions to Slurm meanwhile, each for all of them", f"{asked}", f"{asked / own_s:.1f} a second")


if __name__ == "__main__":
    main(measure)
