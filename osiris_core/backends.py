"""
Adapters, run backends, postprocessors and pipelines with their configurations, by name and loaded on use:
`from osiris_core.backends import LocalConfig`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adapters.docker import DockerAdapter, DockerConfig
    from adapters.e2b import E2BAdapter, E2BConfig
    from adapters.local import LocalAdapter, LocalConfig
    from adapters.process import ProcessAdapter, ProcessConfig
    from adapters.slurm import SlurmAdapter, SlurmConfig
    from osiris_core.config import BaseBackendConfig
    from osiris_core.models.pipeline import LocalPipelineBackend
    from osiris_core.models.postprocess_config import (
        ArchivePostprocessorConfig,
        BasePostprocessorConfig,
        ChainPostprocessorConfig,
        NoopPostprocessorConfig,
        ReportPostprocessorConfig,
        load_processor_config,
        validate_postprocessor_config,
    )
    from osiris_core.models.postprocessors.noop import NoopPostprocessor
    from osiris_core.models.registries import (
        get_available_backends,
        get_available_configs,
        get_available_pipelines,
        get_available_postprocessor_configs,
        get_available_postprocessors,
    )
    from osiris_core.models.run_backend import (
        AdapterRunBackend,
        DockerRunBackend,
        E2BRunBackend,
        LocalRunBackend,
        ProcessRunBackend,
        SlurmRunBackend,
    )
    from osiris_core.models.verdict import record_outcome
    from remote.adapter import RemoteAdapter
    from remote.config import RemoteConfig
    from remote.file_transport import FileTransport
    from remote.pipe_transport import FolderFiles, PipeTransport
    from remote.sandbox import BatchSandbox, Fate, Sandbox, SandboxError, Transport, TransportClosed, Unreachable
else:
    _PLACES = {
        "AdapterRunBackend": "osiris_core.models.run_backend",
        "ArchivePostprocessorConfig": "osiris_core.models.postprocess_config",
        "BaseBackendConfig": "osiris_core.config",
        "BasePostprocessorConfig": "osiris_core.models.postprocess_config",
        "ChainPostprocessorConfig": "osiris_core.models.postprocess_config",
        "BatchSandbox": "remote.sandbox",
        "DockerAdapter": "adapters.docker",
        "DockerConfig": "adapters.docker",
        "DockerRunBackend": "osiris_core.models.run_backend",
        "E2BAdapter": "adapters.e2b",
        "E2BConfig": "adapters.e2b",
        "E2BRunBackend": "osiris_core.models.run_backend",
        "Fate": "remote.sandbox",
        "FileTransport": "remote.file_transport",
        "FolderFiles": "remote.pipe_transport",
        "LocalAdapter": "adapters.local",
        "LocalConfig": "adapters.local",
        "LocalPipelineBackend": "osiris_core.models.pipeline",
        "LocalRunBackend": "osiris_core.models.run_backend",
        "NoopPostprocessor": "osiris_core.models.postprocessors.noop",
        "NoopPostprocessorConfig": "osiris_core.models.postprocess_config",
        "PipeTransport": "remote.pipe_transport",
        "ProcessAdapter": "adapters.process",
        "ProcessConfig": "adapters.process",
        "ProcessRunBackend": "osiris_core.models.run_backend",
        "RemoteAdapter": "remote.adapter",
        "RemoteConfig": "remote.config",
        "ReportPostprocessorConfig": "osiris_core.models.postprocess_config",
        "Sandbox": "remote.sandbox",
        "SandboxError": "remote.sandbox",
        "SlurmAdapter": "adapters.slurm",
        "SlurmConfig": "adapters.slurm",
        "SlurmRunBackend": "osiris_core.models.run_backend",
        "Transport": "remote.sandbox",
        "TransportClosed": "remote.sandbox",
        "Unreachable": "remote.sandbox",
        "get_available_backends": "osiris_core.models.registries",
        "get_available_configs": "osiris_core.models.registries",
        "get_available_pipelines": "osiris_core.models.registries",
        "get_available_postprocessor_configs": "osiris_core.models.registries",
        "get_available_postprocessors": "osiris_core.models.registries",
        "load_processor_config": "osiris_core.models.postprocess_config",
        "record_outcome": "osiris_core.models.verdict",
        "validate_postprocessor_config": "osiris_core.models.postprocess_config",
    }

    def __getattr__(name):
        if name not in _PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        from osiris_core.rooms import load

        place = _PLACES[name]
        return getattr(import_module(place) if place.startswith("osiris_core.") else load(place), name)


__all__ = [
    "AdapterRunBackend",
    "ArchivePostprocessorConfig",
    "BaseBackendConfig",
    "BasePostprocessorConfig",
    "BatchSandbox",
    "ChainPostprocessorConfig",
    "DockerAdapter",
    "DockerConfig",
    "DockerRunBackend",
    "E2BAdapter",
    "E2BConfig",
    "E2BRunBackend",
    "Fate",
    "FileTransport",
    "FolderFiles",
    "LocalAdapter",
    "LocalConfig",
    "LocalPipelineBackend",
    "LocalRunBackend",
    "NoopPostprocessor",
    "NoopPostprocessorConfig",
    "PipeTransport",
    "ProcessAdapter",
    "ProcessConfig",
    "ProcessRunBackend",
    "RemoteAdapter",
    "RemoteConfig",
    "ReportPostprocessorConfig",
    "Sandbox",
    "SandboxError",
    "SlurmAdapter",
    "SlurmConfig",
    "SlurmRunBackend",
    "Transport",
    "TransportClosed",
    "Unreachable",
    "get_available_backends",
    "get_available_configs",
    "get_available_pipelines",
    "get_available_postprocessor_configs",
    "get_available_postprocessors",
    "load_processor_config",
    "record_outcome",
    "validate_postprocessor_config",
]
