"""
The one redactor: no secret value leaves in a text, a structure or a byte stream.

A value is searched for in clear, and in the forms in which error messages and URLs carry it: base64 (all
three alignments, both alphabets), percent-encoding, JSON and Python escapes. A value too short or too common to be
searched for without turning a report into asterisks is masked by the field that it stands in.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Iterable

MASK = "***"
MIN_SEARCHED_CHARS = 6
_COMMON = frozenset(
    [
        "true",
        "false",
        "none",
        "null",
        "default",
        "localhost",
        "127.0.0.1",
        "password",
        "secret",
        "admin",
        "postgres",
        "public",
        "production",
        "staging",
        "development",
        "testing",
        "latest",
        "example",
        "username",
        "private",
    ]
)
_SECRET_WORDS = re.compile(
    r"(?:^|[_\-.])(?:password|passwd|passphrase|pwd|secret|secrets|token|api_?key|apikey|access_?key|private_?key|"
    r"secret_?key|service_role_key|anon_?key|credential|credentials|authorization|auth_token|dsn|key)$",
    re.IGNORECASE,
)
_NOT_SECRET = frozenset({"key", "primary_key", "foreign_key", "sort_key", "partition_key", "resume_key"})


def is_secret_field(name: str) -> bool:
    """Whether a field of this name holds a secret by the customs of the field (`password`, `api_key`, …)."""
    return name.lower() not in _NOT_SECRET and _SECRET_WORDS.search(name) is not None


def _is_searchable(value: str) -> bool:
    return len(value) >= MIN_SEARCHED_CHARS and value.lower() not in _COMMON and not value.isspace()


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
    raw = value.encode("utf-8", "surrogateescape")
    return {
        value,
        quote(value, safe="", errors="replace"),
        quote(value, safe="", errors="replace").lower(),
        quote(value, errors="replace"),
        quote_plus(value, errors="replace"),
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        repr(value)[1:-1],
        value.replace("'", "''"),
        raw.hex(),
        raw.hex().upper(),
        *_base64_forms(raw),
    }


class Redactor:
    """
    Masks the values it was made with; made without any, it hands everything back untouched.

    Args:
        secrets: Secret values. Repeats and empty values are harmless. A value of several lines is also
            searched for line by line (a private key in a log).
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        values = {value for value in secrets if value}
        lines = {line.strip() for value in values if "\n" in value for line in value.splitlines()}
        searched = {value for value in values | lines if _is_searchable(value)}
        forms = {form for value in searched for form in _forms(value) if len(form) >= MIN_SEARCHED_CHARS}
        ordered = sorted(forms, key=lambda form: (-len(form), form))
        self._short = frozenset(value for value in values if not _is_searchable(value))
        self._pattern = re.compile("|".join(map(re.escape, ordered))) if ordered else None
        encoded = [re.escape(form.encode("utf-8", "surrogateescape")) for form in ordered]
        self._bytes_pattern = re.compile(b"|".join(encoded)) if ordered else None
        self.longest_bytes = max((len(form.encode("utf-8", "surrogateescape")) for form in ordered), default=0)

    @property
    def searches(self) -> bool:
        """Whether any value is searched for in running text."""
        return self._pattern is not None

    def text(self, text: str) -> str:
        """`text` with every searched form masked."""
        return self._pattern.sub(MASK, text) if self._pattern is not None else text

    def data(self, data: bytes) -> bytes:
        """`data` with every searched form masked, as UTF-8."""
        return self._bytes_pattern.sub(MASK.encode(), data) if self._bytes_pattern is not None else data

    def value(self, value: Any, field: str | None = None) -> Any:
        """
        A copy of a JSON-like value with every string masked.

        A value under a field that is secret by its name is masked whole, whatever its type; so is a string
        that *is* a short secret. Numbers and booleans elsewhere are left as they are.
        """
        if field is not None and value is not None and is_secret_field(field):
            return value if isinstance(value, str) and _is_placeholder(value) else MASK
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(str(key)): self.value(item, str(key)) for key, item in value.items()}
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self.value(item) for item in value]
        if isinstance(value, bytes):
            return self.data(value).decode("utf-8", "replace")
        return value

    def stream(self) -> StreamRedactor:
        """A redactor for bytes that arrive in pieces."""
        return StreamRedactor(self)


class StreamRedactor:
    """
    Masks a byte stream cut anywhere: a secret across two pieces is found, at most one secret's length is held back.

    Feeds may be of any size; the pieces returned by `feed` and `finish`, joined, are the masked stream.
    """

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._held = b""
        self._keep = max(0, redactor.longest_bytes - 1)

    def feed(self, data: bytes) -> bytes:
        if not self._keep:
            return data
        joined = self._held + data
        # Text before the cut can no longer be the start of a secret, unless a secret spans the cut itself.
        cut = max(0, len(joined) - self._keep)
        for match in self._redactor._bytes_pattern.finditer(joined):  # type: ignore[union-attr]
            if match.start() < cut < match.end():
                cut = match.end()
                break
        self._held = joined[cut:]
        return self._redactor.data(joined[:cut])

    def finish(self) -> bytes:
        held, self._held = self._held, b""
        return self._redactor.data(held)


def _is_placeholder(value: str) -> bool:
    return value.startswith("${") and value.endswith("}")
