"""Every state that Slurm has for a job, and what it means for a run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from osiris_core.errors import FailureClass


class Stage(StrEnum):
    """Where a job is on its way."""

    QUEUED = "queued"
    RUNNING = "running"
    ENDING = "ending"
    ENDED = "ended"


FORGOTTEN = "FORGOTTEN"
"""No state of Slurm's: it answers that it does not know the job (any more)."""
_ENDS: dict[str, tuple[FailureClass | None, str]] = {
    "COMPLETED": (None, ""),
    "FAILED": (FailureClass.INFRA_LOST, "it failed"),
    "CANCELLED": (FailureClass.CANCELLED, "it was cancelled outside of this run (scancel)"),
    "TIMEOUT": (FailureClass.TIMEOUT, "it reached its time limit (raise time_limit)"),
    "DEADLINE": (FailureClass.TIMEOUT, "it could not end before its deadline"),
    "OUT_OF_MEMORY": (FailureClass.OUT_OF_MEMORY, "it used more memory than it was given (raise mem)"),
    "NODE_FAIL": (FailureClass.INFRA_LOST, "its node was lost"),
    "BOOT_FAIL": (FailureClass.INFRA_LOST, "its node did not come up"),
    "LAUNCH_FAILED": (FailureClass.INFRA_LOST, "it could not be launched"),
    "RECONFIG_FAIL": (FailureClass.INFRA_LOST, "its node could not be set up"),
    "PREEMPTED": (FailureClass.PREEMPTED, "it had to make room for another job"),
    "REVOKED": (FailureClass.INFRA_LOST, "another cluster took it"),
    FORGOTTEN: (FailureClass.INFRA_LOST, "Slurm does not know it any more, and nothing is heard of its worker"),
}
_QUEUED = "PENDING CONFIGURING REQUEUED REQUEUE_FED REQUEUE_HOLD SPECIAL_EXIT RESV_DEL_HOLD POWER_UP_NODE"
_RUNNING = "RUNNING SUSPENDED STOPPED SIGNALING RESIZING UPDATE_DB EXPEDITING"
_STAGES: dict[str, Stage] = {
    **dict.fromkeys(_QUEUED.split(), Stage.QUEUED),
    **dict.fromkeys(_RUNNING.split(), Stage.RUNNING),
    **dict.fromkeys(("COMPLETING", "STAGE_OUT"), Stage.ENDING),
    **dict.fromkeys(_ENDS, Stage.ENDED),
}
_NEVER = re.compile(
    r"PartitionTimeLimit|PartitionNodeLimit|PartitionConfig|BadConstraints|DependencyNeverSatisfied|ReservationDeleted"
    r"|InvalidAccount|InvalidQOS|AccountNotAllowed|QOSNotAllowed|JobArrayTaskLimitZero|JobHoldMaxRequeue"
    r"|launch failed|requeued held|user env retrieval|QOSMin\w+"
    r"|(Assoc|QOS)(Max|Min)\w*(PerJob\w*|WallDurationPerJob\w*)(Limit)?",
    re.IGNORECASE,
)
_HELD = re.compile(r"held|JobHold|launch failed|user env", re.IGNORECASE)
_RELEASED_BY_HAND = ("JobHeldAdmin", "JobHeldUser")
NO_OUTPUT_FILE = 53
"""The signal that Slurm shows for a job whose output file its node could not open."""


@dataclass(frozen=True)
class JobState:
    """What one answer of Slurm's said of a job."""

    state: str
    reason: str = ""
    exit_code: int = 0
    signal: int = 0
    restarts: int = 0
    nodes: str = ""
    ends_s: float | None = None
    """When one that runs has used up its time, in seconds of the epoch."""

    @property
    def stage(self) -> Stage:
        """A state that is not known here is one of a newer Slurm's: the job counts as running."""
        return _STAGES.get(self.state, Stage.RUNNING)

    @property
    def never(self) -> str | None:
        """Why a job that waits will do so for ever, in Slurm's own word; None when its turn may come."""
        if self.stage is not Stage.QUEUED or not _NEVER.search(self.reason):
            return None
        return self.reason

    @property
    def is_held(self) -> bool:
        """Whether it waits for somebody to let it go."""
        return self.stage is Stage.QUEUED and self.reason in _RELEASED_BY_HAND

    @property
    def failure_class(self) -> FailureClass | None:
        """Whose fault the end was; None when it was none, or there is none yet."""
        if self.signal == NO_OUTPUT_FILE:
            return FailureClass.USER_ERROR
        return _ENDS.get(self.state, (None, ""))[0]

    def told(self, job_id: str) -> str:
        """The end of a job in words; empty for one that completed."""
        where = f" on {self.nodes}" if self.nodes else ""
        if self.signal == NO_OUTPUT_FILE:
            return (
                f"job {job_id} ended at once{where}: the node cannot write where the job's output goes "
                "(shared_dir must be a folder that every node sees under the same path)"
            )
        words = _ENDS.get(self.state, (None, ""))[1]
        if not words:
            return ""
        reason = f"; Slurm's reason: {self.reason}" if self.reason not in ("", "None", "NonZeroExitCode") else ""
        code = f" with exit code {self.exit_code}" if self.state == "FAILED" else ""
        if self.state == FORGOTTEN:
            return f"job {job_id} is lost{where}: {words}"
        return f"job {job_id} ended {self.state}{code}{where}: {words}{reason}"

    def standing(self, job_id: str) -> str:
        """Where a job is, in words."""
        return f"job {job_id} is {self.state}" + (f" ({self.reason})" if self.reason not in ("", "None") else "")


def is_held(job_id: str, reason: str) -> str:
    """That a job waits for a person, and what that one does."""
    return f"job {job_id} is held: {reason}; it waits until it is let go (`scontrol release {job_id}`)"


def never_runs(job_id: str, reason: str) -> str:
    """Why a job was given up, and what to do."""
    if _HELD.search(reason):
        return f"job {job_id} is held: {reason} (`scontrol show job {job_id}` says more; the site may have to help)"
    return (
        f"job {job_id} can never run: {reason} (Slurm's reason; ask for less, or for another partition: "
        "`sinfo -o '%P %l %D %c %m'` shows what there is)"
    )
