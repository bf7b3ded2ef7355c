"""
`osiris_connections.yaml`: named connections, so that a manifest says `@mysql.billing` and holds no credentials.

Format as Osiris has it: `connections: {family: {alias: {default: true, host: "${HOST}", …}}}`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osiris_core.documents import Document, read_document
from osiris_core.errors import ManifestError, Problem
from osiris_core.lifting import lift
from osiris_core.suggestion import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

CONNECTIONS_NAME = "osiris_connections.yaml"


class ConnectionBook:
    """
    The connections of one file, as they are written: references like `${VAR}` are left in place.

    What is secret in a connection is lifted out (`lifting.py`): it then refers to the value by the name
    `@family.alias.field`, and `lifted` holds it in memory.
    """

    def __init__(self, document: Document | None = None) -> None:
        self.file = document.file if document else None
        self.lifted: dict[str, str] = {}
        self._document = document
        data = document.data if document else {}
        problems = list(_format_problems(document)) if document else []
        if problems:
            raise ManifestError(problems)
        self._families: dict[str, dict[str, dict[str, Any]]] = (data or {}).get("connections") or {}

    @classmethod
    def find(cls, explicit: str | Path | None, base_dir: Path) -> ConnectionBook:
        """
        The book in the named file; else the first `osiris_connections.yaml` of `$OSIRIS_HOME`, the manifest's
        folder, the working directory and its parent; else an empty book.

        Raises:
            ManifestError: The file is missing (when it was named) or not well formed.
        """
        if explicit is not None:
            return cls(read_document(Path(explicit)))
        home, here = os.environ.get("OSIRIS_HOME"), os.getcwd()  # noqa: PTH109 - as text: every run looks
        for folder in [*([home] if home else []), str(base_dir), here, os.path.dirname(here)]:  # noqa: PTH120
            if os.path.isfile(f"{folder}/{CONNECTIONS_NAME}"):  # noqa: PTH113
                return cls(read_document(Path(folder, CONNECTIONS_NAME)))
        return cls()

    def names(self) -> list[str]:
        """Every `@family.alias`, sorted."""
        return sorted(f"@{family}.{alias}" for family, aliases in self._families.items() for alias in aliases)

    def get(self, reference: str, marked: Collection[str] = ()) -> dict[str, Any]:
        """
        The connection that `@family.alias` or `@family` (its default) names, without its `default` mark. The fields
        in `marked` are secret whatever they are called.

        Raises:
            LookupError: There is none, with the nearest that exists.
        """
        family, alias = self._place(reference)
        aliases = self._families[family]
        values = {key: value for key, value in aliases[alias].items() if key != "default"}
        return lift(values, f"@{family}.{alias}", marked, self.lifted)

    def line_of(self, reference: str, path: Sequence[str | int] = ()) -> int | None:
        """The line on which a connection stands, or what is at `path` in it; None where there is no such connection."""
        try:
            place = self._place(reference)
        except LookupError:
            return None
        return self._document.line_of(["connections", *place, *path]) if self._document is not None else None

    def _place(self, reference: str) -> tuple[str, str]:
        family, _, alias = reference.removeprefix("@").partition(".")
        aliases = self._families.get(family)
        if aliases is None:
            place = f" in {self.file}" if self.file else ": there is no osiris_connections.yaml"
            hint = did_you_mean(family, self._families)
            if not family:
                raise LookupError(f"'{reference}' names no connection; write '@family.alias'")
            raise LookupError(f"no connection family '{family}'{place}{f' ({hint})' if hint else ''}")
        alias = alias or self._default(family, aliases)
        if alias not in aliases:
            known = ", ".join(sorted(aliases))
            hint = did_you_mean(alias, aliases) or f"known: {known}"
            raise LookupError(f"no connection '@{family}.{alias}' in {self.file} ({hint})")
        return family, alias

    def _default(self, family: str, aliases: dict[str, dict[str, Any]]) -> str:
        marked = [alias for alias, values in aliases.items() if values.get("default") is True]
        if len(marked) == 1:
            return marked[0]
        if not marked and "default" in aliases:
            return "default"
        if len(marked) > 1:
            raise LookupError(f"connection family '{family}' has more than one default: {', '.join(marked)}")
        raise LookupError(f"connection family '{family}' has no default; name one: {', '.join(sorted(aliases))}")


def _format_problems(document: Document) -> Iterator[Problem]:
    def problem(message: str, *path: str | int) -> Problem:
        key = ".".join(map(str, path)) or None
        return Problem(message, key=key, file=document.file, line=document.line_of(path))

    data = document.data
    if not isinstance(data, dict) or not isinstance(data.get("connections", {}), (dict, type(None))):
        yield problem("a connections file is a mapping with 'connections'")
        return
    for key in data:
        if key not in ("version", "connections"):
            yield problem("there is no such key", str(key))
    for family, aliases in (data.get("connections") or {}).items():
        if not isinstance(family, str) or not isinstance(aliases, dict):
            yield problem("a family is a mapping of aliases", "connections", family)
            continue
        for alias, values in aliases.items():
            if not isinstance(alias, str):
                yield problem("an alias is a text; write it in quotes", "connections", family, alias)
            elif not isinstance(values, dict):
                yield problem("a connection is a mapping", "connections", family, alias)
