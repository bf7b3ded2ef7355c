"""
Hands a command its arguments and variables through its standard input, as pure code.

What a container is made with is shown by `docker inspect` and written to the engine's disk; what comes in here is
not. A fixed script of /bin/sh reads it, and becomes the command: nothing is spliced into it, and nothing evaluated.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SCRIPT = r"""
while IFS= read -r _osiris_line; do
  case $_osiris_line in
    E*) _osiris_text=$(printf '%bx' "${_osiris_line#E}"); export "${_osiris_text%x}" ;;
    A*) _osiris_text=$(printf '%bx' "${_osiris_line#A}"); set -- "$@" "${_osiris_text%x}" ;;
    I) exec "$@" ;;
    N) exec "$@" < /dev/null ;;
  esac
done
exit 125
"""

RECEIVER = ("/bin/sh", "-c", _SCRIPT, "sh")
"""The command of a container that is handed what it runs."""

_PLAIN = re.compile(rb"[^A-Za-z0-9_./=:,@+-]")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def handshake(argv: Sequence[str], environment: Mapping[str, str], *, stdin: bool) -> bytes:
    """
    What the receiver is sent first; after it, with `stdin`, the command's own standard input.

    Raises:
        ValueError: A shell cannot set a variable of that name.
    """
    lines = []
    for name, value in environment.items():
        if not _NAME.fullmatch(name):
            raise ValueError(f"no shell can set a variable of the name {name!r}")
        lines.append(b"E" + _escaped(f"{name}={value}"))
    lines += [b"A" + _escaped(word) for word in argv]
    lines.append(b"I" if stdin else b"N")
    return b"\n".join(lines) + b"\n"


def _escaped(text: str) -> bytes:
    """As `printf %b` reads it."""
    return _PLAIN.sub(lambda match: b"\\0%03o" % match[0][0], text.encode("utf-8", "surrogateescape"))
