"""The one edge where the engine's and the SDK's errors become ours, each with its class and what to do."""

from __future__ import annotations

import errno
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

import requests
from docker import errors as vendor  # type: ignore[import-untyped, unused-ignore]

from osiris_core.errors import FailureClass
from remote.sandbox import SandboxError, Unreachable

if TYPE_CHECKING:
    from collections.abc import Iterator

VENDOR_ERRORS = (vendor.DockerException, requests.exceptions.RequestException, OSError)
"""What the SDK raises. OSError: a socket that breaks while an answer is read."""

_START = "start dockerd (systemctl start docker), or set DOCKER_HOST to where one runs"
_GROUP = "add this user to the group docker (usermod -aG docker USER) and log in again"

_BY_TEXT: tuple[tuple[str, FailureClass, str], ...] = (
    (r"no space left on device", FailureClass.RESOURCE_DENIED, "the engine's disk is full: docker system prune"),
    (r"disk quota exceeded", FailureClass.RESOURCE_DENIED, "the quota of the engine's disk is used up"),
    (r"exec format error", FailureClass.USER_ERROR, "the image is for another processor: set platform, or rebuild it"),
    (
        r"does not match the (specified|detected)|no matching manifest",
        FailureClass.USER_ERROR,
        "the image is not there for this platform: set another platform, or another image",
    ),
    (
        r"executable file not found|no such file or directory: unknown",
        FailureClass.USER_ERROR,
        "the program is not in the image: set another image, or install it there",
    ),
    (
        r"pull access denied|unauthorized|authentication required|no basic auth credentials|incorrect username",
        FailureClass.USER_ERROR,
        "check the image's name and registry_auth",
    ),
    (r"client version .* is too (old|new)|API version", FailureClass.USER_ERROR, "use Docker Engine 19.03 or later"),
    (r"range of cpus|nanocpus|cpu.{0,20}(cfs|period|quota|limit)", FailureClass.RESOURCE_DENIED, "lower cpu"),
    (r"memory", FailureClass.RESOURCE_DENIED, "change memory"),
    (r"bind source path does not exist", FailureClass.USER_ERROR, "the engine must run on this machine to mount it"),
    (r"invalid mount|mount", FailureClass.USER_ERROR, "check volumes"),
    (r"network .* not found", FailureClass.USER_ERROR, "make the network (docker network create), or set another"),
    (
        r"unable to find user|no matching entries in passwd",
        FailureClass.USER_ERROR,
        "set user to a uid, as in 1000:1000",
    ),
    (r"ulimit|pids|permission denied", FailureClass.RESOURCE_DENIED, "ask who runs the engine"),
)
"""What the engine's words mean, the first that fits: it has no codes for it."""


class EngineUnreachable(Unreachable):
    """Docker Engine does not answer. It may come back."""


class NotThere(SandboxError):
    """The container, volume, image or network is not there."""

    failure_class = FailureClass.USER_ERROR


@contextmanager
def translate(what: str) -> Iterator[None]:
    """
    Errors of the block as ours; `what` begins their message, as in "the container cannot be started".

    Raises:
        EngineUnreachable: The engine did not answer.
        NotThere: It has no such thing.
        SandboxError: Anything else, with its class and what to do.
    """
    try:
        yield
    except SandboxError:
        raise
    except VENDOR_ERRORS as exc:
        raise explained(exc, what) from exc


def explained(error: Exception, what: str) -> SandboxError:
    """The error as ours."""
    if isinstance(error, vendor.APIError):
        return _refused(error, what)
    if isinstance(error, (vendor.TLSParameterError, vendor.InvalidVersion, vendor.InvalidConfigFile)):
        message = f"{what}: {_one_line(error)}"
        return SandboxError(message, failure_class=FailureClass.USER_ERROR)
    return _unreachable(error, what)


def _refused(error: vendor.APIError, what: str) -> SandboxError:
    """The engine answered, and said no."""
    text = str(error.explanation or error).strip()
    for pattern, failure_class, remedy in _BY_TEXT:
        if re.search(pattern, text, re.IGNORECASE):
            return SandboxError(f"{what}: {text} ({remedy})", failure_class=failure_class)
    if error.status_code == 404:
        return NotThere(f"{what}: {text}")
    server = error.status_code is not None and error.status_code >= 500
    return SandboxError(f"{what}: {text}", failure_class=FailureClass.INFRA_LOST if server else FailureClass.USER_ERROR)


def _unreachable(error: Exception, what: str) -> SandboxError:
    """Nobody answered, or not to the end."""
    causes = list(_causes(error))
    codes = {cause.errno for cause in causes if isinstance(cause, OSError)}
    if codes & {errno.EACCES, errno.EPERM}:
        message = f"{what}: this user may not use Docker's socket ({_GROUP})"
        return EngineUnreachable(message, failure_class=FailureClass.USER_ERROR)
    if codes & {errno.ENOENT, errno.ECONNREFUSED, errno.ENOTDIR}:
        return EngineUnreachable(f"{what}: Docker Engine is not running ({_START})")
    if any(isinstance(cause, (requests.exceptions.Timeout, TimeoutError)) for cause in causes):
        return EngineUnreachable(f"{what}: Docker Engine did not answer in time; it may be overloaded, or restarting")
    if isinstance(error, (requests.exceptions.RequestException, OSError)) or codes - {None}:
        return EngineUnreachable(f"{what}: the connection to Docker Engine broke; it may have been restarted")
    return EngineUnreachable(f"{what}: {_one_line(error)} ({_START})")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and all within it; the SDK and what it uses wrap them several times, in arguments and causes."""
    waiting: list[object] = [error]
    seen: set[int] = set()
    while waiting:
        item = waiting.pop()
        if isinstance(item, BaseException) and id(item) not in seen:
            seen.add(id(item))
            yield item
            waiting += [*item.args, getattr(item, "reason", None), item.__cause__, item.__context__]


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
