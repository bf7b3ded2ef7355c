"""Adapters and their configurations by name, loaded on use: `from osiris_core.backends import LocalConfig`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adapters.docker import DockerAdapter, DockerConfig
    from adapters.e2b import E2BAdapter, E2BConfig
    from adapters.local import LocalAdapter, LocalConfig
    from adapters.process import ProcessAdapter, ProcessConfig
    from remote.adapter import RemoteAdapter
    from remote.config import RemoteConfig
    from remote.file_transport import FileTransport
    from remote.pipe_transport import FolderFiles, PipeTransport
    from remote.sandbox import Fate, Sandbox, SandboxError, Transport, TransportClosed
else:
    _PLACES = {
        "DockerAdapter": "adapters.docker",
        "DockerConfig": "adapters.docker",
        "E2BAdapter": "adapters.e2b",
        "E2BConfig": "adapters.e2b",
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
        "Transport": "remote.sandbox",
        "TransportClosed": "remote.sandbox",
    }

    def __getattr__(name):
        if name not in _PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from osiris_core.rooms import load

        return getattr(load(_PLACES[name]), name)


__all__ = [
    "DockerAdapter",
    "DockerConfig",
    "E2BAdapter",
    "E2BConfig",
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
    "Transport",
    "TransportClosed",
]
