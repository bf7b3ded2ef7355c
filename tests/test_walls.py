"""Walls: which way imports point, what is loaded when, and what importing us leaves untouched."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from osiris_core.factory import BUILTIN

ROOT = Path(__file__).resolve().parent.parent
ROOMS = [room for room in ("osiris_core", "remote", "adapters") if (ROOT / room).is_dir()]

ONLY_IMPORTER = {
    "adbc_driver_manager": "osiris_core/drivers/postgres_client.py",
    "adbc_driver_postgresql": "osiris_core/drivers/postgres_client.py",
    "certifi": "osiris_core/drivers/http_transport.py",
    "docker": "adapters/docker",
    "e2b": "adapters/e2b",
    "httpx": ("osiris_core/drivers/http_transport.py", "adapters/e2b_cloud/errors.py"),  # the SDK of e2b raises it
    "jsonrpcserver": "remote/methods.py",
    "keyring": "osiris_core/secret_sources.py",
    "pymysql": "osiris_core/drivers/mysql_login.py",
}
"""Each vendor library has one file, or one adapter's files, that know it."""

HEAVY = [
    "structlog", "rich", "tenacity", "jsonrpcserver", "docker", "psutil", "e2b", "pandas", "pytest", "httpx", "keyring",
    "asyncio", "pymysql", "adbc_driver_manager",
]  # fmt: skip
"""What a run on this machine that goes well does not pay for."""


def sources() -> dict[str, ast.Module]:
    files = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
    return {str(path.relative_to(ROOT)): ast.parse(path.read_bytes()) for path in files}


def imported_names(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "import_module":
            found |= {argument.value for argument in node.args if isinstance(argument, ast.Constant)}
    return found


def in_fresh_python(code: str, *args: str, cwd: Path) -> Any:
    """Run `code` in a new interpreter; return the JSON that it prints last."""
    result = subprocess.run(
        [sys.executable, "-c", code, *args], cwd=cwd, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


# Which way imports point.


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    script = Path(sys.executable).with_name("lint-imports")
    command = [sys.executable, str(script), "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def test_imports_point_one_way() -> None:
    """The walls of pyproject.toml hold."""
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("osiris_core/one.py", "import adapters.two"),
        ("osiris_core/one.py", "import socket"),
        ("osiris_core/one.py", "import docker"),
        ("osiris_core/one.py", "import remote.three"),
        ("remote/three.py", "import adapters.two"),
    ],
)
def test_a_broken_wall_is_noticed(tmp_path: Path, file: str, line: str) -> None:
    """One import the wrong way, or of an SDK in the core, fails the check; also in a room that is new."""
    config = (ROOT / "pyproject.toml").read_text()
    walls = config[config.index("[tool.importlinter]") : config.index("[tool.pytest.ini_options]")]
    rooms = tomllib.loads(config)["tool"]["importlinter"]["root_packages"]
    walls = walls.replace(json.dumps(rooms), '["osiris_core", "adapters", "remote"]')
    (tmp_path / "pyproject.toml").write_text(walls)
    for name in ("osiris_core/__init__.py", "osiris_core/one.py", "adapters/two.py", "remote/three.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    assert lint_imports(tmp_path).returncode == 0
    (tmp_path / file).write_text(line + "\n")
    result = lint_imports(tmp_path)
    assert result.returncode == 1, result.stdout
    assert "BROKEN" in result.stdout


def test_the_walls_cover_every_room() -> None:
    """A room that is added is also added to the walls, to the wheel and to the type check."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    assert set(config["importlinter"]["root_packages"]) == set(ROOMS)
    assert set(config["hatch"]["build"]["targets"]["wheel"]["packages"]) == set(ROOMS)
    assert set(ROOMS) <= set(config["mypy"]["packages"])


def test_only_the_core_is_a_regular_package() -> None:
    """`adapters` and `remote` carry no `__init__.py`: the names belong to nobody alone."""
    assert [room for room in ROOMS if (ROOT / room / "__init__.py").exists()] == ["osiris_core"]


def test_a_vendor_library_is_known_to_one_file() -> None:
    """docker, e2b and jsonrpcserver are each imported in one place."""
    strangers = {
        (library, file)
        for file, tree in sources().items()
        for library in ONLY_IMPORTER
        if any(name.partition(".")[0] == library for name in imported_names(tree))
        and not file.startswith(ONLY_IMPORTER[library])
    }
    assert strangers == set()


def test_rooms_import_each_other_at_the_top_only() -> None:
    """Modules of `adapters` and `remote` import each other when loaded: later the names may stand for others."""
    late = [
        (file, node.lineno)
        for file, tree in sources().items()
        for function in ast.walk(tree)
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
        for node in ast.walk(function)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        and any(name.partition(".")[0] in ("adapters", "remote") for name in imported_names(node))
    ]
    assert late == []


# One of each, and only one.


def test_a_driver_is_called_in_one_place() -> None:
    """Only the engine's attempt calls a driver's `run`, and only the engine makes attempts."""
    callers, users = set(), set()
    for file, tree in sources().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "run":
                given = [*node.args, *(keyword.value for keyword in node.keywords)]
                if any(isinstance(item, ast.Name) and item.id == "ctx" for item in given):
                    callers.add(file)
            if isinstance(node, ast.Name) and node.id == "StepRunner":
                users.add(file)
    assert callers == {"osiris_core/attempt.py"}
    assert users == {"osiris_core/engine.py", "osiris_core/testing/driver_harness.py"}


def test_the_name_of_the_event_file_is_written_once() -> None:
    """Nobody but the journal spells `events.jsonl` in code."""
    spelled = {
        file
        for file, tree in sources().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and node.value == "events.jsonl"
    }
    assert spelled <= {"osiris_core/journal.py"}


WATCH_EVENT_FILE = """
import json, os, sys
writers = set()

def watch(event, args):
    if event != "open" or not str(args[0]).endswith("events.jsonl"):
        return
    mode, flags = args[1], args[2] or 0
    if (mode and set(mode) & set("wax+")) or flags & (os.O_WRONLY | os.O_RDWR):
        writers.add(sys._getframe(1).f_code.co_filename)

sys.addaudithook(watch)
from osiris_core import AdapterFactory, ExecutionContext
steps = [{"id": "a", "driver": "duckdb.processor", "config": {"query": "SELECT * FROM range(3) t(i)"}}]
for checkpoint in ("auto", "always"):
    context = ExecutionContext(session_dir=sys.argv[1], checkpoint=checkpoint, resume=True, verbose=False)
    assert AdapterFactory.create("local").run({"steps": steps}, context).succeeded
print(json.dumps(sorted(writers)))
"""


def test_only_the_journal_opens_the_event_file_for_writing(tmp_path: Path) -> None:
    """In a run and a resume, the event file is opened for writing by journal.py and by nobody else."""
    writers = in_fresh_python(WATCH_EVENT_FILE, str(tmp_path / "session"), cwd=tmp_path)
    assert [Path(file).name for file in writers] == ["journal.py"]


# What is loaded when.


@pytest.mark.parametrize(
    "code", ["import osiris_core", "from osiris_core import AdapterFactory", "import osiris_core.backends"]
)
def test_importing_loads_nothing_that_is_not_used(tmp_path: Path, code: str) -> None:
    """The import costs neither data libraries nor pydantic nor anything that only some runs need."""
    loaded = in_fresh_python(f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))", cwd=tmp_path)
    assert set(loaded) & {*HEAVY, "pyarrow", "duckdb", "pydantic", "asyncio", "logging"} == set()


HAPPY_RUN = """
import json, sys
from osiris_core import AdapterFactory, ExecutionContext
csv = {"id": "read", "driver": "filesystem.csv_extractor", "config": {"path": "in.csv"}}
sql = {"id": "sum", "driver": "duckdb.processor", "inputs": {"t": "read"},
       "config": {"query": "SELECT sum(a) AS a FROM t"}}
out = {"id": "write", "driver": "filesystem.csv_writer", "inputs": {"t": "sum"}, "config": {"path": "out.csv"}}
report = AdapterFactory.create("local").run({"steps": [csv, sql, out]}, ExecutionContext(session_dir="session"))
assert report.succeeded, report.error
print(json.dumps(sorted(sys.modules)))
"""


def test_a_run_that_goes_well_loads_nothing_extra(tmp_path: Path) -> None:
    """A local CSV → SQL → CSV run imports no logging, terminal, retry, RPC, container or process library."""
    (tmp_path / "in.csv").write_text("a\n1\n2\n")
    loaded = in_fresh_python(HAPPY_RUN, cwd=tmp_path)
    assert set(loaded) & {*HEAVY, "remote"} == set()


# What importing us leaves untouched.

IMPORT_EVERYTHING = """
import importlib, json, locale, logging, os, pkgutil, signal, sys, threading, warnings

def state():
    return {
        "handlers": [repr(handler) for handler in logging.getLogger().handlers],
        "level": logging.getLogger().level,
        "disabled": logging.root.manager.disable,
        "warnings": [repr(entry) for entry in warnings.filters],
        "cwd": os.getcwd(),
        "environ": dict(os.environ),
        "path": list(sys.path),
        "hooks": [repr(sys.excepthook), repr(threading.excepthook), repr(sys.stdout), repr(sys.stderr)],
        "signals": [repr(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)],
        "locale": locale.setlocale(locale.LC_ALL),
        "threads": threading.active_count(),
        "umask": (mask := os.umask(0o022), os.umask(mask))[0],
    }

import structlog
import pyarrow, duckdb, pydantic  # theirs to answer for
before = state()
configured = structlog.is_configured()
import osiris_core
for module in pkgutil.walk_packages(osiris_core.__path__, "osiris_core."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
from osiris_core import AdapterFactory, ExecutionContext
imported = state()
steps = [{"id": "a", "driver": "duckdb.processor", "config": {"query": "SELECT * FROM range(3) t(i)"}}]
with AdapterFactory.create("local") as adapter:
    assert adapter.run({"steps": steps}, ExecutionContext(session_dir=sys.argv[1])).succeeded
after = state()
print(json.dumps({"before": before, "imported": imported, "after": after,
                  "structlog": [configured, structlog.is_configured()]}))
"""


def test_importing_and_running_change_nothing_around_them(tmp_path: Path) -> None:
    """Logging, warnings, signals, locale, umask, cwd, environment and search path stay the caller's."""
    seen = in_fresh_python(IMPORT_EVERYTHING, str(tmp_path / "session"), cwd=tmp_path)
    assert seen["imported"] == seen["before"]
    assert seen["after"] == seen["before"]
    assert seen["structlog"] == [False, False]


# In CI nothing may quietly not run.

SKIPPING_TESTS = """
import pytest

def test_lacks_something():
    pytest.skip("no container engine here")

def test_cannot_do_it():
    pytest.skip("named gap: a local run shares the host's memory")

@pytest.mark.skipif(True, reason="needs root")
def test_is_marked():
    pass
"""


@pytest.mark.parametrize(("ci", "outcome"), [("true", {"failed": 1, "error": 1, "skipped": 1}), ("", {"skipped": 3})])
def test_a_skip_for_something_missing_fails_in_ci(tmp_path: Path, ci: str, outcome: dict[str, int]) -> None:
    """With CI=true a test that could not run is a failed one, unless it names a gap that its adapter declares."""
    (tmp_path / "conftest.py").write_bytes((ROOT / "tests" / "conftest.py").read_bytes())
    (tmp_path / "test_skipping.py").write_text(SKIPPING_TESTS)
    (tmp_path / "test_module.py").write_text("import pytest\npytest.importorskip('no_such_library')\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_skipping.py"]
    environment = {**os.environ, "CI": ci}
    result = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    closing_line = result.stdout.splitlines()[-1]
    assert {word: int(count) for count, word in re.findall(r"(\d+) (failed|error|skipped)", closing_line)} == outcome
    whole_file = subprocess.run(
        [*command[:-1], "test_module.py"], cwd=tmp_path, env=environment, capture_output=True, timeout=60, check=False
    )
    assert (whole_file.returncode in (1, 2)) == (ci == "true")


def test_a_file_of_the_adapters_is_an_adapter() -> None:
    """What only is a part of one is in a folder of its own."""
    assert {path.stem for path in (ROOT / "adapters").glob("*.py")} == set(BUILTIN)
