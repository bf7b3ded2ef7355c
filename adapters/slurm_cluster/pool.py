"""The pilots of one adapter: jobs that hold workers, made when there are runs for them, gone when it is closed."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import shutil
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.slurm_cluster.board import verdict
from adapters.slurm_cluster.errors import ControllerSilent
from adapters.slurm_cluster.options import batch_options
from adapters.slurm_cluster.place import pilot_file, write_owner
from adapters.slurm_cluster.removal import cancel_jobs
from adapters.slurm_cluster.script import pilot_script
from adapters.slurm_cluster.states import Stage, never_runs
from adapters.slurm_cluster.submit import our_jobs, submit
from osiris_core.errors import FailureClass
from remote import folders
from remote.code_zip import code_zip
from remote.order_file import new_key
from remote.pilot import CLAIMS_FOLDER, TICKETS_FILE
from remote.pipe_transport import FolderFiles
from remote.sandbox import SandboxError

if TYPE_CHECKING:
    from collections.abc import Callable

    from adapters.slurm_cluster.board import Board
    from adapters.slurm_cluster.config import SlurmConfig
    from adapters.slurm_cluster.states import JobState
    from adapters.slurm_cluster.submit import SubmitRate

POOLS_FOLDER = "pilots"
CLOCK_S = 5.0
"""How far the time that a pilot has left may be off: clocks differ."""
MAX_FAILURES = 3
"""After this many pilots that ended badly without taking a run, runs are no longer kept waiting."""


class PilotPool:
    """
    Thread-safe. Nothing is made before the first ticket; `close` may be called twice.

    Attributes:
        key: Opens the orders of its runs; the pilots have it, and no file does.
        token: Marks its jobs.
    """

    def __init__(self, config: SlurmConfig, board: Board, rate: SubmitRate, python: str) -> None:
        assert config.shared_dir is not None
        self.key = new_key()
        self.token = secrets.token_hex(16)
        self._config, self._board, self._rate, self._python = config, board, rate, python
        self._folder = pool_folder(config.shared_dir, self.token)
        self._lock = threading.RLock()
        self._tickets = 0
        self._waiting: dict[int, float] = {}
        self._running: dict[int, str] = {}
        self._jobs: list[str] = []
        self._are_only_jobs = True
        self._ended: set[str] = set()
        self._failures: list[str] = []
        self._made = self._closed = False

    def hand_in(self, place: Path, restarts: int, needs_s: float, warn: Callable[[str], None]) -> int:
        """
        A pilot will take the run on; the number of its ticket, which is to be given back when the run is over.

        Raises:
            SandboxError: There can be no pilot.
        """
        with self._lock:
            if self._closed:
                raise SandboxError("the adapter was closed", failure_class=FailureClass.CANCELLED)
            self._make()
            self._tickets += 1
            number = self._tickets
            ticket = {"place": str(place), "restarts": restarts, "needs_s": needs_s}
            line = json.dumps({"n": number, "message": ticket}).encode() + b"\n"
            FolderFiles(self._folder).append(TICKETS_FILE, line)
            self._waiting[number] = needs_s
            try:
                self.see_to_pilots(warn)
            except SandboxError:
                if self.withdraw(number):
                    raise
            return number

    def taken(self, number: int, job_id: str) -> None:
        """A pilot has that run; it works."""
        with self._lock:
            if self._waiting.pop(number, None) is not None:
                self._running[number] = job_id
                self._failures.clear()

    def withdraw(self, number: int) -> bool:
        """The run needs no place any more; False when a pilot has taken it on."""
        with self._lock:
            self._waiting.pop(number, None)
            self._running.pop(number, None)
        return withdraw(self._folder, number)

    def see_to_pilots(self, warn: Callable[[str], None]) -> None:
        """
        There are as many as the runs need, and no more than `nodes` that have the time for those that wait.

        Raises:
            SandboxError: None can run, or those that did ended badly.
        """
        with self._lock:
            needs_s = max(self._waiting.values(), default=0.0)
            able = [job_id for job_id in self._jobs if not self._is_over(job_id) and self._has_time(job_id, needs_s)]
            if len(self._failures) >= MAX_FAILURES:
                raise SandboxError(f"pilots cannot be kept up: {self._failures[-1]}")
            runs = len(self._waiting) + sum(job_id in able for job_id in self._running.values())
            wanted = min(self._config.nodes, -(-runs // self._config.workers_per_node))
            while self._waiting and len(able) < wanted and not self._closed:
                able.append(self._submit(warn))

    def _has_time(self, job_id: str, needs_s: float) -> bool:
        """Whether a pilot will take a run that may need so much, when it has a place for it."""
        state = self.state(job_id)
        if state is None or state.ends_s is None:
            return True
        return needs_s + self._config.drain_s + CLOCK_S <= state.ends_s - time.time()

    def state(self, job_id: str) -> JobState | None:
        """What Slurm says of a pilot."""
        return self._board.look(job_id)

    def close(self) -> None:
        """Every pilot is gone on return, and so is the pool's folder."""
        with self._lock:
            self._closed = True
            left = [job_id for job_id in self._jobs if job_id not in self._ended]
            if not self._are_only_jobs:
                left += [job.job_id for job in our_jobs(active=True) if job.token.startswith(self.token)]
        cancel_jobs(dict.fromkeys(left))
        with self._lock:
            for job_id in self._jobs:
                self._board.forget(job_id)
            self._jobs.clear()
            if self._made:
                shutil.rmtree(self._folder, ignore_errors=True)

    def _make(self) -> None:
        if self._made:
            return
        try:
            (self._folder / CLAIMS_FOLDER).mkdir(parents=True, mode=0o700)
            self._folder.chmod(0o700)
            shutil.copyfile(code_zip(), self._folder / folders.CODE_ZIP)
            (self._folder / TICKETS_FILE).touch()
            write_owner(self._folder, self.token, "pilots")
        except OSError as exc:
            message = f"the pilots' folder {self._folder} cannot be made: {exc.strerror} (shared_dir must be yours)"
            raise SandboxError(message, failure_class=FailureClass.RESOURCE_DENIED) from exc
        self._made = True

    def _submit(self, warn: Callable[[str], None]) -> str:
        number = len(self._jobs) + 1
        script = self._folder / pilot_file(number)
        script.write_text(pilot_script(self._config, self._python), encoding="utf-8")
        self._rate.wait()
        token = f"{self.token}-{number}"
        options = batch_options(self._config, "pilot", token, str(self._folder))
        try:
            submitted = submit(["sbatch", *options, str(script), str(self._folder)], token, self.key, warn)
        except ControllerSilent:
            self._are_only_jobs = False
            raise
        self._are_only_jobs = self._are_only_jobs and submitted.is_only_one
        self._jobs.append(submitted.job_id)
        self._board.watch(submitted.job_id)
        return submitted.job_id

    def _is_over(self, job_id: str) -> bool:
        if job_id in self._ended:
            return True
        state = self.state(job_id)
        if state is not None and state.never is not None:
            reason = never_runs(job_id, state.never)
            raise SandboxError(reason, failure_class=FailureClass.RESOURCE_DENIED, details={"reason": state.never})
        if state is None or state.stage is not Stage.ENDED:
            return False
        self._ended.add(job_id)
        ended = verdict(state, job_id)
        if ended.failure_class is not None:
            self._failures.append(self._explained(job_id, ended))
        return True

    def _explained(self, job_id: str, state: JobState) -> str:
        try:
            said = (self._folder / f"{job_id}.out").read_text(errors="replace").strip().splitlines()
        except OSError:
            said = []
        return state.told(job_id) + (f"; it said last: {shlex.join(said[-1:])}" if said else "")


def pool_folder(shared_dir: str | None, token: str) -> Path:
    """Where the pilots of a pool find their tickets."""
    return Path(str(shared_dir)).expanduser().absolute() / POOLS_FOLDER / f"osiris-{token}"


def withdraw(folder: Path, number: int) -> bool:
    """No pilot will take that ticket any more; False when one has. Where there is no pool, there are no pilots."""
    try:
        fd = os.open(folder / CLAIMS_FOLDER / str(number), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    os.close(fd)
    return True
