"""
The one file that knows httpx: its transport for one connection, what comes back, and its errors in our words.

Of httpx only the transport is used: its client would read the environment and `~/.netrc`, keep cookies, and log
addresses with the keys in them.
"""

from __future__ import annotations

import errno
import ssl
from typing import TYPE_CHECKING, Any

from osiris_core.container import in_container
from osiris_core.drivers.http_errors import HttpFailure
from osiris_core.errors import DriverNotInstalled, FailureClass, StepError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Mapping

    import httpx

    from osiris_core.drivers.http_client import HttpLimits
    from osiris_core.drivers.http_connection import ApiConnection

PACKAGES = ("httpx>=0.27,<1",)
_BROKE_OFF = ("peer closed connection", "Server disconnected", "closed connection", "without sending")
_NO_SUCH_NAME = (-2, -5)
"""What the resolver says of a name that is not there (EAI_NONAME, EAI_NODATA); others may be gone the next time."""


class Transport:
    """Sends requests by one scheme, as one connection says, in the event loop that awaits it."""

    def __init__(self, connection: ApiConnection, ca_file: str | None, scheme: str) -> None:
        """Raises as `_open` does."""
        self._transport = _open(connection, ca_file, scheme)

    async def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, limits: HttpLimits
    ) -> Reply:
        """What comes back to a request, as soon as its headers are here. Raises what `explain` explains."""
        import httpx

        timeouts = {
            "connect": limits.connect_timeout_s,
            "read": limits.read_timeout_s,
            "write": limits.read_timeout_s,
            "pool": limits.connect_timeout_s,
        }
        encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
        request = httpx.Request(method, url, headers=encoded, content=body, extensions={"timeout": timeouts})
        response = await self._transport.handle_async_request(request)
        response.request = request  # `links` wants it
        return Reply(response)

    async def close(self) -> None:
        await self._transport.aclose()


class Reply:
    """An answer whose body is still to come: header names in lower case, the `Link` header by `rel`."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self.status = response.status_code
        self.headers = {name.lower(): value for name, value in response.headers.items()}
        self.links = {rel: link["url"] for rel, link in response.links.items() if rel and link.get("url")}

    def pieces(self) -> AsyncGenerator[bytes, None]:
        """The body as it was sent: httpx would unpack a bomb before anyone could count. To be closed by who reads."""
        stream: Any = self._response.stream
        found: AsyncGenerator[bytes, None] = stream.__aiter__()
        return found

    async def close(self) -> None:
        await self._response.aclose()


def _open(connection: ApiConnection, ca_file: str | None, scheme: str) -> httpx.AsyncHTTPTransport:
    """
    A transport for one scheme, that trusts whom the connection says and reads nothing of the environment.

    Raises:
        DriverNotInstalled: httpx is missing.
        StepError: The certificates or the proxy cannot be used.
    """
    try:
        import httpx
    except ModuleNotFoundError as exc:
        raise DriverNotInstalled("HTTP needs the package httpx: pip install 'osiris-core[http]'") from exc
    proxy = connection.proxy.get_secret_value() if connection.proxy is not None else None
    # Reading the system's authorities takes 50 ms; who does not speak TLS trusts nobody.
    needs_trust = scheme == "https" or proxy is not None
    context = _trust(connection, ca_file) if needs_trust else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        return httpx.AsyncHTTPTransport(verify=context, trust_env=False, retries=0, proxy=proxy)
    except (ValueError, httpx.InvalidURL) as exc:
        raise StepError(f"proxy: {type(exc).__name__}: it must be http://host:port or https://host:port") from None


def _trust(connection: ApiConnection, ca_file: str | None) -> ssl.SSLContext:
    import certifi

    context = ssl.create_default_context()  # the system's authorities
    if not connection.validate_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    context.load_verify_locations(certifi.where())  # where the system has none
    try:
        if connection.ca_certificates:
            context.load_verify_locations(cadata=connection.ca_certificates)
        if ca_file:
            context.load_verify_locations(ca_file)
    except (ssl.SSLError, ValueError, OSError) as exc:
        raise StepError(f"ca_file or ca_certificates holds no certificate in PEM: {exc}") from exc
    return context


def explain(error: Exception, where: str, host: str, limits: HttpLimits, *, idempotent: bool) -> HttpFailure | None:
    """
    What an error of the transport means; None for one that is not the transport's.

    Errors from before the request was sent are worth another try in any case, later ones where it is `idempotent`.
    """
    import httpx

    before = isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, httpx.InvalidURL))

    def failure(message: str, failure_class: FailureClass = FailureClass.INFRA_LOST, *, again: bool) -> HttpFailure:
        details = {"request": where, "host": host}
        message = f"{where}: {message}"
        return HttpFailure(message, failure_class=failure_class, again=again, maybe_done=not before, details=details)

    if not isinstance(error, (httpx.TransportError, httpx.InvalidURL)):
        return None
    if _of_kind(error, ssl.SSLEOFError) is not None or _of_kind(error, ssl.SSLZeroReturnError) is not None:
        return failure(f"{host} broke off TLS; does it speak TLS there?", again=idempotent)
    if (found := _of_kind(error, ssl.SSLError)) is not None:
        return failure(_tls_words(found, host), FailureClass.USER_ERROR, again=False)
    if isinstance(error, httpx.ConnectTimeout):
        return failure(f"{host} did not take a connection within {limits.connect_timeout_s:g} s", again=True)
    if isinstance(error, httpx.ConnectError):
        unknown = _errno_of(error) in _NO_SUCH_NAME or "Name or service not known" in str(error)
        if unknown:
            message = f"there is no host {host.partition(':')[0]}; check the address"
            return failure(message, FailureClass.USER_ERROR, again=False)
        return failure(_connect_words(error, host), again=True)
    if isinstance(error, httpx.ReadTimeout):
        return failure(f"{host} was silent for {limits.read_timeout_s:g} s", again=idempotent)
    if isinstance(error, httpx.ProxyError):
        return failure(f"the proxy refused: {error}", FailureClass.USER_ERROR, again=False)
    if isinstance(error, httpx.RemoteProtocolError) and not any(words in str(error) for words in _BROKE_OFF):
        return failure(f"{host} does not speak HTTP as it should: {error}", FailureClass.PROTOCOL, again=False)
    if isinstance(error, (httpx.NetworkError, httpx.RemoteProtocolError, httpx.TimeoutException)):
        return failure(f"the connection to {host} broke off: {error or type(error).__name__}", again=idempotent)
    return failure(f"{type(error).__name__}: {error}", FailureClass.USER_ERROR, again=False)


def _tls_words(error: BaseException, host: str) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        what = error.verify_message or str(error)
        if "mismatch" in what or "not valid for" in what:
            return f"the certificate of {host} is for another name: {what}; name the host as its certificate does"
        if "expired" in what:
            return f"the certificate of {host} has expired; it must be renewed there"
        return (
            f"the certificate of {host} is not trusted: {what}; if it is of an authority of your own, "
            "give that in ca_file or ca_certificates"
        )
    reason = getattr(error, "reason", None) or str(error)
    if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"):
        return f"{host} does not speak TLS there; is it http:// or another port?"
    return f"TLS with {host} failed: {reason}"


def _connect_words(error: Exception, host: str) -> str:
    code = _errno_of(error)
    if code == errno.ECONNREFUSED or "refused" in str(error) or "All connection attempts failed" in str(error):
        own = host.partition(":")[0] in ("localhost", "127.0.0.1") or host.startswith("[::1]")
        inside = own and in_container()
        hint = " (that is this container itself; for the machine it runs on see docs/docker.md)" if inside else ""
        return f"nobody answers at {host}{hint}"
    return f"{host} cannot be reached: {error or type(error).__name__}"


def _of_kind(error: BaseException, kind: type[BaseException]) -> BaseException | None:
    return next((cause for cause in _causes(error) if isinstance(cause, kind)), None)


def _errno_of(error: BaseException) -> Any:
    return next((cause.errno for cause in _causes(error) if isinstance(cause, OSError) and cause.errno), None)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        if isinstance(error, BaseExceptionGroup):
            for inner in error.exceptions:
                yield from _causes(inner)
        error = error.__cause__ or error.__context__
