"""What a GraphQL document does, as far as has to be known before it is sent. Does no I/O."""

from __future__ import annotations

import re

_TOKENS = re.compile(
    r'"""(?:\\"""|[\s\S])*?(?:"""|$)'  # texts and comments, in which nothing means anything
    r'|"(?:\\.|[^"\\\n])*"?'
    r"|\#[^\n\r]*"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<open>[({\[])|(?P<close>[)}\]])"
)


def operations(document: str) -> list[str]:
    """How its definitions begin: `query`, `mutation`, `subscription`, `fragment`; `{` alone is a `query`."""
    found: list[str] = []
    depth, begins = 0, True
    for token in _TOKENS.finditer(document):
        if token["open"]:
            if begins and depth == 0:
                found.append("query")
                begins = False
            depth += 1
        elif token["close"]:
            depth -= 1
            begins = begins or (depth == 0 and token["close"] == "}")
        elif token["name"] and begins and depth == 0:
            found.append(token["name"])
            begins = False
    return found
