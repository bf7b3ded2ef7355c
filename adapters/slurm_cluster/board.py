"""What Slurm says of all watched jobs, by one call however many there are; asked seldom, believed carefully."""

from __future__ import annotations

import random
import re
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from adapters.slurm_cluster.errors import ControllerSilent, is_unknown_job
from adapters.slurm_cluster.states import FORGOTTEN, JobState, Stage
from adapters.slurm_cluster.tools import run_tool
from remote.sandbox import SandboxError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from adapters.slurm_cluster.tools import Answer

FIELDS = "JobArrayID:|,State:|,Reason:|,RestartCnt:|,NodeList:|,EndTime:|"
BACK_OFF = 1.5
JITTER = 0.2


def question(job_ids: Iterable[str]) -> list[str]:
    """The command that asks for these jobs, also for those that are over; `parse_squeue` reads its answer."""
    return ["squeue", "--noheader", "--array", "--states=all", f"--jobs={','.join(job_ids)}", f"--Format={FIELDS}"]


class Board:
    """
    Thread-safe. Whoever asks first when it is time asks Slurm, for all.

    An answer that is empty, or that there is none, changes nothing: what was known before still is. A job becomes
    `FORGOTTEN` when no answer named it for `forgotten_s`, and Slurm, asked for it alone, says that it does not know it.

    Attributes:
        calls: How often Slurm was asked, for whoever counts.
    """

    def __init__(
        self,
        min_s: float,
        max_s: float,
        forgotten_s: float = 60.0,
        run: Callable[[Sequence[str]], Answer] = run_tool,
    ) -> None:
        self.calls = 0
        self._min_s, self._max_s, self._forgotten_s = min_s, max_s, forgotten_s
        self._run = run
        self._lock = threading.Lock()
        self._asking = threading.Lock()
        self._states: dict[str, JobState | None] = {}
        self._missing_since_s: dict[str, float] = {}
        self._pause_s = min_s
        self._due_s = 0.0
        self._asked_s = 0.0

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
            job_ids = [job_id for job_id, state in self._states.items() if _may_change(state)]
        if not job_ids:
            self._due_s = time.monotonic() + self._pause_s
            return
        self.calls += 1
        self._asked_s = time.monotonic()
        news = self._found(job_ids)
        if news is not None:
            news |= self._forgotten([job_id for job_id in job_ids if job_id not in news])
        now_s = time.monotonic()
        with self._lock:
            changed = False
            for job_id, state in (news or {}).items():
                if job_id in self._states:
                    changed = changed or state != self._states[job_id]
                    self._states[job_id] = state
                if state.state != FORGOTTEN:
                    self._missing_since_s.pop(job_id, None)
            self._pause_s = self._min_s if changed else min(self._pause_s * BACK_OFF, self._max_s)
            self._due_s = now_s + self._pause_s * random.uniform(1 - JITTER, 1 + JITTER)

    def _found(self, job_ids: list[str]) -> dict[str, JobState] | None:
        """None when nothing was answered."""
        answer = self._answer(question(dict.fromkeys(job_id.partition("_")[0] for job_id in job_ids)))
        if answer is None:
            return None
        if answer.code != 0:
            return {} if is_unknown_job(answer.said) else None
        found = parse_squeue(answer.out)
        return {job_id: found[job_id] for job_id in job_ids if job_id in found}

    def _forgotten(self, job_ids: list[str]) -> dict[str, JobState]:
        """Those of `job_ids`, which the last answer did not name, that Slurm does not know any more."""
        now_s = time.monotonic()
        with self._lock:
            before = {job_id: self._states[job_id] for job_id in job_ids if job_id in self._states}
            since_s = {job_id: self._missing_since_s.setdefault(job_id, now_s) for job_id in before}
        gone = {}
        for job_id, state in before.items():
            if (state is not None and state.state == FORGOTTEN) or now_s - since_s[job_id] < self._forgotten_s:
                continue
            if not is_known(job_id, self._run):
                nodes = state.nodes if state is not None else ""
                gone[job_id] = self._accounted(job_id) or JobState(FORGOTTEN, nodes=nodes)
        return gone

    def _accounted(self, job_id: str) -> JobState | None:
        """What the accounting says, where there is one."""
        fields = "--format=State,ExitCode,NodeList"
        answer = self._answer(["sacct", "--noheader", "--parsable2", "--allocations", f"--jobs={job_id}", fields])
        lines = answer.out.splitlines() if answer is not None and answer.code == 0 else []
        state, _, rest = lines[-1].partition("|") if lines else ("", "", "")
        found = JobState(state.split(" ")[0])
        if found.stage is not Stage.ENDED:
            return None
        code, _, nodes = rest.partition("|")
        return replace(found, nodes=nodes, **exit_codes(code))

    def _answer(self, argv: Sequence[str]) -> Answer | None:
        try:
            return self._run(argv)
        except SandboxError:
            return None


def _may_change(state: JobState | None) -> bool:
    return state is None or state.stage is not Stage.ENDED or state.state == FORGOTTEN


def parse_squeue(text: str) -> dict[str, JobState]:
    """Jobs by id; lines that are none are passed over."""
    found = {}
    for line in text.splitlines():
        parts = line.strip().split("|")
        if len(parts) >= 6 and re.fullmatch(r"\d+(_\d+)?", parts[0]):
            job_id, state, reason, restarts, nodes, ends = parts[:6]
            count = int(restarts) if restarts.isdigit() else 0
            ends_s = _seconds(ends) if state == "RUNNING" else None  # of one that waits it is a guess, and changes
            found[job_id] = JobState(state, reason, restarts=count, nodes=nodes, ends_s=ends_s)
    return found


def _seconds(text: str) -> float | None:
    """A time of Slurm's, which is asked in UTC."""
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def exit_codes(text: str) -> dict[str, Any]:
    """`code:signal`, as Slurm writes how something ended."""
    match = re.fullmatch(r"(\d+):(\d+)", text.strip())
    return {"exit_code": int(match[1]), "signal": int(match[2])} if match else {}


def is_known(job_id: str, run: Callable[[Sequence[str]], Answer] = run_tool) -> bool:
    """Whether Slurm, asked for a job alone, knows it; also where it cannot be asked: only its word counts."""
    try:
        answer = run(["scontrol", "show", "job", "--oneliner", job_id])
    except SandboxError:
        return True
    return not is_unknown_job(answer.said if answer.code else "")


def verdict(state: JobState, job_id: str) -> JobState:
    """How a job that is over ended, with its exit code where Slurm still knows it."""
    try:
        answer = run_tool(["scontrol", "show", "job", "--oneliner", job_id])
    except ControllerSilent:
        return state
    match = re.search(r"\bExitCode=(\d+:\d+)", answer.out)
    return replace(state, **exit_codes(match[1])) if match and answer.code == 0 else state
