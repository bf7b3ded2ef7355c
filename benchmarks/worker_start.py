"""How soon a worker says hello, from the call that starts its process to the bytes on the wire."""

from __future__ import annotations

import subprocess
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks.bare_worker import place
from benchmarks.table import Row, main
from benchmarks.timing import python
from osiris_core import AdapterFactory

if TYPE_CHECKING:
    from collections.abc import Iterator


def hello_s() -> float:
    with AdapterFactory.create("process") as adapter, place(adapter) as made:
        started_s = perf_counter()
        made.open_worker()
        return perf_counter() - started_s


def bare_s() -> float:
    """The yardstick: an interpreter that starts and leaves."""
    started_s = perf_counter()
    subprocess.run(python("-I", "-c", "pass"), check=True)
    return perf_counter() - started_s


def measure(quick: bool) -> Iterator[Row]:
    ours, bare = [], []
    for _ in range(2 if quick else 30):
        ours.append(hello_s())
        bare.append(bare_s())
    own, beside = median(ours), median(bare)
    yield Row(
        "worker start to hello, over python -I -c pass", f"{own:.3f} s", f"{beside:.3f} s", own / beside, "0.05 s"
    )


if __name__ == "__main__":
    main(measure)
