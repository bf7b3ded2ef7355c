"""What can go wrong with an image, in our words: the one edge at which the engine's errors about images become ours."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from docker import errors as docker_errors  # type: ignore[import-untyped, unused-ignore]

from adapters.docker_engine.errors import VENDOR_ERRORS, explained
from osiris_core.errors import FailureClass
from remote.sandbox import SandboxError

if TYPE_CHECKING:
    from collections.abc import Iterator

_DENIED = ("unauthorized", "denied", "authentication required", "no basic auth credentials", "incorrect username")
_UNKNOWN = ("manifest unknown", "not found", "does not exist", "no such image", "name unknown")
_FULL = ("no space left on device", "disk quota exceeded")
_NETWORK = (
    "no such host",
    "connection refused",
    "i/o timeout",
    "network is unreachable",
    "client.timeout",
    "tls handshake",
    "deadline exceeded",
    "connection reset",
    "x509",
    "server gave http response",
    "temporary failure in name resolution",
    "unexpected eof",
)
_PLATFORM = ("no matching manifest", "does not match the specified platform", "exec format error")


class ImageError(SandboxError):
    """An image cannot be had. The message names the remedy; `failure_class` says whose fault it is."""

    failure_class = FailureClass.USER_ERROR


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Errors of the engine and of the connection to it become ImageError, which says what was being done."""
    try:
        yield
    except docker_errors.APIError as exc:
        raise engine_error(doing, str(exc.explanation or exc)) from exc
    except VENDOR_ERRORS as exc:
        error = explained(exc, doing)
        raise ImageError(str(error), failure_class=error.failure_class) from exc


def engine_error(doing: str, said: str) -> ImageError:
    """The error for what the engine said while it was `doing` something."""
    low = said.lower()
    if any(word in low for word in _FULL):
        remedy, kind = "make room where the engine keeps its images: docker system df", FailureClass.RESOURCE_DENIED
    elif any(word in low for word in _PLATFORM):
        remedy, kind = "set `platform` to one that the image and the engine have", FailureClass.USER_ERROR
    else:
        remedy, kind = "", FailureClass.USER_ERROR
    return ImageError(f"{doing}: {said.strip()}{f' ({remedy})' if remedy else ''}", failure_class=kind)


def pull_error(image: str, said: str, *, has_credentials: bool) -> ImageError:
    """The error for a pull that a registry, or the way to it, refused."""
    low = said.lower()
    doing = f"image '{image}' cannot be pulled"
    # The network first: an unreachable registry also says that something was not found.
    if any(word in low for word in _NETWORK):
        remedy = "the registry cannot be reached; pull or load the image beforehand and set `pull_policy: never`"
        return ImageError(f"{doing}: {said.strip()} ({remedy})", failure_class=FailureClass.INFRA_LOST)
    if any(word in low for word in _DENIED):
        remedy = (
            "the registry refused the credentials of `registry_auth`, or they may not read this image"
            if has_credentials
            else "it does not exist, or needs credentials: set `registry_auth`, or use docker login"
        )
        return ImageError(f"{doing}: {said.strip()} ({remedy})")
    if any(word in low for word in _UNKNOWN):
        return ImageError(f"{doing}: {said.strip()} (there is no such image or tag; check its name)")
    return engine_error(doing, said)
