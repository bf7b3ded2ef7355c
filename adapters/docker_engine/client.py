"""A connection to Docker Engine: the one place that imports the SDK's client."""

from __future__ import annotations

import os
import socket
from typing import Any

import docker  # type: ignore[import-untyped, unused-ignore]

from adapters.docker_engine.errors import translate
from osiris_core.errors import FailureClass
from remote.sandbox import SandboxError

REQUEST_TIMEOUT_S = 60

Client = Any
"""A `docker.DockerClient`; the SDK has no types."""


def connect(timeout_s: float = REQUEST_TIMEOUT_S) -> Client:
    """
    A client of the engine that DOCKER_HOST names, or of this machine's own. Close it after use.

    Raises:
        SandboxError: It does not answer, or this user may not ask it; with the remedy.
    """
    host = os.environ.get("DOCKER_HOST", "")
    if host.startswith("ssh:"):
        message = "DOCKER_HOST over ssh cannot carry a worker's stream: forward the engine's socket with ssh -L instead"
        raise SandboxError(message, failure_class=FailureClass.USER_ERROR)
    with translate("Docker cannot be used"):
        knock(timeout_s)
        return docker.from_env(timeout=timeout_s)


def knock(timeout_s: float = REQUEST_TIMEOUT_S) -> None:
    """Fail as the SDK would when nobody is there, but without the socket that it then leaves open."""
    host = os.environ.get("DOCKER_HOST", "")
    kind, _, path = str(docker.utils.parse_host(host or None)).partition("://")
    if kind == "http+unix":
        with socket.socket(socket.AF_UNIX) as knocking:
            knocking.settimeout(timeout_s)
            knocking.connect(path)


def is_local(client: Client) -> bool:
    """Whether the engine is reached by a socket of this machine, and so sees its files and processes."""
    return str(client.api.base_url) == "http+docker://localhost"
