"""The workers' Python environment on the shared file system, named by the hash of what is in it."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from remote.protocol import WORKER_PACKAGES

if TYPE_CHECKING:
    from adapters.slurm_cluster.config import SlurmConfig

ENVIRONMENTS_FOLDER = "environments"
COMPLETE_FILE = "osiris-complete"
CRYPTOGRAPHY = "cryptography>=41"
"""Opens the order of a batch worker."""


def requirements(config: SlurmConfig) -> list[str]:
    """What goes into the environment, as pip takes it."""
    return [*(f"{name}{limits}" for name, limits in sorted(WORKER_PACKAGES.items())), CRYPTOGRAPHY, *config.packages]


def environment_dir(config: SlurmConfig) -> Path | None:
    """Where the environment of a configuration is, or would be; None without a shared folder."""
    if config.shared_dir is None:
        return None
    version = ".".join(map(str, sys.version_info[:2]))
    content = json.dumps([version, sys.base_prefix, requirements(config)])
    tag = hashlib.sha256(content.encode()).hexdigest()[:16]
    return Path(config.shared_dir).expanduser() / ENVIRONMENTS_FOLDER / tag


def worker_python(config: SlurmConfig) -> str:
    """The interpreter that workers are started with."""
    if config.python is not None:
        return config.python
    folder = environment_dir(config)
    if folder is not None and (folder / COMPLETE_FILE).exists():
        return str(folder / "bin" / "python")
    return sys.executable
