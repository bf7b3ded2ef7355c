"""Handing a job in exactly once, also when the answer of `sbatch` is lost."""

from __future__ import annotations

import re
import threading
import time
from typing import TYPE_CHECKING

from adapters.slurm_cluster.errors import ControllerSilent, refusal
from adapters.slurm_cluster.options import COMMENT_PREFIX
from adapters.slurm_cluster.tools import run_tool
from remote.order_file import KEY_VARIABLE
from remote.sandbox import SandboxError

if TYPE_CHECKING:
    from collections.abc import Sequence

LOOK_LIMIT_S = 60.0
"""How long a job whose submission was not answered is looked for, while the controller does not answer."""
LATE_S = 3.0
"""How much later than its request a submission may still take effect."""
TRIES = 3


class SubmitRate:
    """At most so many submissions in a second, by all threads together."""

    def __init__(self, per_second: float) -> None:
        self._interval_s = 1.0 / per_second
        self._lock = threading.Lock()
        self._next_s = 0.0

    def wait(self) -> None:
        """Return when it is time for one more."""
        with self._lock:
            now_s = time.monotonic()
            start_s = max(now_s, self._next_s)
            self._next_s = start_s + self._interval_s
        time.sleep(start_s - now_s)


def submit(argv: Sequence[str], token: str, key: str) -> str:
    """
    The id of the job that `argv`, an sbatch command whose comment has the token, made. Its environment gets the key.

    Raises:
        SandboxError: There is no job, and why.
    """
    for last in (False,) * (TRIES - 1) + (True,):
        try:
            answer = run_tool(argv, variables={KEY_VARIABLE: key})
            if answer.code == 0 and (match := re.match(r"\s*(\d+)(;|\s|$)", answer.out)):
                return match[1]
            error = refusal("the job was not accepted", answer.said)
        except ControllerSilent as exc:
            error = exc
        if not isinstance(error, ControllerSilent):
            raise error
        # It may have been accepted all the same.
        if (found := find_again(token, LOOK_LIMIT_S)) is not None:
            return found
        if last:
            raise error
    raise AssertionError("unreachable")


def find_again(token: str, limit_s: float) -> str | None:
    """
    The job with this token in its comment, if Slurm has one.

    Raises:
        ControllerSilent: Nobody answered for `limit_s`: whether there is one is not known.
    """
    deadline_s = time.monotonic() + limit_s
    answered_s: float | None = None
    while True:
        try:
            found = jobs_by_token()
        except SandboxError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(1.0)
            continue
        if token in found:
            return found[token][0]
        now_s = time.monotonic()
        answered_s = answered_s or now_s
        if now_s - answered_s > min(LATE_S, limit_s):
            return None
        time.sleep(0.3)


def jobs_by_token(*, active: bool = False) -> dict[str, tuple[str, str]]:
    """
    Id and state of each job of this user's that one of us made, by its token; `active`: of those that are not over.

    Raises:
        SandboxError: Slurm cannot be asked.
    """
    states = [] if active else ["--states=all"]
    # The comment comes last: it may hold anything.
    argv = ["squeue", "--noheader", "--me", *states, "--Format=JobArrayID:|,State:|,Comment:200"]
    answer = run_tool(argv)
    if answer.code != 0:
        raise refusal("jobs cannot be looked for", answer.said)
    found = {}
    for line in answer.out.splitlines():
        job_id, _, rest = line.strip().partition("|")
        state, _, comment = rest.partition("|")
        if comment.startswith(COMMENT_PREFIX):
            found[comment.removeprefix(COMMENT_PREFIX).strip()] = (job_id, state)
    return found
