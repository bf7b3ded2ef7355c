"""An image that is used as it is: found at the engine, or pulled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import requests
from docker import auth as docker_auth  # type: ignore[import-untyped, unused-ignore]
from docker import errors as docker_errors  # type: ignore[import-untyped, unused-ignore]
from docker.utils import parse_repository_tag  # type: ignore[import-untyped, unused-ignore]

from adapters.docker_image.errors import ImageError, pull_error, translated
from adapters.docker_image.stream import answers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from adapters.docker_image.watch import Watch

PullPolicy = Literal["always", "missing", "never"]

_TOLD = ("Pulling from", "Pull complete", "Digest:", "Status:")
"""What of a pull is reported; the rest is a progress bar for every layer."""


def inspect_image(client: Any, image: str) -> dict[str, Any] | None:
    """What the engine knows about an image; None when it does not have it."""
    with translated(f"image '{image}' cannot be looked at"):
        try:
            found: dict[str, Any] = client.api.inspect_image(image)
        except docker_errors.ImageNotFound:
            return None
        return found


def had_image(
    client: Any,
    image: str,
    policy: PullPolicy,
    watch: Watch,
    *,
    auth: Mapping[str, str] | None = None,
    platform: str | None = None,
    remedy: str = "",
) -> dict[str, Any]:
    """
    The image as the engine knows it, pulled when the policy says so.

    Raises:
        ImageError: It is not there and may not or cannot be pulled.
    """
    found = inspect_image(client, image)
    wanted = found is None or not is_for(found, platform)
    if policy == "never" and wanted:
        what = "is not at the Docker engine" if found is None else f"is {platform_of(found)} there, not {platform}"
        raise ImageError(f"image '{image}' {what}, and `pull_policy: never` forbids to pull it{remedy}")
    if policy == "always" or (policy == "missing" and wanted):
        pull(client, image, watch, auth=auth, platform=platform, remedy=remedy)
        found = inspect_image(client, image)
    if found is None:
        raise ImageError(f"image '{image}' was pulled and is not there; is something removing images?")
    if not is_for(found, platform):
        raise ImageError(f"image '{image}' is for {platform_of(found)}, not for `platform: {platform}`")
    return found


def pull(
    client: Any,
    image: str,
    watch: Watch,
    *,
    auth: Mapping[str, str] | None = None,
    platform: str | None = None,
    remedy: str = "",
) -> None:
    """
    Pull an image; `auth` has `username` and `password`. Without it, what `docker login` left is used.

    Raises:
        ImageError: Bad credentials, no such image, no way to the registry: it says which, and what to do.
    """
    watch.say(f"pulling image {image}")
    repository, tag = parse_repository_tag(image)
    params: dict[str, Any] = {"fromImage": repository, "tag": tag or "latest"}
    if platform is not None:
        params["platform"] = platform
    said = None
    try:
        with translated(f"image '{image}' cannot be pulled"):
            headers = _auth_headers(client, repository, auth)
            for message in answers(client, "/images/create", watch, params=params, headers=headers):
                said = message.get("error") or said
                status = str(message.get("status", ""))
                if any(word in status for word in _TOLD):
                    watch.say(f"{message['id']}: {status}" if "id" in message else status)
    except ImageError as exc:
        if not isinstance(exc.__cause__, docker_errors.APIError):
            raise
        said = str(exc.__cause__.explanation or exc.__cause__)
    if said is not None:
        error = pull_error(image, watch.redactor.text(said), has_credentials=auth is not None)
        raise ImageError(f"{error}{remedy}", failure_class=error.failure_class)


def is_for(found: Mapping[str, Any], platform: str | None) -> bool:
    """Whether an image is for a platform like `linux/arm64`; for None, any is."""
    return platform is None or platform_of(found).split("/")[:2] == platform.lower().split("/")[:2]


def platform_of(found: Mapping[str, Any]) -> str:
    return f"{found.get('Os', 'linux')}/{found.get('Architecture', '')}"


def _auth_headers(client: Any, repository: str, auth: Mapping[str, str] | None) -> dict[str, str]:
    if auth is not None:
        header: bytes | str = docker_auth.encode_header(dict(auth))
    else:
        registry, _ = docker_auth.resolve_repository_name(repository)
        try:
            header = docker_auth.get_config_header(client.api, registry) or ""
        except (docker_errors.DockerException, requests.RequestException):
            header = ""  # a credential store that does not work must not hinder a public image
    text = header.decode() if isinstance(header, bytes) else header
    return {"X-Registry-Auth": text} if text else {}
