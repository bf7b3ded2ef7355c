"""
Order files of any size, the same bytes each time: `python -m benchmarks.datasets ROWS`.

Kept in a folder outside the repository (`OSIRIS_BENCHMARK_DATA`, else below the system's temporary folder).
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from benchmarks.timing import data_folder, python, run_process

if TYPE_CHECKING:
    from pathlib import Path

VERSION = 1
"""Raised when the recipe changes: the file's name then changes with it."""


def orders_csv(rows: int) -> Path:
    """A CSV file of `rows` orders with 8 columns, about 63 bytes a row; made on first use, in a process of its own."""
    path = data_folder() / f"orders-{VERSION}-{rows}.csv"
    if not path.exists():
        run_process(python("-m", "benchmarks.datasets", str(rows)))
    return path


def _write(rows: int) -> None:
    import duckdb

    path = data_folder() / f"orders-{VERSION}-{rows}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(f".{os.getpid()}")
    # Arithmetic instead of random(): the same rows from any version and any number of threads.
    duckdb.execute(
        f"""
        COPY (
            SELECT i AS order_id,
                   i * 7919 % 50000 AS customer_id,
                   ['CZ', 'DE', 'PL', 'NA', 'AT'][1 + i % 5] AS country,
                   round(i * 31 % 100000 / 100.0, 2) AS amount,
                   i % 20 AS quantity,
                   i % 3 = 0 AS paid,
                   'product ' || i % 1000 AS product,
                   strftime(TIMESTAMP '2026-01-01' + INTERVAL (i % 300) DAY, '%Y-%m-%d %H:%M:%S') AS ordered_at
            FROM range({rows}) t(i)
        ) TO '{beside}' (HEADER)
        """
    )
    beside.replace(path)


if __name__ == "__main__":
    _write(int(sys.argv[1]))
