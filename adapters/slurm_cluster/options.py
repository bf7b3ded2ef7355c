"""The options of `sbatch`, as a list of arguments: what a value holds is never looked at by a shell."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.slurm_cluster.more_options import option_word

if TYPE_CHECKING:
    from adapters.slurm_cluster.config import SlurmConfig

COMMENT_PREFIX = "osiris:"
TOKEN_PLACE = "<token>"  # noqa: S105 - stands for one
FOLDER_PLACE = "<the run's folder>"
JOB_OUTPUT = "job.out"
_MAX_NAME_CHARS = 60


def resource_options(config: SlurmConfig) -> list[str]:
    """What the configuration asks for."""
    asked = {
        "partition": config.goes_to,
        "nodes": 1 if config.mode == "pilot" else config.nodes,
        "ntasks": config.ntasks,
        "cpus-per-task": config.cpus_per_task,
        "mem": config.mem,
        "time": config.time_limit,
        "account": config.account,
        "qos": config.qos,
        "reservation": config.reservation,
        "gres": config.gres,
        "constraint": config.constraint,
        "mail-type": config.mail_type,
        "mail-user": config.mail_user,
    }
    options = [f"--{name}={value}" for name, value in asked.items() if value is not None]
    if config.exclusive:
        options.append("--exclusive")
    return [*options, *map(option_word, config.additional_options)]


def batch_options(config: SlurmConfig, name: str, token: str, folder: str) -> list[str]:
    """All options of one submission, and what is the same for every one."""
    output = config.output_file or str(Path(folder, JOB_OUTPUT))
    files = [f"--output={_as_it_is(output, config.output_file)}"]
    if config.mode == "pilot" and config.output_file is None:
        files = [f"--output={_as_it_is(folder, None)}/%j.out"]
    if config.error_file is not None:
        files.append(f"--error={_as_it_is(config.error_file, config.error_file)}")
    return [
        *resource_options(config),
        # Runs of a pilot that is lost go to another one.
        "--requeue" if config.requeue and config.mode != "pilot" else "--no-requeue",
        f"--job-name={job_name(config, name)}",
        f"--comment={COMMENT_PREFIX}{token}",
        *files,
        "--open-mode=append",
        "--input=/dev/null",
        "--chdir=/",
        "--export=ALL",  # of an environment made anew for it; see `tools.py`
        "--parsable",
    ]


def job_name(config: SlurmConfig, name: str) -> str:
    """What people see in `squeue`."""
    return config.job_name or re.sub(r"[\x00-\x1f]", " ", f"osiris-{name}")[:_MAX_NAME_CHARS]


def _as_it_is(path: str, users: str | None) -> str:
    """A path from here on; a user's may hold Slurm's patterns (%j), one of ours holds none."""
    return str(Path(path).absolute()) if users is not None else path.replace("%", "%%")
