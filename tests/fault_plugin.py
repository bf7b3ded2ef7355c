"""
`pytest --fault-table`: run what the fault matrix names, and write what came of it to docs/reliability.md.

A part of it may be run too: what other runs found of the rest is remembered in pytest's cache, until `--cache-clear`.
Without the option a run that saw all tests of a cell fails when the page says something else of it.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests import fault_table
from tests.fault_matrix import COLUMNS, MATRIX

CACHE_KEY = "osiris/faults"
ENDED = pytest.StashKey[dict[str, str]]()
WRONG = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fault-table", action="store_true", help="run the fault matrix and write docs/reliability.md")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ENDED] = {}


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--fault-table"):
        return
    named = {proof for row in MATRIX for column in COLUMNS for proof in row.proofs(column)}
    wanted = [item for item in items if any(fault_table.is_of(item.nodeid, proof) for proof in named)]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(wanted)])
    items[:] = wanted


class Recorder:
    """Takes down how tests ended."""

    def __init__(self, ended: dict[str, str]) -> None:
        self._ended = ended

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._ended[report.nodeid] = "failed"
        elif report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            self._ended[report.nodeid] = reason
        elif report.when == "call":
            self._ended.setdefault(report.nodeid, "passed")


def pytest_sessionstart(session: pytest.Session) -> None:
    session.config.pluginmanager.register(Recorder(session.config.stash[ENDED]))


def pytest_sessionfinish(session: pytest.Session) -> None:
    config = session.config
    ended = config.stash[ENDED]
    page = fault_table.PAGE.read_text(encoding="utf-8")
    if config.getoption("--fault-table"):
        cache: Any = config.cache
        ended = {**cache.get(CACHE_KEY, {}), **ended}
        cache.set(CACHE_KEY, ended)
        fault_table.PAGE.write_text(fault_table.put(page, fault_table.of_run(ended)), encoding="utf-8")
        return
    told = fault_table.read(page)
    wrong = [
        f"{name} on {column}: the page says {_words(told.get((name, column)))}, this run {_words(cell)}"
        for (name, column), cell in fault_table.of_run(ended).items()
        if cell.tests and _words(told.get((name, column))) != _words(cell)
    ]
    config.stash[WRONG] = wrong
    if wrong and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if wrong := config.stash.get(WRONG, []):
        terminalreporter.section("docs/reliability.md is not what came of the fault matrix: pytest --fault-table")
        for line in wrong:
            terminalreporter.line(line)


def _words(cell: fault_table.Cell | None) -> str:
    return "nothing" if cell is None else cell.state or f"that it cannot occur: {cell.reason}"
