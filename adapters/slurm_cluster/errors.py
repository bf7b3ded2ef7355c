"""What Slurm's commands say when they refuse, with whose fault it is and what to do about it."""

from __future__ import annotations

import re

from osiris_core.errors import FailureClass
from remote.sandbox import SandboxError

USER, DENIED, LOST = FailureClass.USER_ERROR, FailureClass.RESOURCE_DENIED, FailureClass.INFRA_LOST

REFUSALS: tuple[tuple[str, FailureClass, str], ...] = (
    (r"invalid partition", USER, "set `partition` to one that `sinfo -s` lists"),
    (r"Invalid account", USER, "set `account` and `partition` as `sacctmgr show associations user=$USER` lists them"),
    (r"Invalid qos", USER, "set `qos` to one that `sacctmgr show associations user=$USER format=qos` lists"),
    (r"reservation is invalid|Access denied to requested reservation", USER, "`scontrol show reservation` lists them"),
    (r"Invalid feature specification", USER, "set `constraint` to features that `sinfo -o '%N %f'` lists"),
    (r"Invalid generic resource", USER, "set `gres` to resources that `sinfo -o '%N %G'` lists"),
    (
        r"Invalid job array specification",
        USER,
        "lower `array_size`: the site allows fewer, `scontrol show config | grep MaxArraySize` says how many",
    ),
    (r"Invalid --time|time limit is invalid", DENIED, "lower `time_limit`; `sinfo -o '%P %l'` shows what is allowed"),
    (
        r"accounting/QOS policy|MaxSubmitJob|job submit limit|AssocMax|QOSMax|AssocGrp|QOSGrp",
        DENIED,
        "a limit of the account or QOS is reached: wait for other jobs of yours, ask for less, or for another `qos`",
    ),
    (
        r"node configuration is not available|Memory specification can not be satisfied|More processors requested"
        r"|node count specification invalid|CPU count specification invalid|count per node can not be satisfied",
        DENIED,
        "no node is that large: lower `nodes`, `cpus_per_task` or `mem`; `sinfo -o '%P %D %c %m'` shows what there is",
    ),
    (r"Access/permission denied|not permitted to use this partition", DENIED, "ask the site for access"),
    (r"option|Usage:|unrecognized", USER, "look at `additional_options`, and at `osiris plan --show-script`"),
)
TRANSIENT = re.compile(
    r"Unable to contact slurm controller|Socket timed out|Connection (refused|reset|timed out)|Zero Bytes|try again"
    r"|temporarily unable|Transport endpoint|Resource temporarily unavailable|Slurm backup controller in standby"
    r"|Unexpected message received|Communication connection failure|Insane message length",
    re.IGNORECASE,
)
"""Answers after which nobody knows whether the controller did what it was asked to."""
_NO_LIBRARY = re.compile(r"munge|authentication|credential", re.IGNORECASE)
_UNKNOWN_JOB = re.compile(r"Invalid job id|Job \S+ not found|Job/step already completing or completed", re.IGNORECASE)


class ControllerSilent(SandboxError):
    """Slurm's controller did not answer; what it did of what it was asked is not known."""


class ToolMissing(SandboxError):
    """A command of Slurm's is not on this machine."""

    failure_class = FailureClass.USER_ERROR

    def __init__(self, tool: str) -> None:
        super().__init__(
            f"{tool} is not in PATH: run this on a machine where Slurm's commands are (a login node), or load the "
            "site's module for them"
        )


def refusal(what: str, said: str) -> SandboxError:
    """The error for a command that failed; `what` it was for, and what it `said`."""
    words = last_words(said)
    if TRANSIENT.search(said):
        return ControllerSilent(
            f"{what}: Slurm's controller does not answer: {words} (`scontrol ping` tells whether it is up; try again)"
        )
    for pattern, failure_class, remedy in REFUSALS:
        if re.search(pattern, said, re.IGNORECASE):
            return SandboxError(f"{what}: {words} ({remedy})", failure_class=failure_class)
    if _NO_LIBRARY.search(said):
        return SandboxError(f"{what}: {words} (is munged running here, with the cluster's key?)", failure_class=LOST)
    return SandboxError(f"{what}: {words}", failure_class=LOST)


def is_unknown_job(said: str) -> bool:
    """Whether the controller answered that it does not know the job (any more)."""
    return _UNKNOWN_JOB.search(said) is not None


def last_words(said: str) -> str:
    """What a command said, as one line without its name."""
    lines = [re.sub(r"^(sbatch|squeue|scancel|scontrol|srun|salloc|slurm_\w+)( error)?: ?(error: )?", "", line.strip())
             for line in said.splitlines() if line.strip()]  # fmt: skip
    return "; ".join(dict.fromkeys(lines)) or "it gave no reason"
