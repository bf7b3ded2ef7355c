"""Users' own modules: what travels with a run, found again in another process, or refused with the remedy."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from osiris_core import AdapterFactory, ExecutionContext
from osiris_core.errors import PreparationError
from osiris_core.user_code import code_files, driver_files, driver_places, make_importable

if TYPE_CHECKING:
    from pathlib import Path

DRIVER = """
class Say:
    def run(self, step_id, config, inputs, ctx):
        ctx.artifacts_dir.joinpath("said").write_text(word())
"""


@pytest.fixture
def lib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for modules; what they put on the path of imports is taken off again."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path / "lib"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def said(tmp_path: Path, driver: str, code: list[str]) -> str:
    """What a driver left when it was run in a worker."""
    adapter = AdapterFactory.create("process", code=code)
    context = ExecutionContext(session_dir=str(tmp_path / "session"))
    report = adapter.run({"pipeline": "p", "steps": [{"id": "a", "driver": driver}]}, context)
    assert report.status == "completed", report["error"]
    return (tmp_path / "session/artifacts/a/said").read_text()


def test_a_module(tmp_path: Path, lib: Path) -> None:
    """Named in `code` as a file."""
    path = write(lib / "uc_module.py", DRIVER + "def word(): return 'module'")
    assert said(tmp_path, "uc_module:Say", [str(path)]) == "module"


def test_a_package_with_its_data(tmp_path: Path, lib: Path) -> None:
    """Named as a folder: modules that import each other, and files that they read."""
    write(lib / "uc_package/__init__.py", "")
    write(lib / "uc_package/words.txt", "package")
    write(lib / "uc_package/sub/__init__.py", "")
    write(
        lib / "uc_package/sub/words.py",
        "from pathlib import Path\n\n\ndef word():\n    return (Path(__file__).parents[1] / 'words.txt').read_text()\n",
    )
    write(lib / "uc_package/drivers.py", f"from .sub.words import word\n{DRIVER}")
    assert said(tmp_path, "uc_package.drivers:Say", [str(lib / "uc_package")]) == "package"


def test_a_folder_of_modules(tmp_path: Path, lib: Path) -> None:
    """All of it, with what is below; caches and hidden files are left out."""
    write(lib / "uc_folder.py", f"from uc_other.deep import word\n{DRIVER}")
    write(lib / "uc_other/deep.py", "def word(): return 'folder'")
    write(lib / ".hidden/secret", "x")
    write(lib / "__pycache__/x.pyc", "x")
    assert said(tmp_path, "uc_folder:Say", [str(lib)]) == "folder"
    assert {name for name, _ in code_files([str(lib)]) if not name.endswith(".pyc")} == {
        "uc_folder.py",
        "uc_other/deep.py",
    }
    assert not [name for name, _ in code_files([str(lib)]) if name.endswith(".pyc")]


@pytest.mark.parametrize("inner", ["plain", "package"])
def test_a_namespace_package_that_is_installed(tmp_path: Path, lib: Path, inner: str) -> None:
    """Of which only the package of the driver's own, or the modules beside it, travel."""
    below = lib / "uc_space" / inner
    if inner == "package":
        write(below / "__init__.py", "")
    write(below / f"{inner}_drivers.py", f"from .{inner}_words import word\n{DRIVER}")
    write(below / f"{inner}_words.py", f"def word(): return {inner!r}")
    write(lib / "uc_space/others/theirs.py", "")
    sys.path.append(str(lib))
    place = f"uc_space.{inner}.{inner}_drivers:Say"
    names = {name for name, _ in driver_files([place])}
    assert f"uc_space/{inner}/{inner}_words.py" in names
    assert not [name for name in names if "theirs" in name]
    assert said(tmp_path, place, []) == inner


def test_a_driver_that_is_a_packages_own(tmp_path: Path, lib: Path) -> None:
    """A class in an `__init__.py`, also below a namespace."""
    write(lib / "uc_init_space/pkg/__init__.py", DRIVER + "def word(): return 'init'")
    sys.path.append(str(lib))
    assert {name for name, _ in driver_files(["uc_init_space.pkg:Say"])} == {"uc_init_space/pkg/__init__.py"}
    assert said(tmp_path, "uc_init_space.pkg:Say", []) == "init"


def test_a_driver_of_an_entry_point_travels(tmp_path: Path) -> None:
    """Its package comes along: it need not be installed where the worker is."""
    site = tmp_path / "site"
    info = site / "uc_plugin-1.0.dist-info"
    write(info / "METADATA", "Metadata-Version: 2.1\nName: uc-plugin\nVersion: 1.0\n")
    write(info / "entry_points.txt", "[osiris.drivers]\nplugin.say = uc_plugin.main:Say\n")
    write(site / "uc_plugin/__init__.py", "")
    write(site / "uc_plugin/main.py", f"from uc_plugin.words import word\n{DRIVER}")
    write(site / "uc_plugin/words.py", "def word(): return 'plugin'")
    script = f"""
import sys
from osiris_core import AdapterFactory, ExecutionContext
sys.path.append({str(site)!r})
manifest = {{"pipeline": "p", "steps": [{{"id": "a", "driver": "plugin.say"}}]}}
report = AdapterFactory.create("process").run(manifest, ExecutionContext(session_dir="session"))
print(report.status, report["error"])
"""
    run = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.stdout.startswith("completed"), run.stdout + run.stderr
    assert (tmp_path / "session/artifacts/a/said").read_text() == "plugin"


@pytest.mark.parametrize("name", ["json", "remote", "worker", "folders"])
def test_a_module_of_a_taken_name(tmp_path: Path, lib: Path, name: str) -> None:
    """A user's file named like one of ours or of Python breaks neither: what was there first is found first."""
    write(lib / f"{name}.py", "raise RuntimeError('the wrong one')" if name == "json" else "WORD = 'mine'")
    word = "import json\ndef word(): return json.dumps(1)" if name == "json" else "def word(): return 'x'"
    write(lib / f"uc_taken_{name}.py", DRIVER + word)
    assert said(tmp_path, f"uc_taken_{name}:Say", [str(lib)]) in ("1", "x")


def test_the_first_of_two_files_of_one_name_wins(tmp_path: Path, lib: Path) -> None:
    """In a worker as on the host."""
    for number in ("one", "two"):
        write(lib / number / "uc_twice.py", DRIVER + f"def word(): return {number!r}")
    assert said(tmp_path, "uc_twice:Say", [str(lib / "one"), str(lib / "two")]) == "one"


@pytest.mark.parametrize("what", ["nowhere", "text.txt"])
def test_code_that_is_none(lib: Path, what: str) -> None:
    """A missing path and a file that is no Python are named, each as a problem of `code`."""
    write(lib / "text.txt", "x")
    with pytest.raises(PreparationError) as caught:
        make_importable([str(lib / what), str(lib / what)])
    assert [problem.key for problem in caught.value.problems] == ["code", "code"]
    assert what in str(caught.value)


def test_a_driver_of_the_script_that_runs(tmp_path: Path) -> None:
    """Refused in `prepare`, with what to do; `local` runs it."""
    script = write(
        tmp_path / "script.py",
        """
import sys
from osiris_core import AdapterFactory, DriverRegistry, ExecutionContext

class Here:
    def run(self, step_id, config, inputs, ctx):
        return None

def inner():
    class Inside(Here):
        pass
    return Inside

DriverRegistry.register("here", Here)
DriverRegistry.register("inside", inner())
manifest = {"pipeline": "p", "steps": [{"id": "a", "driver": "here"}, {"id": "b", "driver": "inside"}]}
try:
    print(AdapterFactory.create(sys.argv[1]).run(manifest, ExecutionContext(session_dir=sys.argv[1])).status)
except Exception as exc:
    print(type(exc).__name__, exc)
""",
    )
    run = subprocess.run(
        [sys.executable, str(script), "process"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert run.stdout.startswith("PreparationError")
    assert "driver 'here' is made in the script that runs" in run.stdout
    assert "driver 'inside' is made in the script that runs" in run.stdout
    assert "name that in `code`" in run.stdout
    assert not (tmp_path / "process").exists()
    local = subprocess.run(
        [sys.executable, str(script), "local"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert local.stdout.strip() == "completed"


def test_a_module_that_needs_what_is_not_there(tmp_path: Path, lib: Path) -> None:
    """A helper beside the driver that is not named: the run fails, saying which module and what to do."""
    write(lib / "uc_lonely.py", f"import uc_helper\n{DRIVER}def word(): return ''")
    write(lib / "uc_helper.py", "")
    sys.path.append(str(lib))
    adapter = AdapterFactory.create("process")
    context = ExecutionContext(session_dir=str(tmp_path / "session"))
    report: Any = adapter.run({"pipeline": "p", "steps": [{"id": "a", "driver": "uc_lonely:Say"}]}, context)
    assert report.status == "failed"
    assert "uc_helper" in report["error"]["message"]
    assert "`code`" in report["error"]["message"]
    assert report["error"]["failure_class"] == "user_error"


def test_places_of_drivers() -> None:
    """Built-in ones have none; a driver that several steps use has one."""
    from osiris_core.driver import DriverRegistry
    from osiris_core.drivers.command import CommandDriver

    class Sub(CommandDriver):
        pass

    Sub.__qualname__ = "Sub"
    DriverRegistry.register("uc.sub", Sub)
    try:
        assert driver_places(["command", "uc.sub", "uc.sub"]) == {"uc.sub": f"{__name__}:Sub"}
    finally:
        DriverRegistry.unregister("uc.sub")
