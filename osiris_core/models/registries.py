"""The five registries of model runs, and their entry-point groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from osiris_core.factory import BUILTIN as ADAPTERS
from osiris_core.models.registry import PluginRegistry

if TYPE_CHECKING:
    from collections.abc import Mapping

_RUN_BACKENDS = {
    "docker": "osiris_core.models.run_backend:DockerRunBackend",
    "e2b": "osiris_core.models.run_backend:E2BRunBackend",
    "local": "osiris_core.models.run_backend:LocalRunBackend",
    "process": "osiris_core.models.run_backend:ProcessRunBackend",
    "slurm": "osiris_core.models.run_backend:SlurmRunBackend",
}
# Where no vendor's package is imported: a configuration can be checked on a machine that will not run it.
_CONFIGS = {
    "docker": "adapters.docker_engine.config:DockerConfig",
    "e2b": "adapters.e2b_cloud.config:E2BConfig",
    "local": "adapters.local:LocalConfig",
    "process": "adapters.process:ProcessConfig",
    "slurm": "adapters.slurm_cluster.config:SlurmConfig",
}

RUN_BACKENDS = PluginRegistry(
    "osiris.run_backends",
    "run backend",
    {name: place for name, place in _RUN_BACKENDS.items() if name in ADAPTERS},
    "run",
)
CONFIGS = PluginRegistry(
    "osiris.configs",
    "configuration",
    {name: place for name, place in _CONFIGS.items() if name in ADAPTERS},
    "get_backend_class",
)
POSTPROCESSORS = PluginRegistry(
    "osiris.postprocessors",
    "postprocessor",
    {
        "archive": "osiris_core.models.postprocessors.archive:ArchivePostprocessor",
        "chain": "osiris_core.models.postprocessors.chain:ChainPostprocessor",
        "noop": "osiris_core.models.postprocessors.noop:NoopPostprocessor",
        "report": "osiris_core.models.postprocessors.report:ReportPostprocessor",
    },
    "process",
)
POSTPROCESSOR_CONFIGS = PluginRegistry(
    "osiris.postprocessor_configs",
    "postprocessor configuration",
    {
        "archive": "osiris_core.models.postprocess_config:ArchivePostprocessorConfig",
        "chain": "osiris_core.models.postprocess_config:ChainPostprocessorConfig",
        "noop": "osiris_core.models.postprocess_config:NoopPostprocessorConfig",
        "report": "osiris_core.models.postprocess_config:ReportPostprocessorConfig",
    },
    "get_postprocessor_class",
)
PIPELINES = PluginRegistry(
    "osiris.pipelines",
    "pipeline backend",
    {"local": "osiris_core.models.pipeline:LocalPipelineBackend"},
    "execute",
)


def get_available_backends() -> Mapping[str, type[Any]]:
    """Run backends by name; a class is loaded when it is asked for."""
    return RUN_BACKENDS.classes()


def get_available_configs() -> Mapping[str, type[Any]]:
    """Configurations of run backends by their `type`; a class is loaded when it is asked for."""
    return CONFIGS.classes()


def get_available_postprocessors() -> Mapping[str, type[Any]]:
    """Postprocessors by name; a class is loaded when it is asked for."""
    return POSTPROCESSORS.classes()


def get_available_postprocessor_configs() -> Mapping[str, type[Any]]:
    """Configurations of postprocessors by their `type`; a class is loaded when it is asked for."""
    return POSTPROCESSOR_CONFIGS.classes()


def get_available_pipelines() -> Mapping[str, type[Any]]:
    """Pipeline backends by name; a class is loaded when it is asked for."""
    return PIPELINES.classes()
