"""A `BatchSandbox` whose worker is one of a pilot's: the run waits for a place in a job, not for a job."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from adapters.slurm_cluster.board import verdict
from adapters.slurm_cluster.pool import pool_folder, withdraw
from adapters.slurm_cluster.sandbox import FILES_LAG_S, SlurmSandbox
from adapters.slurm_cluster.states import Stage
from osiris_core.errors import FailureClass, NeverPlaced
from remote import folders
from remote.code_zip import code_zip
from remote.file_transport import FileTransport
from remote.order_file import seal, write_order
from remote.pipe_transport import FolderFiles
from remote.sandbox import Fate, SandboxError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from adapters.slurm_cluster.pool import PilotPool
    from adapters.slurm_cluster.states import JobState
    from remote.sandbox import Transport

PREFIX = "pilot-"
BEGIN_LIMIT_S = 5.0
"""How long a pilot that claimed a run may take to begin it."""
POLL_S = 0.002
"""A pilot's run may be over within milliseconds."""
MAX_RESTARTS = 3
ASKED_S, KILLED_S = 10.0, 10.0
"""How long a worker may take to leave when it is asked to, and then when it is killed."""


class PilotSandbox(SlurmSandbox):
    """See `SlurmSandbox`; `pool` has the pilots, `needs_s` is the run's own limit."""

    elsewhere = False  # pilots leave by themselves when nobody hands them anything

    def __init__(self, pool: PilotPool, needs_s: float, *args: object, **more: object) -> None:
        super().__init__(*args, **more)  # type: ignore[arg-type]
        self._pool, self._needs_s = pool, needs_s
        self._ticket: int | None = None
        # A pilot has our code in its memory.
        own = str(code_zip())
        self.reads_in_place = {own: own}

    def order(self, message: bytes) -> None:
        write_order(str(self.place.root / folders.ORDER_FILE), seal(message, self._pool.key))

    def submit(self, argv: Sequence[str]) -> str:  # noqa: ARG002 - a pilot has its worker already
        with self._lock:
            if self._stopped:
                raise SandboxError("the run was stopped", failure_class=FailureClass.CANCELLED)
            self._ticket = self._pool.hand_in(self.place.root, self.restarts, self._needs_s, self._warn)
            self._submitted = True
        return f"{PREFIX}{self._pool.token}-{self._ticket}"

    def adopt(self, native_id: str | None) -> bool:
        """
        Where a pilot has the run already it goes on; only the controller that is dead could open it for another.

        Raises:
            NeverPlaced: No pilot has it, and none will.
        """
        self._made = True
        while self.place.began(self.restarts + 1) is not None:
            self.restarts += 1
        if native_id is None or not self.place.root.is_dir():
            return False
        token, _, number = native_id.removeprefix(PREFIX).partition("-")
        if self._pilot() is None and withdraw(pool_folder(self._config.shared_dir, token), int(number)):
            self.place.remove()
            raise NeverPlaced("no pilot took the run before its controller died")
        deadline_s = time.monotonic() + BEGIN_LIMIT_S
        while self._pilot() is None and time.monotonic() < deadline_s:
            time.sleep(POLL_S)
        self._submitted = self._pilot() is not None
        return self._submitted

    def is_queued(self) -> bool:
        job_id = self._pilot()
        if job_id is not None:
            self._pool.taken(self._ticket or 0, job_id)
            return False
        self._pool.see_to_pilots(self._warn)
        return True

    def is_alive(self) -> bool:
        code = self.place.exit_code(self.restarts)
        if code is not None:
            return code == 0 and self._files_may_be_late()
        self._left_s = None
        state = self._look()
        if state is None or state.stage is not Stage.ENDED:
            self._ended_s = None
            return True
        self._ended_s = self._ended_s or time.monotonic()
        return time.monotonic() - self._ended_s < FILES_LAG_S

    def reconnect(self) -> Transport:
        place = self.place.current(self.restarts)
        return FileTransport(FolderFiles(place), self.is_alive, folders.STDERR_FILE, POLL_S)

    def fate(self) -> Fate:
        code = self.place.exit_code(self.restarts)
        job_id = self._pilot()
        state = self._look(fresh=True)
        if state is not None and state.stage is Stage.ENDED:
            state = verdict(state, str(job_id))
        facts = {"job_id": job_id, "node": self.node}
        if state is not None and state.stage is Stage.ENDED and (code is None or state.failure_class is not None):
            return self._without_pilot(str(job_id), state.told(str(job_id)), state.failure_class, facts)
        if code is None:
            return Fate(running=True, facts=facts)
        message = f"the worker in pilot {job_id} ended with exit code {code}" if code else ""
        return Fate(False, code, message=message, facts=facts)

    def _without_pilot(
        self, job_id: str, told: str, failure_class: FailureClass | None, facts: dict[str, str | None]
    ) -> Fate:
        """Another pilot goes on where the one that was lost stopped."""
        lost = failure_class in (None, FailureClass.INFRA_LOST, FailureClass.PREEMPTED, FailureClass.TIMEOUT)
        if lost and self._config.requeue and self.restarts < MAX_RESTARTS and self._ticket and not self._stopped:
            self.restarts += 1
            self.place.restart_begins(self.restarts)
            self._pool.withdraw(self._ticket)
            self._ticket = self._pool.hand_in(self.place.root, self.restarts, self._needs_s, self._warn)
            return Fate(running=True, facts=facts)
        message = f"its pilot is gone: {told or f'job {job_id} has ended'}"
        return Fate(False, message=message, failure_class=failure_class or FailureClass.INFRA_LOST, facts=facts)

    def _pilot(self) -> str | None:
        """The job that has the run."""
        return (self.place.began(self.restarts) or ("", ""))[1] or None

    def _look(self, *, fresh: bool = False) -> JobState | None:
        job_id = self._pilot()
        if job_id is None:
            return None
        self._board.watch(job_id)
        return self._believed(self._board.look(job_id, fresh=fresh))

    def standing(self) -> str:
        state = self._look()
        return state.standing(str(self._pilot())) if state is not None else "no pilot has it"

    def _end_job(self) -> None:
        """No process of this run is alive in its pilot on return; the pilot lives on."""
        if self._ticket is not None and self._pool.withdraw(self._ticket):
            return
        if not self._submitted:
            return
        worker = self.place.current(self.restarts)
        for limit_s, how in ((ASKED_S, ""), (KILLED_S, folders.KILL_FILE)):
            if how:
                (worker / how).touch()
            deadline_s = time.monotonic() + limit_s
            while time.monotonic() < deadline_s:
                if not self._runs():
                    return
                time.sleep(0.002)
        raise SandboxError(f"the run does not end in pilot {self._pilot()}: scancel {self._pilot()} ends both")

    def _runs(self) -> bool:
        if self.place.exit_code(self.restarts) is not None or not self.place.root.exists():
            return False
        state = self._look()
        return state is None or state.stage is not Stage.ENDED
