"""What is wrong with a run on Slurm before anything is submitted."""

from __future__ import annotations

import os
import shutil
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.slurm_cluster.tools import run_tool
from osiris_core.errors import Problem
from osiris_core.suggestion import did_you_mean
from remote.sandbox import SandboxError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adapters.slurm_cluster.config import SlurmConfig

TOOLS = {"interactive": ("srun", "squeue", "scontrol", "scancel")}
BATCH_TOOLS = ("sbatch", "squeue", "scontrol", "scancel")
LOOK_LIMIT_S = 20.0


def missing_tools(config: SlurmConfig) -> list[str]:
    return [tool for tool in TOOLS.get(config.mode, BATCH_TOOLS) if shutil.which(tool) is None]


class Partitions:
    """What partitions there are, hidden ones too. Thread-safe; asked for once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._names: list[str] = []

    def names(self) -> list[str]:
        """All of them; empty where Slurm does not say."""
        with self._lock:
            if not self._names:
                try:
                    answer = run_tool(["sinfo", "--noheader", "--all", "--format=%R"], timeout_s=LOOK_LIMIT_S)
                except SandboxError:
                    return []  # the controller may be back when the job is submitted
                self._names = sorted(set(answer.out.split())) if answer.code == 0 else []
            return self._names


def problems(config: SlurmConfig, python: str, timeout_s: float | None, partitions: Partitions) -> Iterator[Problem]:
    """Everything that can be told from here; asks Slurm, changes nothing."""
    yield from _shared_dir(config)
    if config.mode != "interactive" and find_spec("cryptography") is None:
        message = "cryptography is not installed: it seals what a job is told"
        yield Problem(message, key="slurm", hint="pip install 'osiris-core[slurm]'")
    if config.mode == "pilot" and timeout_s is not None and timeout_s > config.pilot_takes_s:
        message = f"a run of up to {timeout_s:g} s does not fit into a pilot of {config.time_limit}"
        yield Problem(message, key="slurm.time_limit", hint="raise it, or lower the run's timeout or drain_s")
    if missing := missing_tools(config):
        message = f"{', '.join(missing)}: not in PATH"
        yield Problem(message, key="slurm", hint="run this where Slurm's commands are, or load the site's module")
    else:
        yield from _partition(config, partitions.names() if config.goes_to is not None else [])
    clusters = os.environ.get("SLURM_CLUSTERS", "")
    if "," in clusters or clusters == "all":
        message = f"SLURM_CLUSTERS names several clusters ({clusters}): a job would be looked for on the wrong one"
        yield Problem(message, key="slurm", hint="set it to one")
    if not Path(python).is_absolute():
        yield Problem(f"{python!r} is no absolute path", key="slurm.python", hint="name it as the nodes see it")


def _shared_dir(config: SlurmConfig) -> Iterator[Problem]:
    if config.mode == "interactive" or config.runs_in_workspace:
        return
    if config.shared_dir is None:
        message = f"mode {config.mode} needs a folder that this machine and every node see, for package and results"
        hint = "set shared_dir; where there is no shared file system, mode interactive sends all through srun"
        yield Problem(message, key="slurm.shared_dir", hint=hint)
        return
    folder = Path(config.shared_dir).expanduser()
    if not folder.is_absolute():
        yield Problem(f"{config.shared_dir!r} is no absolute path", key="slurm.shared_dir", hint="nodes must find it")
        return
    nearest = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        yield Problem(f"{nearest} cannot be written", key="slurm.shared_dir", hint="name a folder of yours")


def _partition(config: SlurmConfig, known: list[str]) -> Iterator[Problem]:
    if config.goes_to is not None and known:
        key = "slurm.partition" if config.partition is not None else "slurm.queue"
        for name in config.goes_to.split(","):
            if name not in known:
                hint = did_you_mean(name, known) or f"known: {', '.join(known)}"
                yield Problem(f"there is no partition '{name}'", key=key, hint=hint)
