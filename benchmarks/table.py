"""The table that every benchmark prints: ours beside its yardstick, their ratio, and what is to be reached."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True)
class Row:
    """One figure. `ratio` is ours over the yardstick; None where they are not to be divided."""

    what: str
    ours: str
    yardstick: str = "-"
    ratio: float | None = None
    reach: str = "-"

    def cells(self) -> tuple[str, ...]:
        return self.what, self.ours, self.yardstick, "-" if self.ratio is None else f"{self.ratio:.2f}", self.reach


HEAD = ("what", "ours", "yardstick", "ratio", "reach")


def print_table(rows: list[Row]) -> None:
    lines = [HEAD, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    for line in lines:
        print(" | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def main(measure: Callable[[bool], Iterator[Row]]) -> None:
    """The command line of one benchmark: measure, with `--quick` at small sizes, and print the table."""
    parser = argparse.ArgumentParser(prog=f"python -m {_module_name()}")
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that it runs, not how fast")
    print_table(list(measure(parser.parse_args().quick)))


def _module_name() -> str:
    spec = sys.modules["__main__"].__spec__
    return spec.name if spec is not None else "benchmarks"
