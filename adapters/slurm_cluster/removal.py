"""Ending jobs, and seeing that they are gone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from adapters.slurm_cluster.board import is_known, parse_squeue, question
from adapters.slurm_cluster.errors import is_unknown_job, refusal
from adapters.slurm_cluster.states import Stage
from adapters.slurm_cluster.tools import run_tool
from osiris_core.errors import FailureClass
from remote.sandbox import SandboxError

if TYPE_CHECKING:
    from collections.abc import Iterable
GONE_LIMIT_S = 120.0
"""How long a cancelled job may take: its processes have the cluster's KillWait to end by themselves."""


def cancel_jobs(job_ids: Iterable[str], limit_s: float = GONE_LIMIT_S) -> None:
    """
    No process of these jobs runs on return, as Slurm knows them. May be called twice.

    Raises:
        SandboxError: One is still there after `limit_s`; `osiris runs gc` finds it.
    """
    left = list(job_ids)
    deadline_s = time.monotonic() + limit_s
    pause_s = 0.05
    said = ""
    asked = False
    while left:
        try:
            if not asked:
                said = _ask_to_end(left)
                asked = not said
            left = _still_there(left)
        except SandboxError as exc:
            if exc.failure_class is not FailureClass.INFRA_LOST:
                raise
            said, asked = str(exc), False
        if left and time.monotonic() > deadline_s:
            raise SandboxError(f"job {', '.join(left)} is still there: {said or 'its processes do not end'} "
                               "(osiris runs gc ends it later)")  # fmt: skip
        if left:
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, 2.0)


def _ask_to_end(job_ids: list[str]) -> str:
    """
    Empty where every job was told, or is over; else what Slurm says of those that were not.

    Raises:
        SandboxError: It cannot be done for the only one that there is.
    """
    answer = run_tool(["scancel", *job_ids])
    if answer.code == 0:
        return ""
    refused = [line for line in answer.said.splitlines() if line.strip() and not is_unknown_job(line)]
    if not refused:
        return ""
    error = refusal("it cannot be cancelled", "\n".join(refused))
    if len(job_ids) == 1:
        raise error
    return str(error)


def _still_there(job_ids: list[str]) -> list[str]:
    """
    Those that are not known to be over. One that is not named in an answer may be there all the same.

    Raises:
        SandboxError: Slurm cannot be asked.
    """
    answer = run_tool(question(job_ids))
    if answer.code != 0 and not is_unknown_job(answer.said):
        raise refusal("the end of a job cannot be seen", answer.said)
    states = parse_squeue(answer.out)
    left = []
    for job_id in job_ids:
        # A whole array is known by its elements.
        own = [state.stage for name, state in states.items() if name == job_id or name.startswith(f"{job_id}_")]
        if any(stage is not Stage.ENDED for stage in own) or (not own and is_known(job_id)):
            left.append(job_id)
    return left
