"""Adapters and their configurations by name, loaded on use: `from osiris_core.backends import LocalConfig`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adapters.docker import DockerAdapter, DockerConfig
    from adapters.local import LocalAdapter, LocalConfig
    from adapters.process import ProcessAdapter, ProcessConfig
    from adapters.slurm import SlurmAdapter, SlurmConfig
    from remote.adapter import RemoteAdapter
    from remote.config import RemoteConfig
    from remote.file_transport import FileTransport
    from remote.pipe_transport import FolderFiles, PipeTransport
    from remote.sandbox import BatchSandbox, Fate, Sandbox, SandboxError, Transport, TransportClosed
else:
    _PLACES = {
        "BatchSandbox": "remote.sandbox",
        "DockerAdapter": "adapters.docker",
        "DockerConfig": "adapters.docker",
        "Fate": "remote.sandbox",
        "FileTransport": "remote.file_transport",
        "FolderFiles": "remote.pipe_transport",
        "LocalAdapter": "adapters.local",
        "LocalConfig": "adapters.local",
        "PipeTransport": "remote.pipe_transport",
        "ProcessAdapter": "adapters.process",
        "ProcessConfig": "adapters.process",
        "RemoteAdapter": "remote.adapter",
        "RemoteConfig": "remote.config",
        "Sandbox": "remote.sandbox",
        "SandboxError": "remote.sandbox",
        "SlurmAdapter": "adapters.slurm",
        "SlurmConfig": "adapters.slurm",
        "Transport": "remote.sandbox",
        "TransportClosed": "remote.sandbox",
    }

    def __getattr__(name):
        if name not in _PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from osiris_core.rooms import load

        return getattr(load(_PLACES[name]), name)


__all__ = [
    "BatchSandbox",
    "DockerAdapter",
    "DockerConfig",
    "Fate",
    "FileTransport",
    "FolderFiles",
    "LocalAdapter",
    "LocalConfig",
    "PipeTransport",
    "ProcessAdapter",
    "ProcessConfig",
    "RemoteAdapter",
    "RemoteConfig",
    "Sandbox",
    "SandboxError",
    "SlurmAdapter",
    "SlurmConfig",
    "Transport",
    "TransportClosed",
]
