"""What every driver that reads or writes over HTTP says of itself is true."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from osiris_core import AdapterFactory, DriverRegistry, ExecutionContext
from osiris_core.lifting import models_within

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAMES = ["graphql.extractor", "http.extractor", "supabase.extractor", "supabase.writer"]
CONNECTIONS = """
connections:
  http: {shop: {base_url: "https://api.shop.example"}}
  graphql: {shop: {endpoint: "https://api.shop.example/graphql"}}
  supabase: {shop: {project_id: abcdefgh, key: "some-key-of-theirs"}}
"""


@pytest.mark.parametrize("name", NAMES)
def test_the_example_prepares(tmp_path: Path, name: str) -> None:
    """The step that `osiris drivers show` prints is one that a run would take."""
    pytest.importorskip("httpx")
    (tmp_path / "c.yaml").write_text(CONNECTIONS)
    (step,) = yaml.safe_load(DriverRegistry.get(name).example)
    sources = [
        {"id": source, "driver": "duckdb.processor", "config": {"query": "SELECT 1"}}
        for source in step.get("inputs", {}).values()
    ]
    context = ExecutionContext(session_dir=str(tmp_path / "s"), connections=str(tmp_path / "c.yaml"))
    prepared = AdapterFactory.create("local").prepare({"steps": [*sources, step]}, context)
    assert "some-key-of-theirs" not in repr(prepared.to_json())


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_is_described_and_strict(name: str) -> None:
    """Also those of its connection and of what is in them; an unknown key is refused, nothing can be changed."""
    driver = DriverRegistry.get(name)
    assert driver.needs_network
    assert driver.connection_family == name.partition(".")[0]
    assert driver.packages
    models = list(_models(driver.Config))
    assert len(models) >= 2
    for model in models:
        assert model.model_config["extra"] == "forbid"
        assert model.model_config["frozen"]
        assert model.model_config["hide_input_in_errors"]
        for field, info in model.model_fields.items():
            assert info.description, f"{model.__name__}.{field}"


def _models(model: type[Any]) -> Iterator[type[Any]]:
    yield model
    for info in model.model_fields.values():
        for nested in models_within(info.annotation):
            yield from _models(nested)


def test_nothing_of_it_is_imported_without_need(tmp_path: Path) -> None:
    """Neither the command line nor a run without HTTP imports an HTTP client, an event loop or a keyring."""
    (tmp_path / "m.yaml").write_text(
        "steps: [{id: a, driver: duckdb.processor, config: {query: \"SELECT '${X:-1}'\"}}]\n"
    )
    for arguments in (["--help"], ["run", "m.yaml"]):
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "osiris_core.cli.main", *arguments],
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path,
        )
        imported = {
            line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")
        }
        assert "osiris_core.cli.exits" in imported
        assert len(imported) > 50
        assert not {"httpx", "httpcore", "keyring", "asyncio", "certifi"} & imported
