"""Runs whole processes, one candidate after the other and round again, and says what each took."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

ROOT = Path(__file__).resolve().parent.parent


def data_folder() -> Path:
    """Where benchmarks keep what they make once; outside the repository."""
    chosen = os.environ.get("OSIRIS_BENCHMARK_DATA")
    return Path(chosen) if chosen else Path(tempfile.gettempdir()) / "osiris-benchmarks"


def surroundings() -> dict[str, str]:
    """What measured processes get: `benchmarks` is found, and modules are compiled once, as when installed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONPYCACHEPREFIX": str(data_folder() / "bytecode")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return environment


@dataclass(frozen=True)
class ProcessRun:
    """What one process took. `peak_rss_mib` is of the process itself, not of what it started."""

    wall_s: float
    cpu_s: float
    peak_rss_mib: float


class ProcessFailed(Exception):
    """A measured process ended with something else than 0; its output says why."""


def run_process(argv: Sequence[str | Path], cwd: Path | None = None) -> ProcessRun:
    """
    Run a command to its end, with its output kept off the terminal.

    The peak counts from what the starting process had when it forked: keep data libraries out of that one.

    Raises:
        ProcessFailed: With the exit code and the end of the output.
    """
    started_s = perf_counter()
    environment = surroundings()
    process = subprocess.Popen(
        argv, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None
    output = process.stdout.read()
    process.stdout.close()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise ProcessFailed(f"{argv} ended with {process.returncode}: {output.decode(errors='replace')[-4000:]}")
    return ProcessRun(perf_counter() - started_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


@dataclass(frozen=True)
class Spread:
    """Several runs of one candidate."""

    runs: list[ProcessRun]

    @property
    def wall_s(self) -> float:
        return median(run.wall_s for run in self.runs)

    @property
    def cpu_s(self) -> float:
        return median(run.cpu_s for run in self.runs)

    @property
    def peak_rss_mib(self) -> float:
        return max(run.peak_rss_mib for run in self.runs)

    def __str__(self) -> str:
        walls = [run.wall_s for run in self.runs]
        return f"{self.wall_s:.3f} s ({min(walls):.3f}-{max(walls):.3f})"


def alternate(candidates: Mapping[str, Callable[[], ProcessRun]], repeats: int, warm_up: int = 1) -> dict[str, Spread]:
    """Run A B A B …: what slows the machine down for a while slows every candidate down."""
    runs: dict[str, list[ProcessRun]] = {name: [] for name in candidates}
    for round_number in range(warm_up + repeats):
        for name, run in candidates.items():
            result = run()
            if round_number >= warm_up:
                runs[name].append(result)
    return {name: Spread(found) for name, found in runs.items()}


def python(*arguments: str | Path) -> list[str | Path]:
    """A command line of this interpreter."""
    return [sys.executable, *arguments]


def osiris(*arguments: str | Path) -> list[str | Path]:
    """A command line of the installed `osiris` script."""
    return [Path(sys.executable).with_name("osiris"), *arguments]
