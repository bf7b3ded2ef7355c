"""The pilots of one adapter: jobs that hold workers, made when there are runs for them, gone when it is closed."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.slurm_cluster.board import verdict
from adapters.slurm_cluster.options import batch_options
from adapters.slurm_cluster.place import SCRIPT_FILE, write_owner
from adapters.slurm_cluster.removal import cancel_jobs
from adapters.slurm_cluster.script import pilot_script
from adapters.slurm_cluster.states import Stage, never_runs
from adapters.slurm_cluster.submit import submit
from osiris_core.errors import FailureClass
from remote import folders
from remote.code_zip import code_zip
from remote.order_file import new_key
from remote.pilot import CLAIMS_FOLDER, TICKETS_FILE
from remote.pipe_transport import FolderFiles
from remote.sandbox import SandboxError

if TYPE_CHECKING:
    from adapters.slurm_cluster.board import Board
    from adapters.slurm_cluster.config import SlurmConfig
    from adapters.slurm_cluster.states import JobState
    from adapters.slurm_cluster.submit import SubmitRate

POOLS_FOLDER = "pilots"
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
        self._folder = Path(config.shared_dir).expanduser().absolute() / POOLS_FOLDER / f"osiris-{self.token}"
        self._lock = threading.RLock()
        self._tickets = 0
        self._open: set[int] = set()
        self._jobs: list[str] = []
        self._ended: set[str] = set()
        self._failures: list[str] = []
        self._made = self._closed = False

    def hand_in(self, place: Path, restarts: int, needs_s: float) -> int:
        """
        A pilot will take the run on; the number of its ticket.

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
            self._open.add(number)
            self.see_to_pilots()
            return number

    def taken(self, number: int) -> None:
        """A pilot has that run; it works."""
        with self._lock:
            if number in self._open:
                self._open.discard(number)
                self._failures.clear()

    def withdraw(self, number: int) -> bool:
        """No pilot will take the run on any more; False when one has."""
        with self._lock:
            self._open.discard(number)
        try:
            fd = os.open(self._folder / CLAIMS_FOLDER / str(number), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError:
            return False
        os.close(fd)
        return True

    def see_to_pilots(self) -> None:
        """
        There are as many as the waiting runs need, and no more than `nodes`.

        Raises:
            SandboxError: None can run, or those that did ended badly.
        """
        with self._lock:
            alive = [job_id for job_id in self._jobs if not self._is_over(job_id)]
            if len(self._failures) >= MAX_FAILURES:
                raise SandboxError(f"pilots cannot be kept up: {self._failures[-1]}")
            wanted = min(self._config.nodes, -(-len(self._open) // self._config.workers_per_node))
            while self._open and len(alive) < wanted and not self._closed:
                alive.append(self._submit())

    def state(self, job_id: str) -> JobState | None:
        """What Slurm says of a pilot."""
        return self._board.look(job_id)

    def close(self) -> None:
        """Every pilot is gone on return, and so is the pool's folder."""
        with self._lock:
            self._closed = True
            left = [job_id for job_id in self._jobs if job_id not in self._ended]
        cancel_jobs(left)
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
            (self._folder / SCRIPT_FILE).write_text(pilot_script(self._config, self._python), encoding="utf-8")
        except OSError as exc:
            message = f"the pilots' folder {self._folder} cannot be made: {exc.strerror} (shared_dir must be yours)"
            raise SandboxError(message, failure_class=FailureClass.RESOURCE_DENIED) from exc
        self._made = True

    def _submit(self) -> str:
        self._rate.wait()
        options = batch_options(self._config, "pilot", f"{self.token}-{len(self._jobs) + 1}", str(self._folder))
        argv = ["sbatch", *options, str(self._folder / SCRIPT_FILE), str(self._folder)]
        job_id = submit(argv, f"{self.token}-{len(self._jobs) + 1}", self.key)
        self._jobs.append(job_id)
        self._board.watch(job_id)
        return job_id

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
        ended = verdict(self._board, job_id) or state
        if ended.failure_class is not None:
            self._failures.append(self._explained(job_id, ended))
        return True

    def _explained(self, job_id: str, state: JobState) -> str:
        try:
            said = (self._folder / f"{job_id}.out").read_text(errors="replace").strip().splitlines()
        except OSError:
            said = []
        return state.told(job_id) + (f"; it said last: {shlex.join(said[-1:])}" if said else "")


__all__ = ["PilotPool"]
