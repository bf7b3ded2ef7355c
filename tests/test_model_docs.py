"""The pages about model runs are true: what they show runs, in the order in which it stands there."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from osiris_core.cli.checked import checked_file

ROOT = Path(__file__).resolve().parent.parent
PAGES = ["model-runs", "configurations", "postprocessors", "pipelines", "plugins"]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"# (\S+\.(?:yaml|json))$")


@pytest.mark.parametrize("page", PAGES)
def test_the_page(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are written and valid, Python runs in a process of its own, commands end with 0, TOML can be read."""
    monkeypatch.chdir(tmp_path)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OSIRIS_")}
    blocks = BLOCK.findall((ROOT / "docs" / f"{page}.md").read_text())
    assert len(blocks) >= 3
    for language, text in blocks:
        if language == "yaml":
            name = NAMED.match(text.splitlines()[0])
            assert name is not None, text
            (tmp_path / name[1]).write_text(text)
            assert [str(problem) for item in checked_file(name[1]) for problem in item.problems] == []
        elif language == "toml":
            assert tomllib.loads(text)
        elif language == "text":
            continue
        else:
            for command in [["-c", text]] if language == "python" else commands(text):
                done = subprocess.run(
                    [sys.executable, "-W", "error", *command], env=clean, capture_output=True, text=True, check=False
                )
                assert done.returncode == 0, f"{text}\n{done.stderr}"


def commands(text: str) -> list[list[str]]:
    """The `osiris` lines of a block."""
    lines = [shlex.split(line, comments=True) for line in text.splitlines()]
    assert all(words[0] == "osiris" for words in lines if words)
    return [["-m", "osiris_core.cli.main", *words[1:]] for words in lines if words]


def test_the_reference_is_up_to_date() -> None:
    """The part of configurations.md that is made of the schemas is what they are now."""
    place = ROOT / "docs" / "reference.py"
    spec = importlib.util.spec_from_file_location("docs_reference", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text(encoding="utf-8") == module.page(), "run: python docs/reference.py"


def test_the_plugin_page_is_the_plugin() -> None:
    """The entry points on the page are those of the example that installs."""
    (shown,) = [
        text for language, text in BLOCK.findall((ROOT / "docs" / "plugins.md").read_text()) if language == "toml"
    ]
    real = tomllib.loads((ROOT / "examples" / "plugin" / "pyproject.toml").read_text())
    assert tomllib.loads(shown)["project"]["entry-points"] == real["project"]["entry-points"]


def test_the_reference_is_the_same_everywhere() -> None:
    """No default in it is a path of the machine that it was written on."""
    text = (ROOT / "docs" / "configurations.md").read_text()
    assert sys.prefix not in text
    assert str(ROOT) not in text
