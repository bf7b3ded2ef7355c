"""What is shipped: the wheel, and that it runs beside others who own a package named like one of our rooms."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest

import osiris_core

ROOT = Path(osiris_core.__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SHIPPED = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]

RUN_BESIDE_THEIRS = """
import json, sys
order, theirs = sys.argv[1], sys.argv[2].split(",") if sys.argv[2] else []

def look_at_theirs():
    import importlib
    found = {name: importlib.import_module(name) for name in theirs}
    return {name: [module.__file__, module.OWNER, id(module)] for name, module in found.items()}

before = look_at_theirs() if order == "theirs first" else None
import osiris_core
from osiris_core import AdapterFactory, ExecutionContext
rooms_before = {name for name in sys.modules if name.partition(".")[0] in ("adapters", "remote")}
adapter = AdapterFactory.create("local")
steps = [
    {"id": "make", "driver": "duckdb.processor", "config": {"query": "SELECT i FROM range(5) t(i)"}},
    {"id": "keep", "driver": "filesystem.parquet_writer", "inputs": {"t": "make"}, "config": {"path": "t.parquet"}},
]
report = adapter.run({"steps": steps}, ExecutionContext(session_dir="session-" + order.replace(" ", "-")))
rooms_after = {name for name in sys.modules if name.partition(".")[0] in ("adapters", "remote")}
print(json.dumps({
    "status": report.status,
    "rows": report.metrics["rows_written"],
    "core": osiris_core.__file__,
    "adapter": sys.modules[type(adapter).start.__globals__["DriverRegistry"].__module__].__file__,
    "local": type(adapter).start.__code__.co_filename,
    "same_class": type(AdapterFactory.create("local")) is type(adapter),
    "before": before,
    "after": look_at_theirs(),
    "left_in_sys_modules": sorted(rooms_after - rooms_before),
}))
"""

THEIR_FILES = {"__init__.py": "OWNER = 'them'\n", "x.py": "OWNER = 'them'\n"}
THEIR_LOCAL = {"local.py": "OWNER = 'them'\nclass LocalAdapter: ...\n"}


class Environment:
    """An empty virtual environment with our dependencies in reach, and nothing of ours until it is installed."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=False, symlinks=True)
        self.python = folder / "bin" / "python"
        paths = sysconfig.get_paths(vars={"base": str(folder), "platbase": str(folder)})
        self.site_packages = Path(paths["purelib"])
        # A folder that a .pth file names is searched last, and its own .pth files (our editable install) are not read.
        dependencies = sysconfig.get_paths()["purelib"]
        (self.site_packages / "zz_dependencies.pth").write_text(dependencies + "\n")

    def install(self, *what: str) -> None:
        command = [*PIP, "--python", str(self.python), "install", "--no-deps", "--no-index", "--force-reinstall", *what]
        subprocess.run(command, check=True, timeout=60, stdin=subprocess.DEVNULL)

    def run(self, code: str, *args: str, cwd: Path, path: Path | None = None) -> Any:
        environment = {"PATH": os.environ["PATH"], "HOME": str(cwd), **({"PYTHONPATH": str(path)} if path else {})}
        command = [str(self.python), "-c", code, *args]
        result = subprocess.run(
            command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    environment = Environment(tmp_path_factory.mktemp("installed"))
    environment.install(str(wheel))
    return environment


def write_package(folder: Path, *parts: dict[str, str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in [item for part in parts for item in part.items()]:
        (folder / name).write_text(text)
    return folder


def check_beside(
    environment: Environment, ours: Path, cwd: Path, theirs: list[str], their_folder: Path | None, **run: Any
) -> None:
    """Our run works from our own files, and theirs are theirs: in either order, and as the same module objects."""
    for order in ("theirs first", "ours first"):
        seen = environment.run(RUN_BESIDE_THEIRS, order, ",".join(theirs), cwd=cwd, **run)
        assert (seen["status"], seen["rows"], seen["same_class"]) == ("completed", 5, True)
        for file in (seen["core"], seen["adapter"], seen["local"]):
            assert Path(file).resolve().is_relative_to(ours.resolve()), file
        for name in theirs:
            file, owner, identity = seen["after"][name]
            assert owner == "them"
            assert Path(file).resolve().is_relative_to((their_folder or cwd).resolve())
            assert seen["before"] is None or seen["before"][name][2] == identity
        their_rooms = {name.partition(".")[0] for name in theirs}
        assert not {name for name in seen["left_in_sys_modules"] if name.partition(".")[0] in their_rooms}


def test_alone(installed: Environment, tmp_path: Path) -> None:
    """In an environment with nothing else, a manifest runs."""
    check_beside(installed, installed.site_packages, tmp_path, [], None)


@pytest.mark.parametrize("module", ["x", "docker"])
def test_beside_a_distribution_that_owns_the_name(
    wheel: Path, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, module: str
) -> None:
    """Another distribution's `adapters`, installed into the same folder, works as before, and so do we."""
    environment = Environment(tmp_path / "environment")
    environment.install(str(wheel))
    package = write_package(tmp_path / "source" / "adapters", THEIR_FILES, {f"{module}.py": "OWNER = 'them'\n"})
    project = '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
    project += '[project]\nname = "their-adapters"\nversion = "1"\n'
    project += '[tool.hatch.build.targets.wheel]\npackages = ["adapters"]\n'
    (package.parent / "pyproject.toml").write_text(project)
    environment.install("--no-build-isolation", str(package.parent))
    (tmp_path / "cwd").mkdir()
    theirs = ["adapters", f"adapters.{module}"]
    check_beside(environment, environment.site_packages, tmp_path / "cwd", theirs, environment.site_packages)


@pytest.mark.parametrize("room", ["adapters", "remote"])
def test_beside_a_distribution_elsewhere_on_the_path(installed: Environment, tmp_path: Path, room: str) -> None:
    """A regular package of a room's name anywhere on the path, with a module named like ours, hurts nobody."""
    folder = write_package(tmp_path / "elsewhere" / room, THEIR_FILES, THEIR_LOCAL)
    (tmp_path / "cwd").mkdir()
    theirs = [room, f"{room}.local", f"{room}.x"]
    check_beside(installed, installed.site_packages, tmp_path / "cwd", theirs, folder, path=folder.parent)


@pytest.mark.parametrize("with_local", [False, True])
def test_from_a_folder_with_packages_of_these_names(installed: Environment, tmp_path: Path, with_local: bool) -> None:
    """A user's own `adapters` and `remote` folders beside the script stay the user's."""
    theirs = []
    for room in ("adapters", "remote"):
        write_package(tmp_path / room, THEIR_FILES, THEIR_LOCAL if with_local else {})
        theirs += [room, f"{room}.x", *([f"{room}.local"] if with_local else [])]
    check_beside(installed, installed.site_packages, tmp_path, theirs, tmp_path)


def test_from_a_folder_with_a_namespace_of_that_name(installed: Environment, tmp_path: Path) -> None:
    """A user's `adapters` folder without `__init__.py`, with a `local.py` in it, does not stand in for ours."""
    write_package(tmp_path / "adapters", {"x.py": "OWNER = 'them'\n"}, THEIR_LOCAL)
    check_beside(installed, installed.site_packages, tmp_path, ["adapters.x", "adapters.local"], tmp_path)


def test_a_foreign_package_is_not_run(installed: Environment, tmp_path: Path) -> None:
    """A run does not import another's `adapters`: one that fails, or takes long, is no affair of ours."""
    write_package(tmp_path / "adapters", {"__init__.py": "raise RuntimeError('theirs was run')\n"})
    check_beside(installed, installed.site_packages, tmp_path, [], None)


LATE_FOLDER = """
import json, sys
from osiris_core import AdapterFactory
before = AdapterFactory.load("local")
sys.path.insert(0, sys.argv[1])
import adapters.local, adapters.x
print(json.dumps([AdapterFactory.load("local") is before, adapters.x.OWNER, adapters.local.LocalAdapter is before]))
"""


def test_a_folder_that_comes_onto_the_path_later(installed: Environment, tmp_path: Path) -> None:
    """Our class stays the same object when a foreign folder of that name is put on the path between two uses."""
    write_package(tmp_path / "late" / "adapters", {"x.py": "OWNER = 'them'\n"}, THEIR_LOCAL)
    (tmp_path / "cwd").mkdir()
    seen = installed.run(LATE_FOLDER, str(tmp_path / "late"), cwd=tmp_path / "cwd")
    assert seen == [True, "them", True]


def copy_of_the_source(folder: Path) -> Path:
    files = [ROOT / "pyproject.toml", ROOT / "README.md", ROOT / "LICENSE"]
    files += [file for room in SHIPPED for file in (ROOT / room).rglob("*") if file.suffix in (".py", ".typed")]
    for file in files:
        target = folder / file.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    return folder


def test_as_an_editable_install(tmp_path: Path) -> None:
    """An editable install runs too, with the other's package in an environment inside the project's folder."""
    source = copy_of_the_source(tmp_path / "project")
    environment = Environment(source / ".venv")
    environment.install("--no-build-isolation", "--editable", str(source))
    (tmp_path / "cwd").mkdir()
    check_beside(environment, source / "osiris_core" / "..", tmp_path / "cwd", [], None)
    folder = write_package(environment.site_packages / "adapters", THEIR_FILES, THEIR_LOCAL)
    check_beside(environment, source, tmp_path / "cwd", ["adapters", "adapters.local"], folder)
    seen = environment.run(RUN_BESIDE_THEIRS, "ours first", "", cwd=tmp_path / "cwd")
    assert Path(seen["local"]) == source / "adapters" / "local.py"


@pytest.mark.parametrize("surroundings", ["alone", "beside theirs"])
def test_zipped_on_the_path(installed: Environment, tmp_path: Path, surroundings: str) -> None:
    """Our code in one zip on the path runs, also where somebody owns the rooms' names."""
    environment = Environment(tmp_path / "environment")
    archive = tmp_path / "code.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(installed.site_packages.rglob("*")):
            if path.relative_to(installed.site_packages).parts[0].startswith(("osiris_core", "adapters", "remote")):
                file.write(path, path.relative_to(installed.site_packages))
    (tmp_path / "cwd").mkdir()
    if surroundings == "alone":
        check_beside(environment, archive, tmp_path / "cwd", [], None, path=archive)
    else:
        folder = write_package(tmp_path / "cwd" / "adapters", THEIR_FILES, THEIR_LOCAL)
        theirs = ["adapters", "adapters.local"]
        check_beside(environment, archive, tmp_path / "cwd", theirs, folder, path=archive)


def test_the_wheel_holds_what_runs_and_nothing_else(wheel: Path) -> None:
    """The wheel has our packages with `py.typed` and the licence, and no tests, benchmarks or examples."""
    names = zipfile.ZipFile(wheel).namelist()
    assert "osiris_core/py.typed" in names
    assert [name for name in names if name.endswith("licenses/LICENSE")]
    roots = {name.partition("/")[0] for name in names}
    assert roots == {*SHIPPED, f"osiris_core-{osiris_core.__version__}.dist-info"}
    wanted = {str(file.relative_to(ROOT)) for room in SHIPPED for file in (ROOT / room).rglob("*.py")}
    assert wanted <= set(names)


VERSIONS = """
import importlib.metadata, json, osiris_core
print(json.dumps([importlib.metadata.version("osiris-core"), osiris_core.__version__]))
"""


def test_the_version_is_one(installed: Environment, tmp_path: Path) -> None:
    """The distribution and the package agree on the version."""
    distribution, package = installed.run(VERSIONS, cwd=tmp_path)
    assert distribution == package


def test_the_installed_script_runs_a_manifest(installed: Environment, tmp_path: Path) -> None:
    """`osiris run` of the installed wheel does the whole job, from a folder with an `adapters` package of its own."""
    write_package(tmp_path / "adapters", THEIR_FILES, THEIR_LOCAL)
    query = "SELECT i, i * 2 AS twice FROM range(5) t(i)"
    steps = [
        {"id": "make", "driver": "duckdb.processor", "config": {"query": query}},
        {"id": "keep", "driver": "filesystem.parquet_writer", "inputs": {"t": "make"}, "config": {"path": "t.parquet"}},
    ]
    (tmp_path / "manifest.json").write_text(json.dumps({"pipeline": "packaged", "steps": steps}))
    command = [str(installed.python.with_name("osiris")), "run", "manifest.json", "--out", "out", "--json"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    result = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["status"] == "completed"
    assert (tmp_path / "out" / "t.parquet").read_bytes()[:4] == b"PAR1"


DISTRIBUTION_OF = {"yaml": "pyyaml"}
"""Where an import name is not the distribution's name."""


def test_what_is_imported_is_declared() -> None:
    """Every library that the shipped code imports is a dependency or in an extra of this distribution."""
    project = PROJECT["project"]
    extras = [line for extra in project["optional-dependencies"].values() for line in extra]
    declared = {re.split(r"[^\w-]", line)[0].lower() for line in [*project["dependencies"], *extras]}
    imported = set()
    for file in (file for room in SHIPPED for file in (ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.partition(".")[0])
    outside = imported - sys.stdlib_module_names - {"osiris_core", "adapters", "remote"}
    assert {DISTRIBUTION_OF.get(name, name) for name in outside} <= declared
