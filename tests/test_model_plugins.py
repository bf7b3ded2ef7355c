"""Plugins of model runs: by the name of their entry point, on use, and none of them hurts another."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any, Literal

import pytest

from osiris_core import AdapterFactory, ModelRun
from osiris_core.backends import LocalAdapter
from osiris_core.command_settings import CommandSettings
from osiris_core.models.registries import (
    CONFIGS,
    PIPELINES,
    POSTPROCESSOR_CONFIGS,
    POSTPROCESSORS,
    RUN_BACKENDS,
    get_available_backends,
)
from osiris_core.models.registry import UnknownPlugin

if TYPE_CHECKING:
    from pathlib import Path

MODULE = """
    import pathlib
    from typing import Any
    from osiris_core.backends import BaseBackendConfig, BasePostprocessorConfig

    class Backend:
        def run(self, model_run, config, workspace_dir=None):
            pathlib.Path(model_run.output_dir, "ran").write_text(config.queue)
            return True

    class Short:
        def run(self, model_run, **kwargs):
            return kwargs == {"nodes": 2}

    class Config(BaseBackendConfig):
        queue: str
        def get_backend_class(self):
            return Backend

    class Processor:
        def process(self, model_run, config, **kwargs):
            return {"success": True, "metrics": list(config.metrics), **kwargs}

    class Plain:
        def process(self, model_run, **kwargs):
            return {"success": True, **kwargs}

    class ProcessorConfig(BasePostprocessorConfig):
        type: str = "analysis"
        metrics: tuple[str, ...] = ()
        def get_postprocessor_class(self):
            return Processor

    class Pipeline:
        def execute(self, model_run, **kwargs):
            return {"success": True, "run_id": model_run.run_id, "stages_completed": ["generate"], **kwargs}

    class NoClass:
        pass
"""
ENTRY_POINTS = """
    [osiris.run_backends]
    hpc = acme_plugins:Backend
    short = acme_plugins:Short
    broken = acme_missing:Backend
    local = acme_plugins:Backend
    useless = acme_plugins:NoClass
    [osiris.configs]
    hpc = acme_plugins:Config
    gone = acme_plugins:NotThere
    [osiris.postprocessors]
    plain = acme_plugins:Plain
    twice = acme_plugins:Plain
    [osiris.postprocessor_configs]
    analysis = acme_plugins:ProcessorConfig
    [osiris.pipelines]
    cloud = acme_plugins:Pipeline
"""


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    site = tmp_path / "site"
    for name, points in (("acme", ENTRY_POINTS), ("other", "[osiris.postprocessors]\ntwice = acme_plugins:Plain\n")):
        info = site / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(textwrap.dedent(points))
    (site / "acme_plugins.py").write_text(textwrap.dedent(MODULE))
    return site


def python(plugins: Path, script: str) -> str:
    code = f"import sys; sys.path.insert(0, {str(plugins)!r})\n{textwrap.dedent(script)}"
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, cwd=plugins.parent, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_plugins_are_called_as_they_are(plugins: Path) -> None:
    """Run backends of both signatures, processors of both, and a pipeline; each by its entry point's own name."""
    out = python(
        plugins,
        """
        import pathlib
        from osiris_core import ModelRun
        run = ModelRun(run_id="a", output_dir="out", command="true")
        assert run.run("hpc", queue="gpu") is True
        assert pathlib.Path("out/ran").read_text() == "gpu"
        assert run.run("short", nodes=2) is True
        assert run.run("short", nodes=3) is False
        assert run.run("local") is True
        assert run.postprocess("analysis", metrics=["mean"])["metrics"] == ["mean"]
        assert run.postprocess("plain", a=1)["a"] == 1
        result = run.pipeline("cloud", wait=False)
        assert (result["wait"], result.stages_completed, bool(result)) == (False, ["generate"], True)
        assert run.pipeline(run_backend="short", run_kwargs={"nodes": 2}, processor="plain")["success"]
        print("all")
        """,
    )
    assert out == "all\n"


def test_a_broken_plugin_hurts_nobody(plugins: Path) -> None:
    """It is listed, raises only when it is asked for, and is told with all others; duplicates name both providers."""
    out = python(
        plugins,
        """
        import sys
        from osiris_core.backends import get_available_backends, get_available_postprocessors
        from osiris_core.models.registries import CONFIGS, PIPELINES
        from osiris_core.models.registries import POSTPROCESSOR_CONFIGS, POSTPROCESSORS, RUN_BACKENDS
        backends = get_available_backends()
        print(sorted(backends.keys()))
        assert "acme_plugins" not in sys.modules
        assert backends["local"].__module__ == "osiris_core.models.run_backend"
        assert RUN_BACKENDS.source("hpc").startswith("acme")
        for name in ("broken", "useless"):
            try:
                backends[name]
            except ValueError as exc:
                print(exc)
        try:
            get_available_postprocessors()["twice"]
        except ValueError as exc:
            print(exc)
        for registry in (RUN_BACKENDS, CONFIGS, POSTPROCESSORS, POSTPROCESSOR_CONFIGS, PIPELINES):
            for problem in registry.problems():
                print("-", problem)
        """,
    )
    first, broken, useless, twice, *problems = out.splitlines()
    assert {"'broken'", "'docker'", "'hpc'", "'local'", "'short'", "'useless'"} <= set(first.strip("[]").split(", "))
    assert "acme" in broken
    assert "acme_missing" in broken
    assert "is not a class with run" in useless
    assert "acme" in twice
    assert "other" in twice
    told = "\n".join(problems)
    assert "'local' is built in; acme" in told
    assert len(problems) == 5, told


def test_a_registry_by_hand() -> None:
    """What is registered is found and forgotten; what is no member, or has a name that is taken, is refused."""

    class Mine:
        def run(self, model_run: Any) -> bool:
            return True

    class Other(Mine):
        pass

    RUN_BACKENDS.register("mine", Mine)
    try:
        RUN_BACKENDS.register("mine", Mine)
        assert get_available_backends()["mine"] is Mine
        assert RUN_BACKENDS.source("mine") == "registered"
        with pytest.raises(ValueError, match="is taken by"):
            RUN_BACKENDS.register("mine", Other)
        with pytest.raises(ValueError, match="is taken by"):
            RUN_BACKENDS.register("local", Mine)
        with pytest.raises(TypeError, match="not a class with run"):
            RUN_BACKENDS.register("thing", object)
    finally:
        RUN_BACKENDS.unregister("mine")
    assert "mine" not in get_available_backends()
    with pytest.raises(KeyError):
        get_available_backends()["mine"]
    with pytest.raises(UnknownPlugin, match="did you mean 'noop'"):
        POSTPROCESSORS.load("nop")


def test_an_adapter_of_somebody_elses_runs_models_too(tmp_path: Path) -> None:
    """By its name or its configuration, with nothing more than a `type` and the settings of a command."""

    class MyConfig(CommandSettings):
        type: Literal["mine"] = "mine"
        greeting: str = "hello"

        @property
        def runs_in_workspace(self) -> bool:
            return True

    class MyAdapter(LocalAdapter):
        name = "mine"
        Config = MyConfig

        def start(self, run: Any, context: Any) -> Any:
            seen.append(self.config.greeting)  # type: ignore[attr-defined]
            return super().start(run, context)

    seen: list[str] = []
    AdapterFactory.register("mine", MyAdapter)
    try:
        run = ModelRun(run_id="m", output_dir=tmp_path, command="echo $A > outputs/a")
        assert run.run("mine", greeting="ahoj", env_vars={"A": "1"})
        assert run.run(MyConfig(command="exit 3")) is False
        assert MyConfig().get_backend_class().__name__ == "MineRunBackend"
        assert run.last_result is not None
        assert (run.last_result.backend, run.last_result.return_code) == ("mine", 3)
    finally:
        AdapterFactory.unregister("mine")
    assert seen == ["ahoj", "hello"]
    assert (tmp_path / "m/outputs/a").read_text() == "1\n"


def test_every_run_backend_is_public(plugins: Path) -> None:
    """By the name of its adapter, from one module, and without a vendor's package; so is all that the module says."""
    out = python(
        plugins,
        """
        import sys
        from osiris_core import backends
        from osiris_core.backends import DockerRunBackend, E2BRunBackend, LocalRunBackend
        from osiris_core.backends import ProcessRunBackend, SlurmRunBackend
        known = backends.get_available_backends()
        for backend in (DockerRunBackend, E2BRunBackend, LocalRunBackend, ProcessRunBackend, SlurmRunBackend):
            assert known[backend.adapter] is backend
        assert not [name for name in sys.modules if name.partition(".")[0] in ("adapters", "remote", "docker", "e2b")]
        print(all(getattr(backends, name) for name in backends.__all__))
        """,
    )
    assert out == "True\n"


@pytest.mark.parametrize(
    "registry",
    [RUN_BACKENDS, CONFIGS, POSTPROCESSORS, POSTPROCESSOR_CONFIGS, PIPELINES],
    ids=lambda registry: registry.group,
)
def test_every_built_in_name_loads(registry: Any) -> None:
    """And is what its registry says."""
    for name in registry.names():
        assert isinstance(registry.load(name), type)
        assert registry.load(name).__doc__
