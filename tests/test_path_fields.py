"""Paths of a driver's configuration: what is written is an artifact, what nobody would find is refused."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from pydantic import BaseModel, Field

from osiris_core import (
    AdapterFactory,
    DriverRegistry,
    ExecutionContext,
    InputPath,
    LocalAdapter,
    OutputPath,
    PreparationError,
)


class WritesConfig(BaseModel):
    out: OutputPath = "default.txt"


class Writes:
    """Writes where its configuration says, and nothing else about folders."""

    Config = WritesConfig

    def run(self, step_id, config, inputs, ctx):
        Path(config.out).write_text("here")


class Inner(BaseModel):
    path: InputPath


class HiddenConfig(BaseModel):
    source: InputPath = Field(alias="from")
    inner: Inner | None = None


class Hidden(Writes):
    Config = HiddenConfig


class Links:
    def run(self, step_id, config, inputs, ctx):
        (ctx.artifacts_dir / "kept.txt").write_text("kept")
        (ctx.artifacts_dir / "link").symlink_to("/etc/hostname")


KNOWN = {"p.writes": Writes, "p.hidden": Hidden, "p.links": Links}


@pytest.fixture(autouse=True)
def drivers():
    for name, driver in KNOWN.items():
        DriverRegistry.register(name, driver)
    yield
    for name in KNOWN:
        DriverRegistry.unregister(name)


@pytest.mark.parametrize("config", [{}, {"out": "own.txt"}])
def test_an_output_path_is_an_artifact_also_by_default(tmp_path, monkeypatch, config):
    """A path field left at its default is a path like any other, and its folder is there when the driver runs."""
    monkeypatch.chdir(tmp_path)
    manifest = {"steps": [{"id": "a", "driver": "p.writes", "config": config}]}
    context = ExecutionContext(session_dir=str(tmp_path / "s"), publish_dir=str(tmp_path / "published"))
    report = AdapterFactory.create("local").run(manifest, context)
    name = config.get("out", "default.txt")
    assert [item["path"] for item in report.artifacts] == [f"a/{name}"]
    assert (tmp_path / "published" / name).read_text() == "here"
    assert not (tmp_path / name).exists()


def test_path_fields_that_nobody_would_find_are_refused(tmp_path):
    """A path under an alias or in a nested model would be neither sealed nor kept: prepare says so."""
    manifest = {"steps": [{"id": "a", "driver": "p.hidden", "config": {"from": "x", "inner": {"path": "y"}}}]}
    with pytest.raises(PreparationError, match=r"source \(it has an alias\), inner\.path"):
        LocalAdapter().prepare(manifest, ExecutionContext(session_dir=str(tmp_path / "s")))


def test_the_archive_holds_the_artifacts_and_nothing_else(tmp_path):
    """What was refused as an artifact, a link out, is not in the archive either."""
    manifest = {"steps": [{"id": "a", "driver": "p.links"}]}
    adapter = AdapterFactory.create("local", compress_artifacts=True)
    report = adapter.run(manifest, ExecutionContext(session_dir=str(tmp_path / "s")))
    with tarfile.open(Path(report.session_dir) / "artifacts.tar.gz") as archive:
        assert archive.getnames() == ["a/kept.txt"]
