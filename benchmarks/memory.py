"""Peak memory of CSV → SQL → CSV under a budget: the same at any size, and once where the kernel holds us to it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.cgroup import memory_group
from benchmarks.datasets import orders_csv
from benchmarks.orders_run import our_run, run_by_hand
from benchmarks.table import Row, main
from benchmarks.timing import ProcessFailed, ProcessRun, run_process

if TYPE_CHECKING:
    from collections.abc import Iterator

BUDGET = "512MB"
GROUP_BYTES = 1 << 30


def measure(quick: bool) -> Iterator[Row]:
    sizes = (1_000,) if quick else (1_000_000, 5_000_000, 20_000_000)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for rows in sizes:
            ours = our_run(folder, orders_csv(rows), "--memory-budget", BUDGET)
            fused = run_by_hand("fused", orders_csv(rows), folder / "fused.csv")
            what = f"{rows:,} x 8 CSV, SQL, CSV, budget {BUDGET}, over one fused statement"
            ratio = ours.peak_rss_mib / fused.peak_rss_mib
            yield Row(f"{what}: peak", _mib(ours), _mib(fused), ratio, "1024 MiB")
            walls = f"{ours.wall_s:.2f} s", f"{fused.wall_s:.2f} s"
            yield Row(f"{what}: time", *walls, ours.wall_s / fused.wall_s)
        yield from measure_in_group(folder, sizes[-1])


def measure_in_group(folder: Path, rows: int) -> Iterator[Row]:
    what = f"{rows:,} x 8 CSV, SQL, CSV, budget {BUDGET}, in a cgroup of 1 GiB"
    with memory_group(GROUP_BYTES) as group:
        if group is None:
            yield Row(what, "not measured: no cgroup can be made here", reach="completes")
            return

        def launch(argv: list[str | Path], cwd: Path) -> ProcessRun:
            return run_process(group.inside(argv), cwd)

        try:
            ours = our_run(folder, orders_csv(rows), "--memory-budget", BUDGET, launch=launch)
        except ProcessFailed as exc:
            yield Row(what, f"failed: {str(exc)[-200:]}", reach="completes")
        else:
            yield Row(what, f"completed, {_mib(ours)}, {ours.wall_s:.2f} s", reach="completes")


def _mib(run: ProcessRun) -> str:
    return f"{run.peak_rss_mib:.0f} MiB"


if __name__ == "__main__":
    main(measure)
