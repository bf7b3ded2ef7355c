"""What is wrong with the settings of an image, found before anything is pulled or built."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adapters.docker_image.ensure import credentials
from adapters.docker_image.errors import ImageError
from adapters.docker_image.own import check_build_args, read_context
from adapters.docker_image.packages import wheel_names
from adapters.docker_image.pull import inspect_image, is_for
from adapters.docker_image.worker import wheels_folder
from osiris_core.errors import FailureClass, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from adapters.docker_engine.config import DockerConfig


def image_problems(client: Any, config: DockerConfig, values: Mapping[str, str]) -> list[Problem]:
    """
    All of them, each with its key. Makes nothing and asks no registry; `values` are as for `ensure_image`.

    Raises:
        ImageError: The engine cannot be asked.
    """
    found = []
    for key, check in _checks(client, config, values):
        try:
            check()
        except ImageError as exc:
            if exc.failure_class is not FailureClass.USER_ERROR:
                raise  # the engine does not answer, which is no mistake in a setting
            found.append(Problem(str(exc), key=key))
    return found


def _checks(client: Any, config: DockerConfig, values: Mapping[str, str]) -> Iterator[tuple[str, Callable[[], object]]]:
    yield "registry_auth", lambda: credentials(config, values)
    if config.image is not None:
        yield "image", lambda: _may_be_had(client, config, str(config.image))
    elif config.dockerfile is not None:
        dockerfile = config.dockerfile
        yield "dockerfile", lambda: read_context(dockerfile, config.build_context)
        yield "build_args", lambda: check_build_args(config.build_args)
    else:
        yield "base_image", lambda: _may_be_had(client, config, config.base_image)
        folder = wheels_folder(config)
        if folder is not None:
            yield "wheels_dir", lambda: wheel_names(folder)


def _may_be_had(client: Any, config: DockerConfig, image: str) -> None:
    if config.pull_policy != "never":
        return
    found = inspect_image(client, image)
    if found is None or not is_for(found, config.platform):
        raise ImageError(f"image '{image}' is not at the Docker engine, and `pull_policy: never` forbids to pull it")
