"""Every snippet of the README and of the pages beside it runs, or is a manifest that is valid."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from osiris_core import DriverRegistry, LocalAdapter, load_manifest
from osiris_core.cli.checked import checked_file
from osiris_core.context import ExecutionContext

ROOT = Path(__file__).resolve().parent.parent
HERE = """adapters architecture conformance connections databases docker drivers figures http manifest reliability
troubleshooting"""
ELSEWHERE = {
    "test_cli_docs.py": "cli",
    "test_e2b_doc.py": "e2b",
    "test_events_doc.py": "events",
    "test_model_docs.py": "configurations model-runs pipelines plugins postprocessors",
    "test_protocol.py": "protocol",
    "test_slurm_config.py": "slurm",
}
"""Which tests look at the pages that need more than this."""
PAGES = [ROOT / "README.md", *(ROOT / "docs" / f"{name}.md" for name in HERE.split())]
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
FILES = {
    "orders.csv": "country,amount,ordered_at\nCZ,1.5,2026-03-01\nNA,2.0,2026-04-01\n",
    "notes.txt": "one\n\ntwo\n",
    "osiris_connections.yaml": (
        "connections:\n"
        "  http: {shop: {base_url: 'https://api.shop.example/v2'}}\n"
        "  graphql: {shop: {endpoint: 'https://api.shop.example/graphql'}}\n"
        "  supabase: {reports: {pg_dsn: 'postgresql://u:p@db.example/postgres'}}\n"
        "  postgres: {shop: {host: db.shop.example, database: shop, user: reader}}\n"
        "  mysql: {billing: {host: db.billing.example, database: billing, user: writer}}\n"
    ),
    "place.yaml": "type: process\n",
    "drivers.py": "class Clean:\n    def run(self, step_id, config, inputs, ctx):\n        return None\n",
    "grids/one": "",
    "model/Dockerfile": "FROM python:3.12-slim\n",
}


def snippets(language: str) -> list:
    return [
        pytest.param(text, id=f"{page.name}-{number}")
        for page in PAGES
        for number, (found, text) in enumerate(_BLOCK.findall(page.read_text()))
        if found == language
    ]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder like a checkout, with the files that the pages speak of."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize("code", snippets("python"))
def test_python(code, place):
    """It runs as it stands, in a process of its own."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_page_is_looked_at():
    """By this file, or by one that names it."""
    elsewhere = {page: test for test, pages in ELSEWHERE.items() for page in pages.split()}
    assert sorted([*HERE.split(), *elsewhere]) == sorted(page.stem for page in (ROOT / "docs").glob("*.md"))
    for page, test in elsewhere.items():
        assert re.search(rf"\b{page}\b", (ROOT / "tests" / test).read_text()), (page, test)


@pytest.mark.parametrize("text", snippets("yaml"))
def test_manifests_connections_and_configurations(text, place, monkeypatch):
    """A manifest prepares without a problem; a connections file is read without one, and so is a configuration."""
    for name in re.findall(r"\$\{([A-Z_]+)\}", text):
        monkeypatch.setenv(name, "given")
    path = place / "page.yaml"
    path.write_text(text)
    if re.match(r"(#.*\n)*type:", text):
        assert [str(problem) for item in checked_file(str(path)) for problem in item.problems] == []
    elif "steps:" in text:
        LocalAdapter().prepare(load_manifest(path), ExecutionContext(session_dir=str(place / "s")))
    else:
        from osiris_core.connections import ConnectionBook

        assert ConnectionBook.find(path, place).names()


@pytest.mark.parametrize("text", snippets("bash"))
def test_commands(text, place):
    """`osiris` lines run; `make` lines name a target that exists, and what is entered is where it installs."""
    makefile = (ROOT / "Makefile").read_text()
    for line in text.splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["make"]:
            assert re.search(rf"^{words[1]}:", makefile, re.MULTILINE)
        elif words[:1] == ["."]:
            assert f"VENV ?= {words[1].removesuffix('/bin/activate')}\n" in makefile, "that is not where make installs"
        elif words[:1] == ["osiris"]:
            done = subprocess.run(
                [sys.executable, "-m", "osiris_core.cli.main", *words[1:]], capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr


def test_the_driver_of_the_page(place):
    """The example driver works in the harness as the page says."""
    code = next(text for found, text in _BLOCK.findall((ROOT / "docs" / "drivers.md").read_text()) if found == "python")
    names: dict = {}
    exec(compile(code, "drivers.md", "exec", dont_inherit=True), names)
    try:
        from osiris_core.testing import run_driver

        done = run_driver(names["Lines"], {"path": "notes.txt"}, place)
        assert done.outputs["df"].column("line").to_pylist() == ["one", "two"]
    finally:
        DriverRegistry.unregister("acme.lines")


def test_links_lead_somewhere():
    """Every relative link of a page names a file that exists."""
    for page in [*PAGES, *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
