"""The five registries of model runs, and their entry-point groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from osiris_core.registry import PluginRegistry

if TYPE_CHECKING:
    from collections.abc import Mapping

RUN_BACKENDS = PluginRegistry(
    "osiris.run_backends",
    "run backend",
    {
        "docker": "osiris_core.run_backend:DockerRunBackend",
        "local": "osiris_core.run_backend:LocalRunBackend",
        "process": "osiris_core.run_backend:ProcessRunBackend",
    },
    "run",
)
CONFIGS = PluginRegistry(
    "osiris.configs",
    "configuration",
    {
        "docker": "adapters.docker_engine.config:DockerConfig",
        "local": "adapters.local:LocalConfig",
        "process": "adapters.process:ProcessConfig",
    },
    "get_backend_class",
)
POSTPROCESSORS = PluginRegistry(
    "osiris.postprocessors",
    "postprocessor",
    {
        "archive": "osiris_core.postprocessors.archive:ArchivePostprocessor",
        "chain": "osiris_core.postprocessors.chain:ChainPostprocessor",
        "noop": "osiris_core.postprocessors.noop:NoopPostprocessor",
        "report": "osiris_core.postprocessors.report:ReportPostprocessor",
    },
    "process",
)
POSTPROCESSOR_CONFIGS = PluginRegistry(
    "osiris.postprocessor_configs",
    "postprocessor configuration",
    {
        "archive": "osiris_core.postprocess_config:ArchivePostprocessorConfig",
        "chain": "osiris_core.postprocess_config:ChainPostprocessorConfig",
        "noop": "osiris_core.postprocess_config:NoopPostprocessorConfig",
        "report": "osiris_core.postprocess_config:ReportPostprocessorConfig",
    },
    "get_postprocessor_class",
)
PIPELINES = PluginRegistry(
    "osiris.pipelines",
    "pipeline backend",
    {"local": "osiris_core.pipeline:LocalPipelineBackend"},
    "execute",
)

REGISTRIES = (RUN_BACKENDS, CONFIGS, POSTPROCESSORS, POSTPROCESSOR_CONFIGS, PIPELINES)


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
