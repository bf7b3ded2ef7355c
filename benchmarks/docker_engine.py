"""The Docker Engine that benchmarks use, and the image of their workers; None where there is none."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from osiris_core import AdapterFactory
from osiris_core.backends import SandboxError
from osiris_core.errors import AdapterNotInstalled

BASE_IMAGES = ("osiris-base:bookworm", "python:3.12-slim")
"""The first that the engine has; `OSIRIS_BENCHMARK_BASE_IMAGE` names another."""

NOT_THERE = "Docker Engine or its command line is not there: not measured"


@dataclass(frozen=True)
class DockerPlace:
    """`config` goes to `AdapterFactory.create("docker", **config)`; `image` and `python` are what comes of it."""

    config: dict[str, Any]
    image: str
    python: str


def docker_place() -> DockerPlace | None:
    """Where containers can be measured, with the worker image made; says so when it has to be."""
    try:
        AdapterFactory.create("docker")
        from adapters.docker_engine.client import connect
        from adapters.docker_engine.config import DockerConfig
        from adapters.docker_image.ensure import ensure_image

        with closing(connect()) as client:
            chosen = os.environ.get("OSIRIS_BENCHMARK_BASE_IMAGE")
            base = chosen or next((name for name in BASE_IMAGES if client.images.list(name)), None)
            if base is None or shutil.which("docker") is None:
                return None
            image = ensure_image(client, DockerConfig(base_image=base), lambda line: print(line, file=sys.stderr))
    except (AdapterNotInstalled, SandboxError):
        return None
    return DockerPlace({"base_image": base}, image.tag, image.python)


def docker_run(place: DockerPlace, *command: str) -> list[str]:
    """
    `docker run` as a careful person writes it: hardened as the adapter's containers are, with a volume like theirs.

    The command is run by the image's Python.
    """
    from adapters.docker_engine.config import DockerConfig
    from adapters.docker_engine.spec import worker_user
    from adapters.docker_engine.volumes import VOLUME_DIR

    config = DockerConfig(**place.config)
    return [
        *("docker", "run", "--rm", "--init", "--interactive", "--user", worker_user(config)),
        *("--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--read-only", "--network", "none"),
        *("--pids-limit", str(config.pids_limit), "--log-driver", "none", "--ulimit", "core=0", "--no-healthcheck"),
        *("--mount", f"type=volume,dst={VOLUME_DIR},volume-nocopy"),
        *("--entrypoint", place.python, place.image, *command),
    ]
