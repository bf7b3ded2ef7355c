"""Slurm's commands, run with lists of arguments and an environment made anew; never through a shell."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adapters.slurm_cluster.errors import ControllerSilent, ToolMissing
from osiris_core.context import SURROUNDINGS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ANSWER_LIMIT_S = 60.0
"""How long a command may take: it repeats its own question for a while when the controller is slow."""
_PASSED_ON = ("PATH", "HOME", "USER", "LOGNAME", "SLURM_CONF", "SLURM_CLUSTERS", "XDG_RUNTIME_DIR")


@dataclass(frozen=True)
class Answer:
    """What a command gave back."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        return f"{self.err}\n{self.out}" if self.code else self.out


def tool_environment() -> dict[str, str]:
    """
    What a command of Slurm's sees, and with it the job that sbatch makes (`--export=ALL` of this, and of nothing else).

    Names alone (`--export=NAME`) would make each node run the user's login shell first, which takes seconds on some
    sites and puts jobs on hold where it fails.
    """
    return {name: os.environ[name] for name in _PASSED_ON if name in os.environ} | SURROUNDINGS


def run_tool(
    argv: Sequence[str], *, variables: Mapping[str, str] | None = None, timeout_s: float = ANSWER_LIMIT_S
) -> Answer:
    """
    The answer of `argv`, whatever its exit code.

    Raises:
        ToolMissing: There is no such command here.
        ControllerSilent: It did not come back within `timeout_s`.
    """
    try:
        done = subprocess.run(
            argv,
            env={**tool_environment(), **(variables or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except FileNotFoundError:
        raise ToolMissing(argv[0]) from None
    except subprocess.TimeoutExpired:
        raise ControllerSilent(f"{argv[0]} did not come back within {timeout_s:g} s") from None
    return Answer(done.returncode, done.stdout, done.stderr)
