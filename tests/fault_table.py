"""The page of the fault matrix: what came of each cell, as the tests that it names ended."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.fault_matrix import COLUMNS, MATRIX

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.fault_matrix import Fault

PAGE = Path(__file__).parent.parent / "docs/reliability.md"
BEGIN, END = "<!-- fault matrix: written by pytest --fault-table -->\n", "<!-- end of the fault matrix -->"
SURVIVED, PARTLY, SAME = "survived", "partly", "same code"
LOST, NOT_RUN = "**not survived**", "not run"
GAP = "named gap: "


@dataclass(frozen=True)
class Cell:
    """What is known of a fault on an adapter: a state, or the reason why it cannot occur, and how many tests say so."""

    state: str
    reason: str = ""
    tests: int = 0


def of_cell(row: Fault, column: str, ended: Mapping[str, str]) -> Cell:
    """
    Args:
        ended: How tests ended, by id: `passed`, `failed`, or the reason of a skip.
    """
    if column in row.never:
        return Cell("", row.never[column])
    states: list[str] = []
    for proof in row.proofs(column):
        found = [state for test, state in ended.items() if is_of(test, proof)]
        states += found or [NOT_RUN]
    gaps = [state.partition(GAP)[2] for state in states if GAP in state]
    if "failed" in states:
        return Cell(LOST, tests=states.count("failed"))
    if states and len(gaps) == len(states):
        return Cell("", gaps[0])
    if states.count("passed") + len(gaps) == len(states) and states:
        how = PARTLY if gaps else SURVIVED if row.is_own(column) else SAME
        return Cell(how, tests=states.count("passed"))
    return Cell(NOT_RUN)


def is_of(test: str, proof: str) -> bool:
    """Whether a proof names a test: a name without parameters, or with the first of them, stands for all."""
    if "[" in proof and not proof.endswith("]"):
        return test.startswith((f"{proof}]", f"{proof}-"))
    return test == proof or test.startswith(f"{proof}[")


def of_run(ended: Mapping[str, str]) -> dict[tuple[str, str], Cell]:
    return {(row.name, column): of_cell(row, column, ended) for row in MATRIX for column in COLUMNS}


def written(cells: Mapping[tuple[str, str], Cell]) -> str:
    """The table, its reasons, and the counts."""
    reasons = list(dict.fromkeys(cell.reason for cell in cells.values() if cell.reason))
    lines = [f"| fault | {' | '.join(f'`{column}`' for column in COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    for row in MATRIX:
        shown = (_shown(cells[row.name, column], reasons) for column in COLUMNS)
        lines.append(f"| {row.name} | {' | '.join(shown)} |")
    lines += [
        "",
        "A number in brackets: so many tests and checks say so. *same code*: the fault meets code that all share, and"
        " was run on that code, not on this adapter. *partly*: a part of it is a named gap. *n* is a reason why the"
        " fault cannot occur there:",
        "",
    ]
    lines += [f"{number}. {reason}" for number, reason in enumerate(reasons, 1)]
    states = [cell.state for cell in cells.values()]
    lines += [
        "",
        f"{len(MATRIX)} faults on {len(COLUMNS)} adapters are {len(cells)} cells: {states.count(SURVIVED)} survived, "
        f"{states.count(PARTLY)} partly, {states.count(SAME)} are the same code, {states.count(LOST)} not survived, "
        f"{states.count(NOT_RUN)} not run, {states.count('')} cannot occur.",
    ]
    return "\n".join(lines) + "\n"


def _shown(cell: Cell, reasons: list[str]) -> str:
    if cell.reason:
        return f"*{reasons.index(cell.reason) + 1}*"
    return f"{cell.state} ({cell.tests})" if cell.tests else cell.state


def read(page: str) -> dict[tuple[str, str], Cell]:
    """What `written` wrote into a page."""
    text = page.partition(BEGIN)[2].partition(END)[0]
    reasons = re.findall(r"^\d+\. (.*)$", text, re.MULTILINE)
    found: dict[tuple[str, str], Cell] = {}
    for line in text.splitlines():
        name, *shown = (part.strip() for part in line.strip("|").split("|")) if line.startswith("| ") else ("",)
        if name in ("", "fault"):
            continue
        for column, words in zip(COLUMNS, shown, strict=True):
            number = re.fullmatch(r"\*(\d+)\*", words)
            state, _, tests = words.partition(" (")
            found[name, column] = (
                Cell("", reasons[int(number[1]) - 1]) if number else Cell(state, tests=int(tests.rstrip(")") or 0))
            )
    return found


def put(page: str, cells: Mapping[tuple[str, str], Cell]) -> str:
    """A page with another table."""
    before, _, rest = page.partition(BEGIN)
    return before + BEGIN + written(cells) + END + rest.partition(END)[2]
