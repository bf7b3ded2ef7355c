"""The workers' Python environment on the shared file system, named by the hash of what is in it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from osiris_core.errors import FailureClass
from remote.requirements import required_packages
from remote.sandbox import SandboxError

if TYPE_CHECKING:
    from collections.abc import Callable

    from adapters.slurm_cluster.config import SlurmConfig

ENVIRONMENTS_FOLDER = "environments"
COMPLETE_FILE = "osiris-complete"
CRYPTOGRAPHY = "cryptography>=41"
"""Opens the order of a batch worker."""


def requirements(config: SlurmConfig) -> list[str]:
    """What goes into the environment, as pip takes it."""
    return required_packages([CRYPTOGRAPHY, *config.packages], pinned=False)


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


def set_up(config: SlurmConfig, progress: Callable[[str], None]) -> str | None:
    """
    Make the environment in the shared folder; says what was made, None when it is there.

    Raises:
        SandboxError: It cannot be made, with what pip said.
    """
    folder = environment_dir(config)
    if folder is None:
        message = "there is no shared_dir to make the environment in (set shared_dir)"
        raise SandboxError(message, failure_class=FailureClass.USER_ERROR)
    if config.python is not None:
        progress(f"python is set to {config.python}: workers use that, and no environment is needed")
        return None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with (folder.parent / f"{folder.name}.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # one maker at a time; who waited finds it made
            if (folder / COMPLETE_FILE).exists():
                return None
            shutil.rmtree(folder, ignore_errors=True)
            progress(f"making {folder}")
            _run([sys.executable, "-m", "venv", str(folder)], "a virtual environment cannot be made")
            pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
            progress(f"installing {', '.join(requirements(config))}")
            _run([*pip, *requirements(config)], "the packages cannot be installed")
            (folder / COMPLETE_FILE).write_text("\n".join(requirements(config)) + "\n")
    except OSError as exc:
        message = f"{folder} cannot be made: {exc.strerror} (shared_dir must be yours)"
        raise SandboxError(message, failure_class=FailureClass.RESOURCE_DENIED) from exc
    return f"environment {folder}"


def _run(argv: list[str], what: str) -> None:
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise SandboxError(f"{what}: {said[-1] if said else f'exit code {done.returncode}'}")
