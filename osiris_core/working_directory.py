"""The working directory, which somebody may have removed."""

from __future__ import annotations

from pathlib import Path

from osiris_core.errors import PreparationError, Problem


def working_directory() -> Path:
    """
    Where relative paths start.

    Raises:
        PreparationError: It was removed.
    """
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise PreparationError([Problem("the working directory is gone", hint="go to one that is there")]) from None
