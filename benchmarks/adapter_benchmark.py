"""
What an adapter costs around the steps, phase by phase: `python -m benchmarks.adapter_benchmark [--adapter NAME …]`.

Works for any adapter and any manifest; all that can be measured here by default. The yardstick of an adapter is
`local` on the same manifest.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

from benchmarks.bare_worker import place
from benchmarks.docker_engine import NOT_THERE, docker_place
from benchmarks.round_trips import quantile, times_ms
from benchmarks.table import Row, print_table
from osiris_core import AdapterFactory, ExecutionAdapter, ExecutionContext, Manifest, PreparedRun, RunReport
from osiris_core.backends import RemoteAdapter
from remote.sandbox import BatchSandbox

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

COLUMNS = ("prepare", "queue", "start", "transfer", "steps", "collect")
"""The parts of a run's wall time, as its report balances them."""

EXAMPLE = {
    "steps": [
        {"id": "make", "driver": "duckdb.processor", "config": {"query": "SELECT i FROM range(1000) t(i)"}},
        *(
            {
                "id": f"pass-{number}",
                "driver": "duckdb.processor",
                "inputs": {"t": f"pass-{number - 1}" if number else "make"},
                "config": {"query": "SELECT * FROM t"},
            }
            for number in range(4)
        ),
    ]
}


@dataclass
class Measured:
    """One phase: what it gave, and what it took. `peak_rss_mib` is this process's so far."""

    value: Any
    wall_ms: float
    peak_rss_mib: float


@dataclass
class Figures:
    """Several runs of one adapter."""

    reports: list[RunReport] = field(default_factory=list)
    walls_ms: dict[str, list[float]] = field(default_factory=dict)
    round_trips_ms: list[float] = field(default_factory=list)
    peak_rss_mib: float = 0.0

    def part_ms(self, name: str) -> float:
        return median(report.timings[f"{name}_ms"] for report in self.reports)

    @property
    def step_ms(self) -> float:
        """The steps' span, shared out among them."""
        return median(report.timings["steps_ms"] / len(report["steps"]) for report in self.reports)

    def transfer(self, name: str) -> float | None:
        """`up_bytes`, `up_ms`, `down_bytes` or `down_ms`; None where nothing has to travel."""
        found = [report["transfer"][name] for report in self.reports if "transfer" in report]
        return median(found) if found else None

    @property
    def overhead_ms(self) -> float:
        return float(median(report["overhead_ms"] for report in self.reports))


class AdapterBenchmark:
    """
    Measures the three phases of any adapter, each by itself or all of them.

    Args:
        directory: Session directories are made below it.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def benchmark_prepare(
        self, adapter: ExecutionAdapter, manifest: str | Path | Mapping[str, Any] | Manifest
    ) -> Measured:
        """Prepare in a new session; `value` is the prepared run."""
        session_dir = tempfile.mkdtemp(dir=self._directory, prefix="session-")
        return self._measure(lambda: adapter.prepare(manifest, ExecutionContext(session_dir=session_dir)))

    def benchmark_execute(self, adapter: ExecutionAdapter, prepared: PreparedRun) -> Measured:
        """Execute what `adapter.prepare` gave; raises what `execute` raises."""
        return self._measure(lambda: adapter.execute(prepared, _context_of(prepared)))

    def benchmark_collect(self, adapter: ExecutionAdapter, prepared: PreparedRun) -> Measured:
        """Collect what was executed; `value` is the report."""
        return self._measure(lambda: adapter.collect(prepared, _context_of(prepared)))

    def benchmark(self, adapter: ExecutionAdapter, manifest: Any, repeats: int) -> Figures:
        """All three phases, `repeats` times after one to warm up."""
        figures = Figures(walls_ms={"prepare": [], "execute": [], "collect": []})
        for number in range(repeats + 1):
            prepare = self.benchmark_prepare(adapter, manifest)
            execute = self.benchmark_execute(adapter, prepare.value)
            collect = self.benchmark_collect(adapter, prepare.value)
            if number:
                figures.reports.append(collect.value)
                for name, phase in (("prepare", prepare), ("execute", execute), ("collect", collect)):
                    figures.walls_ms[name].append(phase.wall_ms)
            figures.peak_rss_mib = collect.peak_rss_mib
        if isinstance(adapter, RemoteAdapter):
            figures.round_trips_ms = self.benchmark_round_trip(adapter, 100 * repeats)
        return figures

    def benchmark_round_trip(self, adapter: RemoteAdapter, count: int) -> list[float]:
        """The milliseconds of `count` requests to a worker of this adapter, and their answers."""
        with place(adapter) as made:
            if isinstance(made.sandbox, BatchSandbox):
                return []  # its worker waits for nobody
            client = made.open_worker()
            times_ms(lambda: client.call("heartbeat"), 20)
            return times_ms(lambda: client.call("heartbeat"), count)

    @staticmethod
    def _measure(phase: Any) -> Measured:
        started_s = perf_counter()
        value = phase()
        wall_ms = (perf_counter() - started_s) * 1000
        return Measured(value, wall_ms, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def _context_of(prepared: PreparedRun) -> ExecutionContext:
    """The session a prepared run belongs to: everything else that was said about it is sealed in it."""
    return ExecutionContext(session_dir=str(Path(prepared.artifacts_dir).parent))


def rows(name: str, ours: Figures, yardstick: Figures | None) -> Iterator[Row]:
    def row(what: str, own: float, beside: float | None, unit: str) -> Row:
        other = "-" if beside is None else f"{beside:.2f} {unit}"
        return Row(f"{name}: {what}", f"{own:.2f} {unit}", other, own / beside if beside and beside >= 0.01 else None)

    for part in COLUMNS:
        yield row(part, ours.part_ms(part), yardstick.part_ms(part) if yardstick else None, "ms")
    for way in ("up", "down"):
        if (size_bytes := ours.transfer(f"{way}_bytes")) is not None:
            yield Row(f"{name}: transfer {way}", f"{ours.transfer(f'{way}_ms'):.2f} ms", f"{size_bytes:,.0f} bytes")
    for share in (0.5, 0.95) if ours.round_trips_ms else ():
        yield row(f"round trip p{share * 100:.0f}", quantile(ours.round_trips_ms, share), None, "ms")
    yield row("per step", ours.step_ms, yardstick.step_ms if yardstick else None, "ms")
    yield row("total overhead", ours.overhead_ms, yardstick.overhead_ms if yardstick else None, "ms")
    yield row("memory of this process so far", ours.peak_rss_mib, yardstick.peak_rss_mib if yardstick else None, "MiB")
    steps = max((report.metrics["memory_usage_mb"] for report in ours.reports), default=0.0)
    yield row("memory of the steps", steps, None, "MB")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.adapter_benchmark")
    parser.add_argument("--adapter", action="append", choices=AdapterFactory.available(), help="may be repeated")
    parser.add_argument("--manifest", default=None, help="a manifest file; five small SQL steps by default")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="one repeat")
    arguments = parser.parse_args()
    repeats = 1 if arguments.quick else arguments.repeats
    # `local` last: it brings the engine, and so much memory, into this process.
    chosen = set(arguments.adapter or AdapterFactory.available()) - {"local"}
    names = [*sorted(chosen, reverse=True), "local"]
    figures, missing = {}, []
    with tempfile.TemporaryDirectory() as folder:
        benchmark = AdapterBenchmark(Path(folder))
        for name in names:
            settings = settings_of(name)
            if settings is None:
                missing.append(Row(name, NOT_THERE if name == "docker" else "cannot be used here: not measured"))
                continue
            with AdapterFactory.create(name, **settings) as adapter:
                figures[name] = benchmark.benchmark(adapter, arguments.manifest or EXAMPLE, repeats)
    found = [row for name, ours in figures.items() for row in rows(name, ours, figures["local"])]
    print_table([*found, *missing])


def settings_of(name: str) -> dict[str, Any] | None:
    """What an adapter needs to be told here; None where it cannot be measured."""
    if name == "docker":
        found = docker_place()
        return found.config if found is not None else None
    if name == "fallback":  # a chain of the others
        return None
    return {} if AdapterFactory.create(name).unusable() is None else None


if __name__ == "__main__":
    main()
