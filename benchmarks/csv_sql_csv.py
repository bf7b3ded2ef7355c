"""CSV → SQL → CSV as whole processes: `osiris run` beside one fused DuckDB statement and the three written by hand."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.datasets import orders_csv
from benchmarks.orders_run import our_output, our_run, run_by_hand
from benchmarks.table import Row, main
from benchmarks.timing import alternate, python, run_process

if TYPE_CHECKING:
    from collections.abc import Iterator

SAME_ROWS = """
import sys, duckdb
columns = "{'order_id': 'BIGINT', 'customer_id': 'BIGINT', 'country': 'VARCHAR', 'product': 'VARCHAR', "
columns += "'total': 'DOUBLE', 'paid': 'BOOLEAN', 'ordered_at': 'TIMESTAMP'}"
ours, theirs = (f"SELECT * FROM read_csv('{path}', columns={columns}, header=true)" for path in sys.argv[1:])
for one, other in ((ours, theirs), (theirs, ours)):
    ((different,),) = duckdb.sql(f"SELECT count(*) FROM ({one} EXCEPT ALL {other})").fetchall()
    assert not different, f"{different} rows differ"
"""


def measure(quick: bool) -> Iterator[Row]:
    for rows, repeats in ((1_000, 1),) if quick else ((1_000_000, 7), (5_000_000, 3)):
        yield from measure_size(rows, repeats)


def measure_size(rows: int, repeats: int) -> Iterator[Row]:
    source = orders_csv(rows)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = alternate(
            {
                "ours": lambda: our_run(folder, source),
                "three": lambda: run_by_hand("three", source, folder / "three.csv"),
                "fused": lambda: run_by_hand("fused", source, folder / "fused.csv"),
            },
            repeats,
        )
        # A quick run of something else is no figure: the rows must be the same.
        run_process(python("-c", SAME_ROWS, our_output(folder), folder / "three.csv"), cwd=folder)
    ours, three, fused = found["ours"], found["three"], found["fused"]
    what = f"{rows:,} x 8 CSV, SQL, CSV"
    yield Row(f"{what}, over three statements by hand", f"{ours}", f"{three}", ours.wall_s / three.wall_s, "1.15")
    yield Row(f"{what}, over one fused statement", f"{ours}", f"{fused}", ours.wall_s / fused.wall_s, "1.7, then 1.5")
    cpu = f"{ours.cpu_s:.3f} s", f"{three.cpu_s:.3f} s"
    yield Row(f"{what}, CPU time over three by hand", *cpu, ours.cpu_s / three.cpu_s)
    memory = f"{ours.peak_rss_mib:.0f} MiB", f"{three.peak_rss_mib:.0f} MiB"
    yield Row(f"{what}, peak memory", *memory, ours.peak_rss_mib / three.peak_rss_mib)


if __name__ == "__main__":
    main(measure)
