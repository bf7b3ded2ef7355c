"""The image that a container is made from: a ready one, one from the user's Dockerfile, or the worker image."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any

from adapters.docker_engine.client import connect
from adapters.docker_image.build import BuildOrder, build
from adapters.docker_image.errors import ImageError
from adapters.docker_image.lock import making
from adapters.docker_image.own import BuildContext, check_build_args, read_context
from adapters.docker_image.pull import had_image, inspect_image
from adapters.docker_image.watch import Watch
from adapters.docker_image.worker import HASH_LABEL, WORKER_LABEL, WORKER_PYTHON, build_worker, worker_recipe
from osiris_core.redaction import Redactor
from osiris_core.secret_sources import find_value
from osiris_core.secrets import references, substitute

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from adapters.docker_engine.config import DockerConfig


@dataclass(frozen=True)
class WorkerImage:
    """An image that is there. `python` is its interpreter for a worker; `built` says that it was made just now."""

    image_id: str
    tag: str
    python: str
    built: bool
    build_ms: float


def ensure_image(
    client: Any,
    config: DockerConfig,
    progress: Callable[[str], None],
    *,
    values: Mapping[str, str] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> WorkerImage:
    """
    The image that the settings ask for; it is at the engine on return. Repeatable: what is there is used.

    `values` are those of the variables that `registry_auth` names, this process's environment without them.
    `progress` gets lines for people, masked. `cancelled` is asked several times a second.

    Raises:
        ImageError: It cannot be had, with the reason and what to do.
        RunCancelled: `cancelled` said so. Then, and after Ctrl-C, no container of a build is left.
    """
    auth = credentials(config, os.environ if values is None else values)
    watch = Watch(progress, cancelled or (lambda: False), Redactor((auth or {}).values()))
    if config.image is not None:
        platform, policy = config.platform, config.pull_policy
        return _ready(had_image(client, config.image, policy, watch, auth=auth, platform=platform), config.image)
    if config.dockerfile is not None:
        return _own(client, config, watch)
    return _worker(client, config, watch, auth)


def set_up(config: DockerConfig, progress: Callable[[str], None]) -> str | None:
    """
    Make the image beforehand, so that no run has to wait for it. Says what was made; None when it was there.

    Raises:
        SandboxError: The engine cannot be used, or the image cannot be had.
    """
    with closing(connect()) as client:
        before = {image["Id"] for image in client.api.images()}
        image = ensure_image(client, config, progress)
    if image.built:
        return f"built image {image.tag} in {image.build_ms / 1000:.1f} s"
    return f"pulled image {image.tag}" if image.image_id not in before else None


def credentials(config: DockerConfig, values: Mapping[str, str]) -> dict[str, str] | None:
    """The values of `registry_auth`, for this one use. Raises ImageError when a variable is not set."""
    if config.registry_auth is None:
        return None
    outside = {name: value for name, _ in references(config.registry_auth) if (value := find_value(name)) is not None}
    try:
        found: dict[str, str] = substitute(dict(config.registry_auth), {**outside, **values})
    except KeyError as exc:
        raise ImageError(f"registry_auth: the variable {exc.args[0]} is not set; export it") from None
    return found


def _ready(found: Mapping[str, Any], name: str) -> WorkerImage:
    labels = (found.get("Config") or {}).get("Labels") or {}
    python = WORKER_PYTHON if WORKER_LABEL in labels else "python3"
    return WorkerImage(str(found["Id"]), name, python, built=False, build_ms=0.0)


def _worker(client: Any, config: DockerConfig, watch: Watch, auth: Mapping[str, str] | None) -> WorkerImage:
    base = had_image(
        client,
        config.base_image,
        config.pull_policy,
        watch,
        auth=auth,
        platform=config.platform,
        remedy="; or name another base_image with Python 3.11 or later, or a ready image",
    )
    recipe = worker_recipe(config, str(base["Id"]))
    return _made_once(client, recipe.tag, recipe.digest, watch, lambda: build_worker(client, recipe, watch))


def _own(client: Any, config: DockerConfig, watch: Watch) -> WorkerImage:
    assert config.dockerfile is not None
    check_build_args(config.build_args)
    context = read_context(config.dockerfile, config.build_context)
    digest = context.digest(config.build_args, config.platform)
    order = BuildOrder(
        tag=f"osiris-build:{digest[:24]}",
        dockerfile=context.sent_dockerfile,
        build_args=config.build_args,
        labels={"osiris.build": "1", HASH_LABEL: digest},
        platform=config.platform,
        pull=config.pull_policy == "always",
    )

    def make() -> str:
        return _build_own(client, context, order, watch)

    # The Dockerfile's own base may be newer than what was built: only the builder can tell.
    return _made_once(client, order.tag, digest, watch, make, again=order.pull)


def _build_own(client: Any, context: BuildContext, order: BuildOrder, watch: Watch) -> str:
    with context.packed() as packed:
        return build(client, packed, order, watch)


def _made_once(
    client: Any, tag: str, digest: str, watch: Watch, make: Callable[[], str], *, again: bool = False
) -> WorkerImage:
    """The image of that tag, made when it is not there or is not what its name says."""
    found = None if again else _of_digest(client, tag, digest)
    if found is not None:
        return _ready(found, tag)
    with making(digest[:24], watch):
        found = None if again else _of_digest(client, tag, digest)
        if found is not None:
            return _ready(found, tag)
        started_s = monotonic()
        watch.say(f"building image {tag}")
        image_id = make()
        build_ms = (monotonic() - started_s) * 1000
        found = inspect_image(client, image_id)
    if found is None:
        raise ImageError(f"image {tag} was built and is not there; is something removing images?")
    ready = _ready(found, tag)
    return WorkerImage(ready.image_id, tag, ready.python, built=True, build_ms=build_ms)


def _of_digest(client: Any, tag: str, digest: str) -> dict[str, Any] | None:
    found = inspect_image(client, tag)
    labels = ((found or {}).get("Config") or {}).get("Labels") or {}
    return found if labels.get(HASH_LABEL) == digest else None
