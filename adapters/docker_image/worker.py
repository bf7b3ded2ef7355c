"""The worker image: a base image with Python, and the worker's third-party packages in an environment of their own."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from docker import errors as docker_errors  # type: ignore[import-untyped, unused-ignore]

from adapters.docker_image.base import probe_base
from adapters.docker_image.build import BuildOrder, build
from adapters.docker_image.packages import downloaded_wheels, required, wheel_digests, wheel_names

if TYPE_CHECKING:
    from adapters.docker_engine.config import DockerConfig
    from adapters.docker_image.watch import Watch

WORKER_PYTHON = "/opt/osiris/bin/python"
WORKER_LABEL = "osiris.worker"
HASH_LABEL = "osiris.hash"

# Two stages, so that the wheels are in no layer of the image that is kept. Nothing is spliced into a command: names of
# packages come in files. pip compiles what it installs, which a worker's start would otherwise pay for. The label comes
# first, so that what a cancelled build leaves carries it and is found by `docker image prune`.
_DOCKERFILE = """\
ARG BASE
FROM ${BASE} AS packages
LABEL osiris.worker=1
ARG HASH
LABEL osiris.hash=${HASH}
USER root
SHELL ["/bin/sh", "-c"]
COPY wheels /osiris/wheels
COPY requirements.txt /osiris/requirements.txt
RUN umask 022 && python3 -m venv /opt/osiris && /opt/osiris/bin/python -m pip install \
--no-cache-dir --no-index --disable-pip-version-check --only-binary=:all: \
--find-links /osiris/wheels --requirement /osiris/requirements.txt

FROM ${BASE}
LABEL osiris.worker=1
ARG HASH
LABEL osiris.hash=${HASH}
USER root
SHELL ["/bin/sh", "-c"]
"""
_DOCKERFILE_APT = """\
COPY apt-packages.txt /tmp/osiris-apt-packages.txt
RUN export DEBIAN_FRONTEND=noninteractive && apt-get update && \
xargs -a /tmp/osiris-apt-packages.txt apt-get install -y --no-install-recommends -- && \
rm -rf /var/lib/apt/lists/* /tmp/osiris-apt-packages.txt
"""
_DOCKERFILE_END = f"""\
COPY --from=packages /opt/osiris /opt/osiris
ENTRYPOINT []
CMD ["{WORKER_PYTHON}"]
"""


@dataclass(frozen=True)
class WorkerRecipe:
    """All that decides what is in a worker image."""

    base_name: str
    base_id: str
    requirements: tuple[str, ...]
    apt_packages: tuple[str, ...]
    platform: str | None
    wheels_dir: Path | None
    wheels: tuple[tuple[str, str], ...]

    @property
    def dockerfile(self) -> str:
        return _DOCKERFILE + (_DOCKERFILE_APT if self.apt_packages else "") + _DOCKERFILE_END

    @property
    def digest(self) -> str:
        parts = [self.base_id, self.requirements, self.apt_packages, self.platform, self.dockerfile, self.wheels]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    @property
    def tag(self) -> str:
        return f"osiris-worker:{self.digest[:24]}"


def worker_recipe(config: DockerConfig, base_id: str) -> WorkerRecipe:
    """
    What the settings ask for on top of a base image. With `wheels_dir` its wheels decide the versions.

    Raises:
        ImageError: A requirement or package has no possible name, or there are no wheels.
    """
    folder = wheels_folder(config)
    return WorkerRecipe(
        base_name=config.base_image,
        base_id=base_id,
        requirements=tuple(required(config.requirements, pinned=folder is None)),
        apt_packages=tuple(sorted(set(config.apt_packages))),
        platform=config.platform,
        wheels_dir=folder,
        wheels=tuple(wheel_digests(folder).items()) if folder is not None else (),
    )


def wheels_folder(config: DockerConfig) -> Path | None:
    """`wheels_dir`; a relative one starts at the current directory."""
    return Path(config.wheels_dir).expanduser().resolve() if config.wheels_dir is not None else None


def build_worker(client: Any, recipe: WorkerRecipe, watch: Watch) -> str:
    """
    Build a worker image and return its id. Only Debian packages, if any, need a network inside the build.

    Raises:
        ImageError: The base has no suitable Python, or wheels cannot be had, or the build failed.
        RunCancelled: The watch says so.
    """
    python = probe_base(client, recipe.base_name, recipe.base_id, needs_apt=bool(recipe.apt_packages))
    watch.check()
    wheels = recipe.wheels_dir or downloaded_wheels(recipe.requirements, python, watch)
    order = BuildOrder(
        tag=recipe.tag,
        build_args={"BASE": recipe.base_id, "HASH": recipe.digest},
        labels={WORKER_LABEL: "1", HASH_LABEL: recipe.digest, "osiris.base": recipe.base_name},
        network=None if recipe.apt_packages else "none",
        platform=recipe.platform,
    )
    try:
        with _packed(recipe, wheels) as context:
            return build(client, context, order, watch)
    finally:
        _drop_stages(client, recipe.digest)


def _packed(recipe: WorkerRecipe, wheels: Path) -> BinaryIO:
    """The build's context as a tar in a temporary file, which is gone when closed."""
    file = tempfile.TemporaryFile(prefix="osiris-context-")  # noqa: SIM115 - the caller's to close
    texts = {
        "Dockerfile": recipe.dockerfile,
        "requirements.txt": "".join(f"{item}\n" for item in recipe.requirements),
        "apt-packages.txt": "".join(f"{item}\n" for item in recipe.apt_packages),
    }
    try:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for name, text in texts.items():
                member = tarfile.TarInfo(name)
                member.size = len(text.encode())
                archive.addfile(member, io.BytesIO(text.encode()))
            for name in wheel_names(wheels):
                archive.add(wheels / name, f"wheels/{name}", filter=_readable)
    except BaseException:
        file.close()
        raise
    file.seek(0)
    return file


def _readable(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o644
    return member


def _drop_stages(client: Any, digest: str) -> None:
    """The stage with the wheels, and what a failed build left, are of no use to anybody."""
    with suppress(docker_errors.DockerException, OSError):
        for image in client.api.images(filters={"dangling": True, "label": f"{HASH_LABEL}={digest}"}):
            with suppress(docker_errors.APIError):
                client.api.remove_image(image["Id"])
