"""Somebody else's adapter, as in `examples/custom_adapter`: installed on its own, found by its name, and right."""

from __future__ import annotations

import ast
import json
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from osiris_core.testing.checks import CHECKS
from osiris_core.testing.conformance_report import digest_of
from tests.test_packaging import ROOT, Environment

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLE = ROOT / "examples" / "custom_adapter"
MAX_LINES = 60


def own_lines(source: str) -> list[int]:
    """The lines of a module that are neither empty, nor comments, docstrings or imports."""
    skipped: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        documented = isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node)
        statement = node.body[0] if documented else node if isinstance(node, (ast.Import, ast.ImportFrom)) else None
        if statement is not None:
            skipped |= set(range(statement.lineno, (statement.end_lineno or 0) + 1))
    lines = enumerate(source.splitlines(), 1)
    return [number for number, line in lines if line.split("#")[0].strip() and number not in skipped]


def test_it_is_short() -> None:
    """A remote adapter is a matter of sixty lines."""
    assert len(own_lines((EXAMPLE / "osiris_nice.py").read_text())) <= MAX_LINES


@pytest.mark.timeout(500)
def test_it_passes_the_whole_kit(tmp_path: Path) -> None:
    """Installed beside us, every check holds, and the report says of what version."""
    environment = Environment(tmp_path / "environment")
    with (environment.site_packages / "zz_dependencies.pth").open("a") as file:
        file.write(f"{ROOT}\n")
    environment.install("--no-build-isolation", str(EXAMPLE))

    def run(*argv: str) -> subprocess.CompletedProcess[str]:
        surroundings = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        command = [str(environment.python), "-m", *argv]
        return subprocess.run(
            command, cwd=tmp_path, env=surroundings, capture_output=True, text=True, timeout=480, check=False
        )

    result = run("osiris_core.cli.main", "conformance", "nice", "--report", "nice.json")
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"nice: all {len(CHECKS)} checks hold\n"
    report = json.loads((tmp_path / "nice.json").read_text())
    assert report["digest"] == digest_of(report)
    assert report["versions"]["osiris-nice"] == "1.0"
    assert report["class"] == "osiris_nice:NiceAdapter"
    tests = run("pytest", "-q", "-p", "no:cacheprovider", str(EXAMPLE / "test_nice.py"), "-k", "setting-niceness")
    assert "1 passed" in tests.stdout, tests.stdout
