"""Handing a job in exactly once, also when the answer of `sbatch` is lost."""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adapters.slurm_cluster.errors import ControllerSilent, last_words, refusal
from adapters.slurm_cluster.options import COMMENT_PREFIX
from adapters.slurm_cluster.tools import run_tool
from remote.order_file import KEY_VARIABLE
from remote.sandbox import SandboxError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LOOK_LIMIT_S = 60.0
"""How long a job whose submission was not answered is looked for, while the controller does not answer."""
LATE_S = 3.0
"""How long such a job is looked for once the controller answers. One that comes later still finds its run taken."""
TRIES = 3
_JOB = re.compile(
    rf"(?P<id>\d+)[^|]*\|((?P<folder>/.*/osiris-(?P<token>[0-9a-f]{{32}}))/job(?P<number>-\d+)?\.sh)?"
    rf"(.*\|{COMMENT_PREFIX}(?P<comment>[0-9a-f]{{32}}(-\d+)?)\s*$)?"
)


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


@dataclass(frozen=True)
class Submitted:
    """A job that Slurm has; `is_only_one` where none else can have come of the same request."""

    job_id: str
    is_only_one: bool


@dataclass(frozen=True)
class OurJob:
    """A job of this user's that one of us made. For an array it is the array; `folder` is where its script lies."""

    job_id: str
    token: str
    folder: str | None


def submit(argv: Sequence[str], token: str, key: str, warn: Callable[[str], None]) -> Submitted:
    """
    The job that `argv`, an sbatch command that names the token, made. Its environment gets the key.

    `warn` is told what Slurm has to say beside.

    Raises:
        SandboxError: There is no job, and why.
    """
    for number in range(1, TRIES + 1):
        try:
            answer = run_tool(argv, variables={KEY_VARIABLE: key})
            if answer.code == 0 and (match := re.match(r"\s*(\d+)(;|\s|$)", answer.out)):
                if answer.err.strip():
                    warn(f"sbatch, of job {match[1]}: {last_words(answer.err)}")
                return Submitted(match[1], is_only_one=number == 1)
            error = refusal("the job was not accepted", answer.said)
        except ControllerSilent as exc:
            error = exc
        if not isinstance(error, ControllerSilent):
            raise error
        # It may have been accepted all the same.
        if (found := find_again(token, LOOK_LIMIT_S)) is not None:
            return Submitted(found, is_only_one=False)
        if number == TRIES:
            raise error
    raise AssertionError("unreachable")


def find_again(token: str, limit_s: float) -> str | None:
    """
    The job with this token, if Slurm has one; the first, if it has several.

    Raises:
        ControllerSilent: Nobody answered for `limit_s`: whether there is one is not known.
    """
    deadline_s = time.monotonic() + limit_s
    answered_s: float | None = None
    while True:
        try:
            found = [job.job_id for job in our_jobs() if job.token == token]
        except SandboxError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(1.0)
            continue
        if found:
            return min(found, key=int)
        now_s = time.monotonic()
        answered_s = answered_s or now_s
        if now_s - answered_s > min(LATE_S, limit_s):
            return None
        time.sleep(0.3)


def our_jobs(*, active: bool = False) -> list[OurJob]:
    """
    What Slurm has of ours; `active`: of that what is not over.

    A job is known by its comment, and by where its script lies: there are sites that write comments of their own.

    Raises:
        SandboxError: Slurm cannot be asked.
    """
    states = [] if active else ["--states=all"]
    # The comment comes last: it may hold anything.
    answer = run_tool(["squeue", "--noheader", "--me", *states, "--Format=JobArrayID:|,Command:|,Comment:200"])
    if answer.code != 0:
        raise refusal("jobs cannot be looked for", answer.said)
    found = {}
    for line in answer.out.splitlines():
        match = _JOB.match(line.strip())
        if match is not None and (match["comment"] or match["token"]):
            token = match["comment"] or f"{match['token']}{match['number'] or ''}"
            found[match["id"]] = OurJob(match["id"], token, match["folder"])
    return list(found.values())
