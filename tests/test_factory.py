"""Adapters by name: registered, installed as plugins, broken, clashing; settings that fit and that do not."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from osiris_core import AdapterFactory, ExecutionContext, LocalAdapter, LocalConfig
from osiris_core.errors import AdapterClash, ConfigError, UnknownAdapter

if TYPE_CHECKING:
    from pathlib import Path


class Elsewhere(LocalAdapter):
    """A third party's adapter: its own name, everything else inherited."""

    name = "elsewhere"


@pytest.fixture
def registered():
    AdapterFactory.register("elsewhere", Elsewhere)
    yield
    AdapterFactory.unregister("elsewhere")


def test_a_registered_adapter_runs(registered, tmp_path):
    """It is listed, made by name, and its name is in the report."""
    assert "elsewhere" in AdapterFactory.available()
    manifest = {"steps": [{"id": "a", "driver": "duckdb.processor", "config": {"query": "SELECT 1"}}]}
    report = AdapterFactory.create("elsewhere").run(manifest, ExecutionContext(session_dir=str(tmp_path / "s")))
    assert (report.status, report["environment"]) == ("completed", "elsewhere")


def test_registering_twice(registered):
    """The same class again is harmless, another one is a clash that names both, and built-in names are reserved."""
    AdapterFactory.register("elsewhere", Elsewhere)

    class Other(LocalAdapter):
        pass

    with pytest.raises(AdapterClash, match=r"Elsewhere.*Other"):
        AdapterFactory.register("elsewhere", Other)
    with pytest.raises(AdapterClash, match="built in"):
        AdapterFactory.register("local", Other)
    with pytest.raises(TypeError, match="prepare, execute and collect"):
        AdapterFactory.register("thing", object)


def test_an_unknown_name():
    """The nearest one that exists is named."""
    with pytest.raises(UnknownAdapter, match="did you mean 'local'"):
        AdapterFactory.create("locl")


def test_settings():
    """A configuration object and settings by keyword are equal; what does not fit is reported key by key."""
    config = LocalConfig(compress_artifacts=True)
    assert (
        AdapterFactory.create("local", config).config == AdapterFactory.create("local", compress_artifacts=True).config
    )
    with pytest.raises(ConfigError) as caught:
        AdapterFactory.create("local", compres_artifacts=True, allow_sql_files="perhaps")
    text = str(caught.value)
    assert "local.compres_artifacts: there is no such key (did you mean 'compress_artifacts'?)" in text
    assert "local.allow_sql_files" in text
    with pytest.raises(TypeError, match="not both"):
        AdapterFactory.create("local", config, compress_artifacts=False)


def install(folder: Path, distribution: str, entry_points: str, module: str = "") -> None:
    """What `pip install` leaves of a distribution: its metadata and a module."""
    info = folder / f"{distribution}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[osiris.adapters]\n{entry_points}\n")
    if module:
        (folder / f"{distribution}.py").write_text(textwrap.dedent(module))


def test_plugins_of_others(tmp_path):
    """A good one works; a broken one, one with a reserved name and two that clash hurt nobody and are reported."""
    module = """
        from osiris_core.backends import LocalAdapter
        class Good(LocalAdapter):
            name = "good"
        """
    install(tmp_path, "goodplug", "good = goodplug:Good\nshared = goodplug:Good", module)
    install(tmp_path, "badplug", "bad = badplug:Nothing\nlocal = badplug:Nothing\nshared = badplug:Other", "x = 1 / 0")
    install(tmp_path, "oddplug", "odd = oddplug:function\nleaver = leaveplug:Nothing", "def function(): pass")
    (tmp_path / "leaveplug.py").write_text("raise SystemExit(3)")
    script = """
        from osiris_core import AdapterFactory
        from osiris_core.errors import OsirisError
        print(AdapterFactory.available())
        print(AdapterFactory.create("good").name, AdapterFactory.create("local").name)
        for name in ("bad", "shared", "odd", "leaver"):
            try:
                AdapterFactory.create(name)
            except OsirisError as error:
                print(type(error).__name__, error)
        print(*AdapterFactory.problems(), sep="\\n")
        """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )
    listed, names, bad, shared, odd, leaver, *problems = done.stdout.splitlines()
    assert listed == (
        "['bad', 'docker', 'e2b', 'fallback', 'good', 'leaver', 'local', 'odd', 'process', 'shared', 'slurm']"
    )
    assert names == "good local"
    assert "UnknownAdapter" in bad
    assert "badplug (badplug:Nothing)" in bad
    assert "division by zero" in bad
    assert "AdapterClash" in shared
    assert "goodplug" in shared
    assert "badplug" in shared
    assert "is not a class with prepare, execute and collect" in odd
    assert "SystemExit" in leaver
    assert len(problems) == 4
    assert any("built in" in problem and "badplug" in problem for problem in problems)
