"""
Where a `${NAME}` gets its value: the environment, then the operating system's keyring.

In the keyring the value is what the service `osiris` has for the user `NAME` (`keyring set osiris NAME`). Only names
that the environment lacks are asked for there, and only where the extra `keyring` is installed.
"""

from __future__ import annotations

import os
from importlib.util import find_spec

KEYRING_SERVICE = "osiris"


def find_value(name: str) -> str | None:
    """The value of a name as it is now, asked anew each time; None where no source has it. Empty counts as none."""
    return os.environ.get(name) or _in_keyring(name)


def how_to_give(name: str, *, to_run: bool = True) -> str:
    """What to do so that a name has a value; `to_run`: for a command that takes `--env`."""
    ways = ["export it", *([f"pass --env {name}"] if to_run else [])]
    if find_spec("keyring") is not None:
        ways.append(f"keyring set {KEYRING_SERVICE} {name}")
    return " or ".join(ways)


def _in_keyring(name: str) -> str | None:
    if find_spec("keyring") is None:
        return None
    import keyring
    from keyring.errors import KeyringError

    try:
        return keyring.get_password(KEYRING_SERVICE, name) or None
    except KeyringError:  # there is none, or it is locked and nobody is there to open it
        return None
