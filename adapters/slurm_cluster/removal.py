"""Ending a job, and seeing that it is gone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from adapters.slurm_cluster.board import parse_squeue
from adapters.slurm_cluster.errors import is_unknown_job, refusal
from adapters.slurm_cluster.states import Stage
from adapters.slurm_cluster.tools import run_tool
from remote.sandbox import SandboxError

if TYPE_CHECKING:
    from collections.abc import Iterable

GONE_LIMIT_S = 120.0
"""How long a cancelled job may take: its processes have the cluster's KillWait to end by themselves."""


def cancel_job(job_id: str, limit_s: float = GONE_LIMIT_S) -> None:
    """
    No process of the job runs on return, as Slurm knows it. May be called twice.

    Raises:
        SandboxError: It is still there after `limit_s`; `osiris runs gc` finds it.
    """
    cancel_jobs([job_id], limit_s)


def cancel_jobs(job_ids: Iterable[str], limit_s: float = GONE_LIMIT_S) -> None:
    """As `cancel_job`, for many at once."""
    left = list(job_ids)
    deadline_s = time.monotonic() + limit_s
    pause_s = 0.05
    said = ""
    asked = False
    while left:
        try:
            if not asked:
                answer = run_tool(["scancel", *left])
                # What is over already is no error of a scancel for several.
                asked, said = answer.code == 0 or is_unknown_job(answer.said), answer.said
                if not asked and len(left) == 1:
                    raise refusal(f"job {left[0]} cannot be cancelled", said)
                asked = True
            left = _still_there(left)
        except SandboxError as exc:
            said = str(exc)
            asked = False
        if left and time.monotonic() > deadline_s:
            raise SandboxError(f"job {', '.join(left)} is still there: {said or 'its processes do not end'} "
                               "(osiris runs gc ends it later)")  # fmt: skip
        if left:
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, 2.0)


def _still_there(job_ids: list[str]) -> list[str]:
    wanted = ",".join(job_ids)
    argv = ["squeue", "--noheader", "--array", "--states=all", f"--jobs={wanted}"]
    answer = run_tool([*argv, "--Format=JobArrayID:|,State:|,Reason:|,RestartCnt:|,NodeList:|"])
    if answer.code != 0:
        if is_unknown_job(answer.said):
            return []
        raise refusal("the end of a job cannot be seen", answer.said)
    states = parse_squeue(answer.out)
    # A whole array is known by its elements.
    living = {name for name, state in states.items() if state.stage is not Stage.ENDED}
    return [job_id for job_id in job_ids if any(name == job_id or name.startswith(f"{job_id}_") for name in living)]
