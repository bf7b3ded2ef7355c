"""One build by the engine's classic builder: context up, log down, and nothing left when it does not succeed."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, BinaryIO

from docker import errors as docker_errors  # type: ignore[import-untyped, unused-ignore]

from adapters.docker_image.errors import ImageError, engine_error, translated
from adapters.docker_image.stream import answers
from adapters.docker_image.watch import MakingLog
from osiris_core.errors import FailureClass

if TYPE_CHECKING:
    from collections.abc import Mapping

    from adapters.docker_image.watch import Watch

_RUNNING = re.compile(r"---> Running in ([0-9a-f]{12,64})")
GONE_S = 10.0
"""How long the engine may take to remove the container of a build that ended early."""


@dataclass(frozen=True)
class BuildOrder:
    """What is built: the name it gets, and what decides its content beside the context."""

    tag: str
    dockerfile: str = "Dockerfile"
    build_args: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    network: str | None = None
    platform: str | None = None
    pull: bool = False


def build(client: Any, context: BinaryIO, order: BuildOrder, watch: Watch) -> str:
    """
    Build `context`, an uncompressed tar, and return the image's id.

    Every line of the log is reported. When it fails, is interrupted or is cancelled, no container of it is left.

    Raises:
        ImageError: It failed. The message has the last lines, and names the file with the whole log.
        RunCancelled: The watch says so.
    """
    containers: set[str] = set()
    with MakingLog(watch, order.tag.replace(":", "-").replace("/", "-")) as log:
        try:
            return _follow(client, context, order, watch, log, containers)
        except ImageError as exc:
            raise ImageError(log.described(str(exc)), failure_class=exc.failure_class) from exc.__cause__
        finally:
            _see_gone(client, containers)


def _follow(
    client: Any, context: BinaryIO, order: BuildOrder, watch: Watch, log: MakingLog, containers: set[str]
) -> str:
    image_id: str | None = None
    failure: str | None = None
    pending = ""
    with translated(f"image {order.tag} cannot be built"):
        headers = {"Content-Type": "application/tar"}
        client.api._set_auth_headers(headers)
        for message in answers(client, "/build", watch, params=_params(client, order), headers=headers, body=context):
            *lines, pending = (pending + message.get("stream", "")).split("\n")
            for line in lines:
                containers.update(_RUNNING.findall(line))
                log.line(line)
            if "status" in message and "progressDetail" not in message:
                log.line(str(message["status"]))
            image_id = message.get("aux", {}).get("ID") or image_id
            failure = message.get("error") or failure
    log.line(pending)
    if failure is not None:
        log.line(str(failure))
        raise engine_error(f"image {order.tag} cannot be built", str(failure))
    if image_id is None:
        lost = f"image {order.tag} cannot be built: the Docker engine stopped answering in the middle (restarted?)"
        raise ImageError(lost, failure_class=FailureClass.INFRA_LOST)
    return image_id


def _params(client: Any, order: BuildOrder) -> dict[str, Any]:
    build_args = dict(order.build_args)
    if order.network != "none":
        # Proxy settings are the one kind of build argument that the engine keeps out of an image's history.
        build_args = {**client.api._proxy_configs.get_environment(), **build_args}
    params = {
        "t": order.tag,
        "dockerfile": order.dockerfile,
        "rm": True,
        "forcerm": True,
        "pull": order.pull,
        "buildargs": json.dumps(build_args),
        "labels": json.dumps(dict(order.labels)),
    }
    optional = {"networkmode": order.network, "platform": order.platform}
    return params | {name: value for name, value in optional.items() if value is not None}


def _see_gone(client: Any, containers: set[str]) -> None:
    """The engine removes them by itself, but after it has answered, and not when it was killed in between."""
    deadline_s = monotonic() + GONE_S
    for container in containers:
        with suppress(docker_errors.DockerException, OSError):
            while monotonic() < deadline_s:
                client.api.inspect_container(container)  # raises NotFound once it is gone
                sleep(0.05)
            client.api.remove_container(container, force=True, v=True)
