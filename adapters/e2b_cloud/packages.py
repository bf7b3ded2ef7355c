"""The worker's packages in a sandbox whose template does not have them: installed for this one run."""

from __future__ import annotations

import json
from shlex import quote
from typing import TYPE_CHECKING

from remote.protocol import WORKER_PACKAGES
from remote.requirements import required_packages

if TYPE_CHECKING:
    from collections.abc import Iterable

FOUND = "osiris-python="
"""How the line begins that names the interpreter."""
INSTALL_LIMIT_S = 900.0
NO_PYTHON = 41
NO_VENV = 42

# What is there is used: its names and versions are looked at as a host looks at `hello`.
_LOOK = """\
import json,re,sys
from importlib import metadata
def numbers(text):
 return [int(part) for part in re.match(r'\\d+(\\.\\d+)*',text)[0].split('.')]
for name,limits in json.loads(sys.argv[1]).items():
 has=numbers(metadata.version(name))
 for limit in limits.split(','):
  bound=numbers(limit.lstrip('<>='))
  if limit[0]=='>' and has<bound or limit[0]=='<' and has[:len(bound)]>=bound:
   sys.exit(1)
sys.exit(sys.version_info<(3,11))
"""


def install_command(folder: str, extra: Iterable[str]) -> str:
    """
    A shell command that has the packages in a Python of the sandbox's and says which; it installs what is missing.

    Args:
        folder: Where an environment is made for them, in the sandbox.
        extra: Further requirements.
    """
    extra = tuple(extra)
    wanted = " ".join(map(quote, required_packages(extra)))
    look = "false" if extra else f'"$python" -I -c {quote(_LOOK)} {quote(json.dumps(WORKER_PACKAGES))} 2>/dev/null'
    return (
        f"python=$(command -v python3) || exit {NO_PYTHON}; "
        f'if {look}; then echo "{FOUND}$python"; exit 0; fi; '
        f"\"$python\" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || exit {NO_PYTHON}; "
        f"place={quote(folder)}; "
        f'case "$place" in /*) ;; *) place="$HOME/$place" ;; esac; '
        f'"$python" -m venv "$place" >&2 || exit {NO_VENV}; '
        f'"$place/bin/python" -m pip install --quiet --no-input --disable-pip-version-check {wanted} >&2 && '
        f'echo "{FOUND}$place/bin/python"'
    )


def why_not(exit_code: int, template: str, said: str) -> str:
    """Why the packages are not there, in a sentence with what to do."""
    remedy = "build a template that has them: osiris adapters setup e2b"
    if exit_code == NO_PYTHON:
        return f"template {template} has no Python 3.11 or later; {remedy}"
    if exit_code == NO_VENV:
        return f"template {template} has a Python that cannot make environments; {remedy}"
    last = said.strip().rpartition("\n")[2]
    return f"pip could not install the worker's packages in the sandbox (exit code {exit_code}: {last}); {remedy}"
