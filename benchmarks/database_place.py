"""A database server for one benchmark, a table of orders in it, and transfers measured in processes of their own."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

from benchmarks.timing import ProcessFailed, python, surroundings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

PLACE_VARIABLE = "OSIRIS_BENCHMARK_DATABASE"


@contextmanager
def database_place(kind: str) -> Iterator[Any]:
    """A database of a server that is started for this, as the tests have them; None where it is not installed."""
    servers, databases = import_module("tests.database_server"), import_module("tests.databases")
    skipped = import_module("pytest").skip.Exception
    try:
        server = getattr(servers, f"{kind}Server")()
    except skipped as exc:
        print(exc, file=sys.stderr)
        yield None
        return
    try:
        database = getattr(databases, f"{kind}Database")(server)
        yield database
        database.remove()
    finally:
        server.remove()


@dataclass(frozen=True)
class Transfers:
    """Several runs of one candidate: what each took, and the memory that it needed above that of its imports."""

    seconds: Sequence[float]
    above_idle_mib: float

    @property
    def median_s(self) -> float:
        return median(self.seconds)

    def __str__(self) -> str:
        return f"{self.median_s:.3f} s ({min(self.seconds):.3f}-{max(self.seconds):.3f})"


def measure_transfers(
    module: str, database: Any, candidates: Sequence[str], repeats: int, before: Callable[[], None] = lambda: None
) -> dict[str, Transfers]:
    """A B A B …, each in a process of its own, which says what the transfer took without its imports."""
    environment = {**surroundings(), PLACE_VARIABLE: json.dumps(database.connection)}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in candidates}
    for _ in range(repeats):
        for name in candidates:
            before()
            command = python("-m", module, name)
            result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if result.returncode != 0:
                raise ProcessFailed(f"{name} ended with {result.returncode}: {result.stderr[-2000:]}")
            took = json.loads(result.stdout.splitlines()[-1])
            found[name].append((took["s"], took["above_idle_mib"]))
    return {name: Transfers([s for s, _ in runs], max(mib for _, mib in runs)) for name, runs in found.items()}


def run_candidate(name: str, candidates: Mapping[str, Callable[[dict[str, Any]], Callable[[], object]]]) -> None:
    """In a process of its own: make the candidate ready, measure it, and print what it took."""
    place = json.loads(os.environ[PLACE_VARIABLE])
    transfer = candidates[name](place)
    idle_mib = _peak_mib()
    started_s = perf_counter()
    transfer()
    print(json.dumps({"s": perf_counter() - started_s, "above_idle_mib": _peak_mib() - idle_mib}))


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def our_read(driver: str, place: dict[str, Any], budget_bytes: int) -> Callable[[], object]:
    from osiris_core import DriverRegistry
    from osiris_core.testing import run_driver

    found, folder = DriverRegistry.get(driver), Path(tempfile.mkdtemp(prefix="osiris-benchmark-"))
    config = {"connection": place, "table": "orders"}
    run_driver(found, {**config, "limit": 1}, folder)  # what is imported at the first use is no transfer
    return lambda: run_driver(found, config, folder, table_budget_bytes=budget_bytes)


def our_write(driver: str, place: dict[str, Any], table: Any) -> Callable[[], object]:
    from osiris_core import DriverRegistry
    from osiris_core.testing import run_driver

    found, folder = DriverRegistry.get(driver), Path(tempfile.mkdtemp(prefix="osiris-benchmark-"))
    config = {"connection": place, "table": "written"}
    return lambda: run_driver(found, config, folder, {"df": table})


def is_installed(*modules: str) -> bool:
    return all(_found(module) for module in modules)


def _found(module: str) -> bool:
    try:
        import_module(module)
    except ImportError:
        return False
    return True
