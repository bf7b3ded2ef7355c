"""The fault matrix and its page: every cell has a proof or a reason, and the page is what a run wrote."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from osiris_core import AdapterFactory
from tests import fault_table
from tests.fault_checks import MACHINE_CHECKS
from tests.fault_matrix import COLUMNS, DOCKER, E2B, HOST, LOCAL, MATRIX, Fault
from tests.fault_table import GAP, LOST, NOT_RUN, PARTLY, SAME, SURVIVED, Cell, of_cell
from tests.test_conformance import ALL

ROOT = Path(__file__).parent.parent


def gaps_of(column: str) -> dict[str, str]:
    name, *host = column.split(",")
    adapter = AdapterFactory.create(name, **({"engine": "host", "image": "any"} if host else {}))
    return dict(adapter.known_gaps)


@pytest.mark.parametrize("row", MATRIX, ids=[row.name for row in MATRIX])
def test_every_cell_has_a_proof_or_a_reason(row: Fault) -> None:
    """Tests that exist, by name; checks that the kit has; never both a proof and a reason."""
    checks = {check.name for check in (*ALL, *MACHINE_CHECKS)}
    assert set(row.kit) <= checks
    for column in COLUMNS:
        assert bool(row.proofs(column)) != (column in row.never), column
        assert not (set(row.tests) & set(row.never))
        assert not set(row.same) & {*row.tests, *row.never}
        assert not row.kit or not row.same, "the kit is run on every adapter"
        for proof in row.proofs(column):
            file, *_, function = proof.split("[")[0].split("::")
            tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
            names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
            assert function in names | {"test_keeps_its_promise"}, proof


def test_the_page_is_what_a_run_wrote() -> None:
    """Rows, reasons and counts; nothing was left out, and nothing is there that was not survived."""
    page = fault_table.PAGE.read_text(encoding="utf-8")
    told = fault_table.read(page)
    assert list(told) == [(row.name, column) for row in MATRIX for column in COLUMNS]
    assert fault_table.put(page, told) == page
    for row in MATRIX:
        for column in COLUMNS:
            cell = told[row.name, column]
            if column in row.never:
                assert cell == Cell("", row.never[column])
            elif cell.reason:
                assert cell.reason in gaps_of(column).values(), (row.name, column)
            else:
                assert cell.state in (SURVIVED, PARTLY, SAME), (row.name, column)
                assert (cell.state == SAME) == (not row.is_own(column)), (row.name, column)
                assert cell.tests >= 1


def test_a_cell_is_what_its_tests_came_to() -> None:
    """One that failed, was not run, or is a gap, is no survival."""
    row = Fault("x", tests={LOCAL: ("test_a.py::test_one", "test_a.py::test_two[b")}, never={HOST: "no host"})
    one, two = "tests/test_a.py::test_one", "tests/test_a.py::test_two[b-1]"
    assert of_cell(row, LOCAL, {one: "passed", two: "passed"}) == Cell(SURVIVED, tests=2)
    assert of_cell(row, LOCAL, {one: "passed", two: "failed"}) == Cell(LOST, tests=1)
    assert of_cell(row, LOCAL, {one: "passed", f"{two[:-4]}c]": "passed"}) == Cell(NOT_RUN)
    assert of_cell(row, LOCAL, {f"{one}[a]": "passed", f"{one}[b]": "failed", two: "passed"}).state == LOST
    assert of_cell(row, LOCAL, {one: "passed", two: "Skipped: nothing here"}) == Cell(NOT_RUN)
    assert of_cell(row, LOCAL, dict.fromkeys([one, two], f"Skipped: {GAP}it cannot")) == Cell("", "it cannot")
    assert of_cell(row, LOCAL, {one: "passed", two: f"Skipped: {GAP}it cannot"}) == Cell(PARTLY, tests=1)
    assert of_cell(row, HOST, {}) == Cell("", "no host")
    assert of_cell(row, DOCKER, {}) == Cell(NOT_RUN)
    shared = Fault("x", shared=("test_a.py::test_one",), tests={E2B: ("test_a.py::test_two",)}, same={LOCAL: DOCKER})
    ended = {one: "passed", two: "passed"}
    assert [of_cell(shared, column, ended) for column in (LOCAL, DOCKER)] == [Cell(SAME, tests=1)] * 2
    assert of_cell(shared, E2B, ended) == Cell(SURVIVED, tests=2)
    assert Fault("x", kit=("linear",)).proofs(E2B)[0].endswith("::test_keeps_its_promise[linear-local]")


def test_a_page_is_read_as_it_was_written() -> None:
    """All states, and what stands around the table stays."""
    cells = fault_table.of_run({})
    first = next(iter(cells))
    page = f"before\n{fault_table.BEGIN}old\n{fault_table.END}after\n"
    for cell in (
        Cell(SURVIVED, tests=3),
        Cell(PARTLY, tests=3),
        Cell(SAME, tests=3),
        Cell(LOST, tests=1),
        Cell(NOT_RUN),
        Cell("", "because of that"),
    ):
        cells[first] = cell
        written = fault_table.put(page, cells)
        assert fault_table.read(written) == cells
        assert written.startswith("before\n")
        assert written.endswith("after\n")
        assert "old" not in written
