"""
The one redactor: no secret value leaves in a text, a structure or a byte stream.

A value is searched for in clear, and in the forms in which error messages and URLs carry it: base64 (all
three alignments, both alphabets) and hex, longer ones also over several lines; percent-encoding, JSON, Python, SQL,
shell and HTML escapes. So are the password inside a URL or connection string that is itself a secret, and each line of
one of several lines. A value too short or too common to be searched for without turning a report into asterisks is
masked by the field that it stands in.
"""

from __future__ import annotations

import base64
import html
import json
import numbers
import re
from bisect import bisect_left
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus, unquote

from osiris_core.wrapped_forms import WrappedForms

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MASK = "***"
MIN_SEARCHED_CHARS = 6
MAX_DEPTH = 60
"""How deep a structure is followed; what lies deeper is left out (it may contain itself)."""
_COMMON = frozenset(
    """true false none null default localhost 127.0.0.1 password secret admin postgres public
    production staging development testing latest example username private""".split()  # noqa: SIM905 - one a line is long
)
_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_SECRET_WORDS = re.compile(
    # These end a name however it begins (PGPASSWORD); the others only as words of their own (`bypass` is none).
    r"(?:password|passwd|passphrase|passcode|secret)$"
    r"|(?:^|[_\-. ])(?:pass|pwd|pw|pat|secrets|token|api_?key|apikey|credentials?|authorization|dsn|connection_string"
    r"|secret_key_base|jwt|cookie|(?:api|access|private|secret|service_role|anon|account|storage|shared|signing|encryption|master|auth|license"
    r"|subscription|consumer|client|deploy|webhook)[_\-. ]key)$",
    re.IGNORECASE,
)
_KEY_VARIABLE = re.compile(r"(?!PRIMARY|FOREIGN|SORT|PARTITION|CACHE)[A-Z][A-Z0-9_]*_KEY")
"""An environment variable like `STRIPE_KEY`; in lower case (`customer_key`) it is a column far more often."""
_PLACEHOLDER = re.compile(r"\$\{[^}]*\}")
_URL_PASSWORD = re.compile(r"(://[^\s/:@]*:)(?!\$\{)[^\s/@]+(?:@[^\s/@\"'`<>]*)*(?=@)")
"""Up to the last @: a password may have some. A quote ends it where another address follows."""
_DSN_PASSWORD = re.compile(
    r"\b(?:password|pwd|accountkey|sharedaccesskey)\s*=\s*(?:'([^']+)'|([^\s;&']+))", re.IGNORECASE
)


@lru_cache(maxsize=4096)  # the same few names, again and again
def is_secret_field(name: str) -> bool:
    """Whether a field of this name holds a secret by custom (`password`, `X-Api-Key`, `accessToken`)."""
    return _SECRET_WORDS.search(_WORD_START.sub("_", name)) is not None or _KEY_VARIABLE.fullmatch(name) is not None


def has_url_password(text: str) -> bool:
    """Whether a text holds a URL with a password in it (`mysql://user:password@host`)."""
    return "://" in text and _URL_PASSWORD.search(text) is not None


def is_searchable(value: str) -> bool:
    """Whether a value is long and rare enough to be searched for in running text."""
    return len(value) >= MIN_SEARCHED_CHARS and value.lower() not in _COMMON and len(set(value)) > 1


def _parts(value: str) -> Iterator[str]:
    """What inside of a secret is a secret on its own: a driver's message shows the password, not the whole DSN."""
    yield value
    if "%" in value:
        yield unquote(value)
    if "\n" in value or "\r" in value:
        for line in value.splitlines():
            yield line.strip()
    for match in _URL_PASSWORD.finditer(value):
        password = match[0][len(match[1]) :]
        yield password
        yield unquote(password)
    for match in _DSN_PASSWORD.finditer(value):
        yield match[1] or match[2]
    if value.lstrip().startswith(("{", "[")):
        try:
            found = json.loads(value)
        except (ValueError, RecursionError):
            return
        yield from _secrets_within(found, secret=False)


def _secrets_within(value: Any, *, secret: bool) -> Iterator[str]:
    """The texts below secret fields, at any depth."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _secrets_within(item, secret=secret or is_secret_field(name))
    elif isinstance(value, list):
        for item in value:
            yield from _secrets_within(item, secret=secret)
    elif isinstance(value, str) and secret:
        yield from _parts(value)


def _base64_forms(raw: bytes) -> Iterable[str]:
    """What of `raw` survives in base64 wherever it stands in the encoded text: one core an alignment."""
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + raw).decode()
        head = (0, 2, 3)[shift]
        tail = (0, 3, 2)[(shift + len(raw)) % 3]
        core = encoded[head : len(encoded) - tail]
        if len(core) >= MIN_SEARCHED_CHARS:
            yield core
            yield core.translate(str.maketrans("+/", "-_"))


def _forms(value: str) -> set[str]:
    raw = _raw(value)
    quoted = {quote(raw, safe=safe) for safe in ("", "/", "!'()*~", "!'()*~;,/?:@&=+$#")} | {quote_plus(raw)}
    in_json = json.dumps(value)[1:-1]
    return {
        value,
        *quoted,
        *(re.sub(r"%..", lambda match: match[0].lower(), form) for form in quoted),
        in_json,
        json.dumps(value, ensure_ascii=False)[1:-1],
        json.dumps(in_json)[1:-1],
        repr(value)[1:-1],
        ascii(value)[1:-1],
        # Beside both kinds of quotes Python escapes the single ones.
        repr(f"'\"{value}")[4:-1],
        ascii(f"'\"{value}")[4:-1],
        repr(raw)[2:-1],
        repr(b"'\"" + raw)[5:-1],
        value.replace("'", "''"),
        value.replace("'", "'\"'\"'"),
        html.escape(value),
        raw.decode("latin-1"),  # how servers read, and show, a header that is UTF-8
        *_encodings(raw),
    }


def _encodings(raw: bytes) -> set[str]:
    return {raw.hex(), raw.hex().upper(), *_base64_forms(raw)}


def _raw(value: str) -> bytes:
    return value.encode("utf-8", "surrogateescape" if _is_bytes(value) else "surrogatepass")


def _is_bytes(value: str) -> bool:
    """Whether lone surrogates in a text stand for bytes that are not UTF-8, as in an environment variable."""
    return all("\udc80" <= char <= "\udcff" for char in value if "\ud800" <= char <= "\udfff")


class Redactor:
    """
    Masks the values it was made with, and the password of any URL in a text (`mysql://user:***@host`).

    Args:
        secrets: Secret values. Repeats and empty values are harmless. A value of several lines is also
            searched for line by line (a private key in a log).
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = set(secrets)
        searched = {part for value in known for part in _parts(value) if is_searchable(part)}
        forms = {form for value in searched for form in _forms(value) if len(form) >= MIN_SEARCHED_CHARS}
        ordered = sorted(forms, key=lambda form: (-len(form), form))
        self._pattern = re.compile("|".join(map(re.escape, ordered))) if ordered else None
        encoded = sorted({_raw(form) for form in ordered}, key=lambda form: (-len(form), form))
        self._bytes_pattern = re.compile(b"|".join(map(re.escape, encoded))) if ordered else None
        self.searched_bytes = encoded
        wrapped = [form for value in known if is_searchable(value) for form in _encodings(_raw(value))]
        self.wrapped = WrappedForms(wrapped)
        self.longest_bytes = max([self.wrapped.longest_bytes, *map(len, encoded)])

    def text(self, text: str) -> str:
        """`text` with every searched form masked, and the passwords in URLs."""
        if len(text) < MIN_SEARCHED_CHARS:
            return text
        if self._pattern is not None:
            text = self._pattern.sub(MASK, self.wrapped.text(text, MASK))
        return _URL_PASSWORD.sub(rf"\g<1>{MASK}", text) if "://" in text else text

    def data(self, data: bytes) -> bytes:
        """`data` with every searched form masked, as UTF-8."""
        if self._bytes_pattern is None:
            return data
        return self._bytes_pattern.sub(MASK.encode(), self.wrapped.data(data, MASK.encode()))

    def spans(self, data: bytes) -> list[tuple[int, int]]:
        """Where in `data` something is masked, by where it begins."""
        if self._bytes_pattern is None:
            return []
        return sorted([*(match.span() for match in self._bytes_pattern.finditer(data)), *self.wrapped.spans(data)])

    def value(self, value: Any, field: str | None = None) -> Any:
        """
        A copy of a value with every string masked; JSON-like whatever it was: what is no JSON becomes masked text.

        A value under a field that is secret by its name is masked whole, whatever its type, unless it is a
        reference (`${NAME}`), None or a boolean. Numbers and booleans elsewhere are left as they are.
        """
        return self._value(value, field, 0)

    def texts(self, value: Any) -> Any:
        """Like `value`, by content only: for structures whose keys are names that users chose, and not fields."""
        return self._value(value, None, 0, by_field=False)

    def _value(self, value: Any, field: str | None, depth: int, *, by_field: bool = True) -> Any:
        if field is not None and is_secret_field(field) and value is not None and not isinstance(value, bool):
            return value if isinstance(value, str) and _PLACEHOLDER.fullmatch(value) else MASK
        if isinstance(value, str):
            return self.text(value)
        if value is None or isinstance(value, (bool, int, float)):
            return value
        if depth >= MAX_DEPTH:
            return "…"
        if isinstance(value, Mapping):
            found = {}
            for key, item in value.items():
                name = key if isinstance(key, str) else _as_text(key)
                found[self.text(name)] = self._value(item, name if by_field else None, depth + 1, by_field=by_field)
            return found
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self._value(item, None, depth + 1, by_field=by_field) for item in value]
        if isinstance(value, (bytes, bytearray, memoryview)):
            return self.data(bytes(value)).decode("utf-8", "replace")
        if isinstance(value, numbers.Integral):
            return int(value)
        return self.text(_as_text(value))

    def stream(self) -> StreamRedactor:
        """A redactor for bytes that arrive in pieces."""
        return StreamRedactor(self)


class StreamRedactor:
    """
    Masks a byte stream cut anywhere: a secret across two pieces is found, and nothing is held back but what may be
    the beginning of one.

    Feeds may be of any size; the pieces returned by `feed` and `finish`, joined, are the masked stream.
    """

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._held = b""
        self._keep = max(0, redactor.longest_bytes - 1)
        self._forms = sorted(redactor.searched_bytes)
        self._first_bytes = {form[0] for form in self._forms} | redactor.wrapped.first_bytes

    @property
    def held_bytes(self) -> int:
        """How much of what was fed is held back."""
        return len(self._held)

    def feed(self, data: bytes) -> bytes:
        if not self._keep:
            return data
        joined = self._held + data
        cut = self._next_beginning(joined, max(0, len(joined) - self._keep))
        for start, end in self._redactor.spans(joined):
            if start >= cut:
                break
            if end > cut:  # what seemed to begin there is in the middle of another one
                cut = self._next_beginning(joined, end)
        self._held = joined[cut:]
        return self._redactor.data(joined[:cut])

    def _next_beginning(self, data: bytes, start: int) -> int:
        """From where on the rest of `data` may be the beginning of a secret; its length when nowhere."""
        for at in range(start, len(data)):
            if data[at] in self._first_bytes:
                rest = data[at:]
                nearest = bisect_left(self._forms, rest)
                if nearest < len(self._forms) and self._forms[nearest].startswith(rest):
                    return at
                if self._redactor.wrapped.may_begin(rest):
                    return at
        return len(data)

    def finish(self) -> bytes:
        held, self._held = self._held, b""
        return self._redactor.data(held)


def _as_text(value: object) -> str:
    try:
        return str(value)
    except Exception as exc:  # noqa: BLE001 - an object of the user's whose __str__ fails must not fail the report
        return f"<{type(value).__name__} whose text cannot be had: {type(exc).__name__}>"
