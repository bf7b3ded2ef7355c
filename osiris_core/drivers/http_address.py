"""Addresses: joined, compared, and shown without a secret in them. Does no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlencode, urljoin, urlsplit, urlunsplit

from osiris_core.redaction import MASK, is_secret_field

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from osiris_core.redaction import Redactor

_SECRET_PARAMETERS = frozenset(
    {"key", "sig", "signature", "auth", "code", "appid", "x-amz-signature", "x-amz-credential", "x-goog-signature"}
)
"""Query parameters that hold a secret by custom, and whose names say less than those of fields do."""
_DEFAULT_PORTS = {"http": 80, "https": 443}


def check_address(url: str) -> str:
    """
    `url`, if it is a whole address of HTTP.

    Raises:
        ValueError: It is not, or holds credentials or a fragment.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as exc:
        raise ValueError(f"is no address: {exc}") from None
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise ValueError("must begin with https:// or http:// and a host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("holds credentials; they belong into auth_type, auth_username and auth_token")
    if parts.fragment or port == 0 or any(char <= " " for char in url):
        raise ValueError("is no address: it has a fragment, a blank or port 0")
    return url


def is_whole(url: str) -> bool:
    """Whether a text is a whole address, and not a path below one."""
    return "://" in url.partition("?")[0]


def below(base_url: str, path: str) -> str:
    """The address of `path` below `base_url`, whose own path stays: `https://host/v2` and `/orders` are both kept."""
    base, _, base_query = base_url.partition("?")
    path, _, query = path.partition("?")
    joined = f"{base.rstrip('/')}/{path.lstrip('/')}" if path.strip("/") else base
    both = "&".join(filter(None, [base_query, query]))
    return f"{joined}?{both}" if both else joined


def against(url: str, reference: str) -> str:
    """Where a `Location` or a link found at `url` leads."""
    return urljoin(url, reference.strip()).partition("#")[0]


def origin(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port: what two addresses must share to be of one server."""
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").rstrip("."), parts.port or _DEFAULT_PORTS.get(parts.scheme)


def host_of(url: str) -> str:
    """The server as people write it, `host:port` where the port is not the scheme's own."""
    scheme, host, port = origin(url)
    host = f"[{host}]" if ":" in host else host
    return host if port == _DEFAULT_PORTS.get(scheme) else f"{host}:{port}"


def with_parameters(url: str, parameters: Iterable[tuple[str, str]]) -> str:
    """`url` with these query parameters; one that is there already is replaced."""
    given = list(parameters)
    if not given:
        return url
    parts = urlsplit(url)
    names = {name for name, _ in given}
    kept = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name not in names]
    return urlunsplit(parts._replace(query=urlencode([*kept, *given], quote_via=quote)))


def parameter_pairs(parameters: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Query parameters as texts: a list is repeated, true and false are words, null is left out."""
    for name, value in parameters.items():
        for item in value if isinstance(value, (list, tuple)) else (value,):
            if item is not None:
                yield name, str(item).lower() if isinstance(item, bool) else str(item)


def shown(url: str, redactor: Redactor, secret_parameters: Iterable[str] = ()) -> str:
    """`url` for people: credentials and the values of secret parameters masked, and not longer than a line."""
    hidden = {name.lower() for name in secret_parameters} | _SECRET_PARAMETERS
    parts = urlsplit(url)
    netloc = parts.netloc.rpartition("@")[2]
    # Masked before it is encoded: a value is searched for in fewer forms than an address can have.
    pairs = [
        (redactor.text(name), MASK if name.lower() in hidden or is_secret_field(name) else redactor.text(value))
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
    ]
    text = urlunsplit((parts.scheme, netloc, parts.path, urlencode(pairs, quote_via=quote, safe="*,:/"), ""))
    text = redactor.text(text)
    return text if len(text) <= 300 else f"{text[:300]}…"
