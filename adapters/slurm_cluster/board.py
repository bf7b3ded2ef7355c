"""What Slurm says of all watched jobs, by one call however many there are; asked seldom, believed carefully."""

from __future__ import annotations

import random
import re
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from adapters.slurm_cluster.errors import ControllerSilent, is_unknown_job
from adapters.slurm_cluster.states import JobState, Stage
from adapters.slurm_cluster.tools import run_tool
from remote.sandbox import SandboxError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from adapters.slurm_cluster.tools import Answer

FIELDS = "JobArrayID:|,State:|,Reason:|,RestartCnt:|,NodeList:|"
BACK_OFF = 1.5
JITTER = 0.2
FORGOTTEN_S = 60.0
"""How long a controller that answers must not know a job before it counts as ended: an answer may be incomplete."""


class Board:
    """
    Thread-safe. Whoever asks first when it is time asks Slurm, for all.

    An answer that is empty, or that there is none, changes nothing: what was known before still is.

    Attributes:
        calls: How often Slurm was asked, for whoever counts.
    """

    def __init__(self, min_s: float, max_s: float, run: Callable[[Sequence[str]], Answer] = run_tool) -> None:
        self.calls = 0
        self._min_s, self._max_s = min_s, max_s
        self._run = run
        self._lock = threading.Lock()
        self._asking = threading.Lock()
        self._states: dict[str, JobState | None] = {}
        self._missing_since_s: dict[str, float] = {}
        self._pause_s = min_s
        self._due_s = 0.0
        self._asked_s = 0.0
        self._sacct_works = True

    def watch(self, job_id: str) -> None:
        """From now on the job is among those that are asked for."""
        with self._lock:
            if job_id not in self._states:
                self._states[job_id] = None
                self._hurry()

    def forget(self, job_id: str) -> None:
        with self._lock:
            self._states.pop(job_id, None)
            self._missing_since_s.pop(job_id, None)

    def look(self, job_id: str, *, fresh: bool = False) -> JobState | None:
        """
        The last that was heard of a job, after another question if it is time for one; `fresh`: in any case.

        None while nothing was heard yet.
        """
        now_s = time.monotonic()
        # Who finds somebody asking takes what is there, but for who needs it fresh: a question asked since will do.
        if (fresh or now_s >= self._due_s) and self._asking.acquire(blocking=fresh):
            try:
                if self._asked_s <= now_s:
                    self._ask()
            finally:
                self._asking.release()
        with self._lock:
            return self._states.get(job_id)

    def _hurry(self) -> None:
        self._pause_s, self._due_s = self._min_s, 0.0

    def _ask(self) -> None:
        with self._lock:
            job_ids = [name for name, state in self._states.items() if state is None or state.stage is not Stage.ENDED]
        if not job_ids:
            self._due_s = time.monotonic() + self._pause_s
            return
        self.calls += 1
        self._asked_s = time.monotonic()
        found = self._found(job_ids)
        now_s = time.monotonic()
        with self._lock:
            changed = False
            for job_id in job_ids:
                if job_id not in self._states:
                    continue
                state = found.get(job_id) if found is not None else None
                if state is None:
                    state = self._missed(job_id, now_s) if found is not None else None
                else:
                    self._missing_since_s.pop(job_id, None)
                if state is not None and state != self._states[job_id]:
                    self._states[job_id] = state
                    changed = True
            self._pause_s = self._min_s if changed else min(self._pause_s * BACK_OFF, self._max_s)
            self._due_s = now_s + self._pause_s * random.uniform(1 - JITTER, 1 + JITTER)

    def _found(self, job_ids: list[str]) -> dict[str, JobState] | None:
        """None when nothing was answered."""
        wanted = ",".join(dict.fromkeys(job_id.partition("_")[0] for job_id in job_ids))
        argv = ["squeue", "--noheader", "--array", "--states=all", f"--jobs={wanted}", f"--Format={FIELDS}"]
        try:
            answer = self._run(argv)
        except SandboxError:
            return None
        if answer.code == 0:
            return parse_squeue(answer.out)
        return {} if is_unknown_job(answer.said) else None

    def _missed(self, job_id: str, now_s: float) -> JobState | None:
        """A controller that answers does not know the job."""
        since_s = self._missing_since_s.setdefault(job_id, now_s)
        if now_s - since_s < FORGOTTEN_S:
            return None
        before = self._states[job_id]
        nodes = before.nodes if before is not None else ""
        return self._accounted(job_id) or JobState("REVOKED", "Slurm does not know the job any more", nodes=nodes)

    def _accounted(self, job_id: str) -> JobState | None:
        """What the accounting says, where there is one."""
        if not self._sacct_works:
            return None
        fields = "--format=State,ExitCode,NodeList"
        try:
            answer = self._run(["sacct", "--noheader", "--parsable2", "--allocations", f"--jobs={job_id}", fields])
        except SandboxError:
            answer = None
        self._sacct_works = answer is not None and answer.code == 0
        lines = answer.out.splitlines() if answer is not None and answer.code == 0 else []
        state, _, rest = lines[-1].partition("|") if lines else ("", "", "")
        found = JobState(state.split(" ")[0])
        if found.stage is not Stage.ENDED:
            return None
        code, _, nodes = rest.partition("|")
        return replace(found, nodes=nodes, **exit_codes(code))


def parse_squeue(text: str) -> dict[str, JobState]:
    """Jobs by id; lines that are none are passed over."""
    found = {}
    for line in text.splitlines():
        parts = line.strip().split("|")
        if len(parts) >= 5 and re.fullmatch(r"\d+(_\d+)?", parts[0]):
            job_id, state, reason, restarts, nodes = parts[:5]
            count = int(restarts) if restarts.isdigit() else 0
            found[job_id] = JobState(state, reason, restarts=count, nodes=nodes)
    return found


def exit_codes(text: str) -> dict[str, Any]:
    """`code:signal`, as Slurm writes how something ended."""
    match = re.fullmatch(r"(\d+):(\d+)", text.strip())
    return {"exit_code": int(match[1]), "signal": int(match[2])} if match else {}


def verdict(board: Board, job_id: str, run: Callable[[Sequence[str]], Answer] = run_tool) -> JobState | None:
    """How a job that is over ended, with its exit code where Slurm still knows it."""
    state = board.look(job_id, fresh=True)
    if state is None or state.stage is not Stage.ENDED:
        return state
    try:
        answer = run(["scontrol", "show", "job", "--oneliner", job_id])
    except ControllerSilent:
        return state
    match = re.search(r"\bExitCode=(\d+:\d+)", answer.out)
    return replace(state, **exit_codes(match[1])) if match and answer.code == 0 else state
