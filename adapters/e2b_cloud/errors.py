"""The one edge where the SDK's errors, and those that leak through it, become ours, each with what to do."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING

import e2b
import httpx

from osiris_core.errors import FailureClass, OsirisError
from remote.sandbox import SandboxError, Unreachable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from osiris_core.redaction import Redactor

_WORDS = 400
"""How much of a far end's own words is repeated; a proxy's page is long."""

_BY_TEXT: tuple[tuple[str, FailureClass, str], ...] = (
    (
        r"timeout cannot be greater|maximum (sandbox )?(timeout|lifetime)|exceeds .{0,40}(hours|lifetime)",
        FailureClass.RESOURCE_DENIED,
        "the account's plan allows no sandbox to live that long: lower timeout, and set max_lifetime_s to the plan's "
        "limit (3600 on Hobby, 86400 on Pro) to hear of it sooner",
    ),
    (
        r"maximum number of concurrent|concurrent (e2b )?sandboxes",
        FailureClass.RESOURCE_DENIED,
        "the account's sandboxes are all in use: wait for one to end, or remove what was left behind (osiris runs gc)",
    ),
    (
        r"egress.?proxy|proxy address",
        FailureClass.USER_ERROR,
        "check network.egress_proxy: its address must be reachable from E2B, and not a private one",
    ),
    (
        r"allow_?out|deny_?out|egress|cidr",
        FailureClass.USER_ERROR,
        "check network.allow_out and network.deny_out",
    ),
    (r"idempotency", FailureClass.INFRA_LOST, "run it again"),
    (r"billing|payment|credit|quota", FailureClass.RESOURCE_DENIED, "look at the account's billing in the dashboard"),
)
"""What the control plane's words mean, the first that fits: it has few codes for it."""

_UNKNOWN_TEMPLATE = re.compile(
    r"template.{0,200}(not found|does not exist|doesn't exist)|(not found|does not exist).{0,80}template",
    re.DOTALL | re.IGNORECASE,
)
"""A name is taken when its first build is asked for: until one is ready E2B says that its tag does not exist."""


class E2BUnreachable(Unreachable):
    """E2B, or the sandbox, does not answer. It may come back, and the sandbox may live."""


class AnswerLost(E2BUnreachable):
    """A request was sent, and whether it was carried out is not known."""


class SandboxGone(SandboxError):
    """The sandbox does not live any more, or is paused."""


class SandboxPaused(Unreachable):
    """The sandbox sleeps, and can be woken up by whoever connects to it."""


class NothingThere(SandboxError):
    """The file or process in the sandbox does not exist."""


class TemplateUnknown(SandboxError):
    """There is no such template."""

    failure_class = FailureClass.USER_ERROR


class NotNow(Unreachable):
    """Refused without being looked at, because there is too much going on; asking again later may help."""

    failure_class = FailureClass.RESOURCE_DENIED


@contextmanager
def translate(what: str, redactor: Redactor, address: str = "") -> Iterator[None]:
    """
    Errors of the block as ours; `what` begins their message, as in "the sandbox cannot be made".

    Args:
        redactor: Masks what they say: a far end may repeat the key.
        address: The control plane's, where that was asked, for the message that nobody answers there; else a sandbox
            was.

    Raises:
        SandboxError: One of the classes above, or itself, with its failure class and the remedy. Errors of ours pass.
    """
    try:
        yield
    except OsirisError:
        raise  # ours already, or a cancel that was heard meanwhile
    except Exception as exc:  # noqa: BLE001 - whatever leaks through the SDK, a person gets our words
        # Without its cause: a far end may repeat the key that it refuses, and tracebacks are written down.
        raise explained(exc, what, redactor, address) from None


def explained(error: Exception, what: str, redactor: Redactor, address: str = "") -> SandboxError:
    """The error as ours; whatever it is, also what the SDK did not expect itself."""
    said = redactor.text(_one_line(error))
    where = f" at {address}" if address else ""
    if isinstance(error, e2b.AuthenticationException) and not address:
        return _unwelcome(what, said)
    if isinstance(error, e2b.AuthenticationException):
        message = f"{what}: E2B refused the API key{where} (set E2B_API_KEY or api_key to a valid one; {said})"
        return SandboxError(message, failure_class=FailureClass.USER_ERROR)
    if isinstance(error, (e2b.SandboxNotRunningException, e2b.SandboxNotFoundException)):
        return SandboxGone(f"{what}: the sandbox is gone: it was killed, paused, or lived to its end")
    if isinstance(error, (e2b.RateLimitException, e2b.ServiceBusyException)):
        known = _by_text(said, what)
        return NotNow(str(known)) if known is not None else _not_now(error, what, said)
    if isinstance(error, e2b.NotEnoughSpaceException):
        message = f"{what}: the sandbox's disk is full ({said}); use a template with a larger one"
        return SandboxError(message, failure_class=FailureClass.RESOURCE_DENIED)
    if isinstance(error, e2b.NotFoundException):
        return NothingThere(f"{what}: {said}")
    if isinstance(error, e2b.TemplateException):
        message = f"{what}: {said} (build the template anew: osiris adapters setup e2b)"
        return SandboxError(message, failure_class=FailureClass.USER_ERROR)
    if isinstance(error, e2b.GuestUnresponsiveException):
        return SandboxGone(f"{what}: the sandbox was paused while it did not answer, and cannot be woken up")
    if isinstance(error, e2b.TimeoutException):
        return E2BUnreachable(f"{what}: the sandbox did not answer: {said}")
    if isinstance(error, e2b.SandboxException):
        return _refused(error, what, said, where)
    return _leaked(error, what, said, where)


def _unwelcome(what: str, said: str) -> SandboxError:
    """A sandbox takes its own token, which it gave out itself, and never the account's key."""
    if "user" in said.lower():
        message = f"{what}: the template has no such user ({said}); set user to one that it has, or leave user out"
    else:
        message = f"{what}: the sandbox does not take its own token ({said}); run it again"
    return SandboxError(message, failure_class=FailureClass.USER_ERROR)


def _not_now(error: Exception, what: str, said: str) -> NotNow:
    if isinstance(error, e2b.ServiceBusyException):
        return NotNow(f"{what}: E2B has no room for it right now ({said}); run it again in a while")
    message = f"{what}: E2B was asked too often ({said}); start fewer runs at once: a plan limits sandboxes a second"
    return NotNow(message)


def _by_text(said: str, what: str) -> SandboxError | None:
    for pattern, failure_class, remedy in _BY_TEXT:
        if re.search(pattern, said, re.IGNORECASE):
            return SandboxError(f"{what}: {said} ({remedy})", failure_class=failure_class)
    return None


def _refused(error: e2b.SandboxException, what: str, said: str, where: str) -> SandboxError:
    """An answer with a status that has no class of its own."""
    status = error.status_code
    if status in (400, 404) and _UNKNOWN_TEMPLATE.search(said):
        message = f"{what}: {said} (set template to one of the account's, or build one: osiris adapters setup e2b)"
        return TemplateUnknown(message)
    if status == 404:
        return _too_old(what, said, where)
    if (known := _by_text(said, what)) is not None:
        return AnswerLost(str(known)) if status == 409 else known
    if status is not None and _is_lost(status):
        return AnswerLost(f"{what}: E2B failed ({said}); see https://status.e2b.dev, and run it again")
    if status == 403:
        message = f"{what}: the account may not do this ({said}); look at its plan and its key in the dashboard"
        return SandboxError(message, failure_class=FailureClass.USER_ERROR)
    if isinstance(error, e2b.InvalidArgumentException) or status == 400:
        return SandboxError(f"{what}: {said}", failure_class=FailureClass.USER_ERROR)
    return SandboxError(f"{what}: {said}")


def _too_old(what: str, said: str, where: str) -> SandboxError:
    message = (
        f"{what}: what answers{where} is not E2B's API, or one too old for this SDK ({said}); check api_url and "
        "domain, and update a control plane of your own"
    )
    return SandboxError(message, failure_class=FailureClass.PROTOCOL)


def _leaked(error: Exception, what: str, said: str, where: str) -> SandboxError:
    """What the SDK passes on as it got it: errors of the connection, and of an answer that it cannot read."""
    if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError, httpx.UnsupportedProtocol)):
        hint = "check the network, api_url and domain"
        if isinstance(error, httpx.ProxyError) or "proxy" in said.lower() or "407" in said:
            hint = "the proxy that HTTPS_PROXY names refused it: check that, or add E2B's hosts to NO_PROXY"
        return E2BUnreachable(f"{what}: E2B cannot be reached{where} ({hint}; {said})")
    # What the SDK passes on of the libraries below it is known by their names: they are not ours to import.
    of_stream = type(error).__module__.partition(".")[0] in ("connectrpc", "pyqwest")
    if of_stream or isinstance(error, (httpx.TransportError, OSError, TimeoutError, asyncio.TimeoutError)):
        return AnswerLost(f"{what}: the connection to E2B broke, or it did not answer in time ({said})")
    if (status := _status_of(error)) is not None and _is_lost(status):
        return AnswerLost(f"{what}: E2B failed (status {status}); see https://status.e2b.dev, and run it again")
    if isinstance(error, (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError, ValueError)):
        return _too_old(what, f"its answer cannot be read: {type(error).__name__}", where)
    return AnswerLost(f"{what}: {said}")


def _is_lost(status: int) -> bool:
    """Whether a status leaves open what was done. One that is none is an edge's word that it had no answer (520)."""
    return (status >= 500 and status != HTTPStatus.NOT_IMPLEMENTED) or status not in set(HTTPStatus)


def _status_of(error: Exception) -> int | None:
    """Of the answer that the SDK could not read; its error does not say, its frames do."""
    trace, status = error.__traceback__, None
    while trace is not None:
        status = getattr(trace.tb_frame.f_locals.get("response"), "status_code", status)
        trace = trace.tb_next
    return status if isinstance(status, int) else None


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _WORDS else text[:_WORDS] + "…"
