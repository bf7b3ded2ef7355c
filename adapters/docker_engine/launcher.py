"""The command line of a model in its image: words, split as a shell would and seen by none."""

from __future__ import annotations

import re
import shlex
from pathlib import PurePosixPath

_SHELLS = frozenset({"sh", "ash", "bash", "dash", "ksh", "zsh"})
_COUNTS = re.compile(r"(?:-n|-np|--n|--np|-c|-N|-npernode|--npernode|-ntasks|--ntasks)(?:=.*)?|-(?:n|np)\d+")
"""How Open MPI, MPICH, Intel MPI and `srun` are told how many processes to start."""


def launcher(mpiexec: str, cpu: float | None) -> list[str]:
    """The words before a program that start it `cpu` times; `-n` is added where `mpiexec` names no count itself."""
    words = shlex.split(mpiexec)
    if not words or any(_COUNTS.fullmatch(word) for word in words[1:]):
        return words
    return [*words, "-n", str(max(1, int(cpu or 1)))]


def program_problem(text: str) -> str | None:
    """Why `text` is no program with its arguments; what only a shell understands would not happen."""
    try:
        words = shlex.split(text)
    except ValueError as exc:
        return f"{text!r} cannot be split into words: {exc}"
    if not words:
        return "it is empty; name a program"
    if PurePosixPath(words[0]).name in _SHELLS:
        return None
    lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    operators = [word for word in lexer if word and set(word) <= set("();<>|&")]
    if operators or "$" in text or "`" in text:
        found = operators[0] if operators else "$" if "$" in text else "`"
        return f"{found!r} means something to a shell, and none sees this; write it as sh -c '...'"
    return None
