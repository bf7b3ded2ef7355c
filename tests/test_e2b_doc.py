"""The page on E2B: its configuration fits, its Python runs, and what it says that errors say, they say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

pytest.importorskip("e2b", reason="the extra [e2b] is not installed")

from adapters.e2b_cloud.config import E2BConfig

if TYPE_CHECKING:
    from tests.e2b_server import E2BServer

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "e2b.md").read_text()
SOURCE = "".join(
    path.read_text() for folder in ("adapters", "remote") for path in sorted((ROOT / folder).rglob("*.py"))
)


def block(language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def test_the_configuration_fits() -> None:
    """As it stands."""
    config = E2BConfig.model_validate(yaml.safe_load(block("yaml")))
    assert (config.cpu, config.memory_mb) == (4, 8192)


def test_the_python_runs(e2b_server: E2BServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands, with a template that is there."""
    from adapters.e2b_cloud.templates import template_name
    from tests.test_e2b_templates import with_packages_in

    with_packages_in(e2b_server, template_name(E2BConfig()))
    for name, value in e2b_server.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    steps = [{"id": "a", "driver": "duckdb.processor", "config": {"query": "SELECT 1 AS x"}}]
    Path("manifest.yaml").write_text(yaml.safe_dump({"pipeline": "p", "steps": steps}))
    names: dict[str, object] = {}
    exec(compile(block("python"), "e2b.md", "exec", dont_inherit=True), names)
    assert getattr(names["report"], "status", None) == "completed"


def test_every_setting_named_is_one() -> None:
    """Settings of the tables and of the text exist."""
    network = E2BConfig.model_fields["network"].annotation
    assert network is not None
    known = {*E2BConfig.model_fields, *(f"network.{name}" for name in network.model_fields)}  # type: ignore[attr-defined]
    for word in (*re.findall(r"`(network\.\w+)", PAGE), "cpu", "memory_mb", "template", "requirements", "keep"):
        assert word in known, word


def test_the_words_of_errors_are_theirs() -> None:
    """What the page says that an error says stands in the code."""
    rows = re.findall(r"^\| `(.+?)` \|", PAGE.partition("## Troubleshooting")[2], re.MULTILINE)
    assert len(rows) > 8
    source = re.sub(r'"\s*\n\s*f?"', "", SOURCE)
    for row in rows:
        for part in row.split("…"):
            words = re.sub(r"osiris-worker-$", "", part.strip())
            assert words in source or words in re.sub(r"\{[^}]*\}", "", source), words
