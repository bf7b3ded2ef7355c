"""What there is to wait for before anything happens: whole processes beside an interpreter that does nothing."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.datasets import orders_csv
from benchmarks.orders_run import our_run
from benchmarks.table import Row, main
from benchmarks.timing import alternate, osiris, python, run_process

if TYPE_CHECKING:
    from collections.abc import Iterator

IMPORTS = "import duckdb, pyarrow, pydantic"


def measure(quick: bool) -> Iterator[Row]:
    source = orders_csv(10)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = alternate(
            {
                "run": lambda: our_run(folder, source),
                "import": lambda: run_process(python("-c", "from osiris_core import AdapterFactory"), cwd=folder),
                "help": lambda: run_process(osiris("--help"), cwd=folder),
                "list": lambda: run_process(osiris("backends", "list"), cwd=folder),
                "libraries": lambda: run_process(python("-c", IMPORTS), cwd=folder),
                "bare": lambda: run_process(python("-c", "pass"), cwd=folder),
            },
            repeats=2 if quick else 15,
        )
    bare, libraries = found["bare"], found["libraries"]
    for what, name, yardstick, beside, reach in (
        ("10 rows CSV, SQL, CSV", "run", bare, "python -c pass", "0.35 s"),
        ("10 rows CSV, SQL, CSV", "run", libraries, IMPORTS, "-"),
        ("from osiris_core import AdapterFactory", "import", bare, "python -c pass", "0.10 s"),
        ("osiris --help", "help", bare, "python -c pass", "0.20 s"),
        ("osiris backends list", "list", bare, "python -c pass", "0.20 s"),
    ):
        ours = found[name]
        yield Row(f"{what}, over {beside}", f"{ours}", f"{yardstick}", ours.wall_s / yardstick.wall_s, reach)


if __name__ == "__main__":
    main(measure)
