r"""
`${NAME}`, `${NAME:-default}` and filters (`${DAY|shift:+1d|strftime:%Y%m%d}`) in the texts of a configuration file.

A default may hold expressions of its own, and braces that match. `$${` is a literal `${`. A `|` in a default is a text
unless the name of a filter follows; `\|` is one in any case. Nothing here knows types: whoever reads the field does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from osiris_core.configurations.filters import FILTERS, FilterError, apply_filters
from osiris_core.redaction import is_secret_field
from osiris_core.secrets import escape
from osiris_core.suggestion import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FILTER = re.compile(r"\|\s*(?P<name>[A-Za-z_]+)\s*(?=[:|}])")


class ExpressionError(ValueError):
    """An expression that cannot be read or has no value; `hint` says what to do about it."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True)
class Expression:
    """One `${…}`."""

    name: str
    default: tuple[str | Expression, ...] | None = None
    filters: tuple[tuple[str, str], ...] = ()


def parse(text: str) -> tuple[str | Expression, ...]:
    """
    The literal texts and expressions that `text` is made of, escapes undone.

    Raises:
        ExpressionError: What begins with `${` is none, or names a filter that there is not.
    """
    return _Scanner(text).parts(inside=False)


def expand(text: str, values: Mapping[str, str]) -> str:
    """
    `text` with every expression replaced by its value. An empty variable counts as unset where there is a default.

    Raises:
        ExpressionError: It cannot be read, a name has neither value nor default, or a filter does not fit.
    """
    return "".join(part if isinstance(part, str) else _value(part, values) for part in parse(text))


def keep_names(text: str, values: Mapping[str, str]) -> str:
    """
    `text` in which a variable that is set stays `${NAME}`: what is written down then holds the name, not the value.

    Only such plain references are left in it, as `osiris_core.secrets.substitute` reads them; defaults are decided.
    Raises as `expand` does.
    """
    return "".join(escape(part) if isinstance(part, str) else _kept(part, values) for part in parse(text))


def names_in(parts: tuple[str | Expression, ...]) -> Iterator[str]:
    """Every name that parsed text refers to, those in defaults too."""
    for part in parts:
        if isinstance(part, Expression):
            yield part.name
            yield from names_in(part.default or ())


def secret_in(parts: tuple[str | Expression, ...]) -> str | None:
    """The first name in parsed text that is a secret's by custom; None for none."""
    return next((name for name in names_in(parts) if is_secret_field(name)), None)


def _value(expression: Expression, values: Mapping[str, str]) -> str:
    found = _found(expression, values)
    if found is None:
        found = "".join(part if isinstance(part, str) else _value(part, values) for part in expression.default or ())
    if not expression.filters:
        return found
    try:
        return apply_filters(found, expression.filters)
    except FilterError as exc:
        raise ExpressionError(f"${{{expression.name}}}: {exc}") from None


def _kept(expression: Expression, values: Mapping[str, str]) -> str:
    if expression.filters:
        if secret := secret_in((expression,)):
            raise ExpressionError(f"{secret} is a secret by its name, and stays one: no filter can look at it")
        return escape(_value(expression, values))
    if _found(expression, values) is not None:
        return f"${{{expression.name}}}"
    return "".join(escape(part) if isinstance(part, str) else _kept(part, values) for part in expression.default or ())


def _found(expression: Expression, values: Mapping[str, str]) -> str | None:
    """The variable's value; None where the default counts."""
    found = values.get(expression.name)
    if found or (found == "" and expression.default is None):
        return found
    if expression.default is None:
        name = expression.name
        raise ExpressionError(f"the variable {name} is not set", f"export it, or write ${{{name}:-default}}")
    return None


class _Scanner:
    """Reads one text from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def parts(self, *, inside: bool) -> tuple[str | Expression, ...]:
        """Up to the end; `inside` of a default, up to its `}` or filter."""
        found: list[str | Expression] = []
        literal: list[str] = []
        text, braces = self._text, 0
        while self._at < len(text):
            if text.startswith("$${", self._at):
                literal.append("${")
                self._at += 3
            elif text.startswith("${", self._at):
                found += ["".join(literal), self._expression()]
                literal = []
            elif inside and text[self._at] == "}" and not braces:
                break
            elif inside and text.startswith("\\|", self._at):
                literal.append("|")
                self._at += 2
            elif inside and text[self._at] == "|" and self._filter_follows():
                break
            else:
                braces += (text[self._at] == "{") - (text[self._at] == "}")
                literal.append(text[self._at])
                self._at += 1
        return tuple(part for part in (*found, "".join(literal)) if part != "")

    def _expression(self) -> Expression:
        start = self._at
        name = _NAME.match(self._text, start + 2)
        if name is None:
            self._refuse(start)
        self._at = name.end()
        default = None
        if self._text.startswith(":-", self._at):
            self._at += 2
            default = self.parts(inside=True)
        filters = []
        while self._text.startswith("|", self._at):
            filters.append(self._filter(start))
        if not self._text.startswith("}", self._at):
            self._refuse(start)
        self._at += 1
        return Expression(name[0], default, tuple(filters))

    def _refuse(self, start: int) -> NoReturn:
        shown = self._text[start : start + 40]
        hint = "write ${NAME}, ${NAME:-default} or ${NAME|filter}; $${ for a text that begins with ${"
        raise ExpressionError(f"{shown!r} is no expression", hint)

    def _filter_follows(self) -> bool:
        """Whether the `|` here begins a filter; in a default everything else is a text."""
        match = _FILTER.match(self._text, self._at)
        if match is None or match["name"] in FILTERS:
            return match is not None
        if nearest := did_you_mean(match["name"], FILTERS):
            raise ExpressionError(f"there is no filter {match['name']!r}", rf"{nearest} write \| for a text")
        return False

    def _filter(self, start: int) -> tuple[str, str]:
        match = _FILTER.match(self._text, self._at)
        if match is None:
            self._refuse(start)
        name = match["name"]
        if name not in FILTERS:
            hint = did_you_mean(name, FILTERS) or f"known: {', '.join(sorted(FILTERS))}"
            raise ExpressionError(f"there is no filter {name!r}", hint)
        self._at = match.end()
        argument: list[str] = []
        if self._text.startswith(":", self._at):
            self._at += 1
            while self._at < len(self._text) and self._text[self._at] not in "|}":
                self._at += self._text.startswith("\\|", self._at)
                argument.append(self._text[self._at])
                self._at += 1
        return name, "".join(argument).strip()
