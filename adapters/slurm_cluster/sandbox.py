"""A `BatchSandbox` that is one job with one folder on the shared file system."""

from __future__ import annotations

import threading
import time
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from adapters.slurm_cluster.board import verdict
from adapters.slurm_cluster.errors import ControllerSilent
from adapters.slurm_cluster.options import JOB_OUTPUT, batch_options, output_path
from adapters.slurm_cluster.place import SCRIPT_FILE, Place
from adapters.slurm_cluster.removal import cancel_job
from adapters.slurm_cluster.script import NO_FOLDER, NO_PYTHON, SETUP_FAILED, job_script
from adapters.slurm_cluster.states import JobState, Stage, never_runs
from adapters.slurm_cluster.submit import find_again, submit
from osiris_core.archive import pack_stream
from osiris_core.arrival import unpack_stream
from osiris_core.errors import FailureClass
from remote import folders
from remote.file_transport import FileTransport
from remote.order_file import new_key, seal, write_order
from remote.pipe_transport import FolderFiles
from remote.sandbox import Fate, SandboxError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from adapters.slurm_cluster.board import Board
    from adapters.slurm_cluster.config import SlurmConfig
    from adapters.slurm_cluster.submit import SubmitRate
    from remote.sandbox import Transport

FILES_LAG_S = 2.0
"""How much later than the end of a job its last files may be seen here."""
VERDICT_LIMIT_S = 60.0
"""How long Slurm may take to say how a job ended whose worker did."""
OWN_END_LIMIT_S = 2.0
"""How long a job may take to be over after the last line of its script."""
ADOPT_LIMIT_S = 30.0
_OUR_CODES = {NO_FOLDER, NO_PYTHON, SETUP_FAILED, 126, 127}


class SlurmSandbox:
    """
    One run's job. It may be asked for its end, and stopped, from any thread. See `remote.sandbox.BatchSandbox`.

    Args:
        config: What is asked of Slurm.
        board: Where the states of jobs are known.
        rate: How fast jobs may be submitted.
        python: The worker's interpreter, on the nodes.
        token: Marks what is made.
        session_id: Names the run.
        session_dir: Where the run is written down.
        name: The pipeline's, for people.
    """

    def __init__(
        self,
        config: SlurmConfig,
        board: Board,
        rate: SubmitRate,
        python: str,
        *,
        token: str,
        session_id: str,
        session_dir: str,
        name: str,
    ) -> None:
        self.place = Place(config.shared_dir, token, session_dir)
        self.work_dir = PurePosixPath(self.place.root)
        self.python = python
        self.reads_in_place: dict[str, str] = {}
        self.queue_timeout_s = config.queue_timeout_s
        self.restarts = 0
        self._config, self._board, self._rate = config, board, rate
        self._token, self._session_id, self._name = token, session_id, name
        self._key = new_key()
        self._lock = threading.Lock()
        self._job_id: str | None = None
        self._made = self._submitted = self._stopped = False
        self._ended_s: float | None = None

    # There.

    def start(self) -> str:
        self._made = True
        try:
            self.place.make(self._session_id)
        except OSError as exc:
            message = f"the run's folder {self.place.root} cannot be made: {exc.strerror} (shared_dir must be yours)"
            raise SandboxError(message, failure_class=FailureClass.RESOURCE_DENIED) from exc
        return ""

    def put(self, archive: Path) -> None:
        with archive.open("rb") as file:
            unpack_stream(iter(lambda: file.read(1 << 20), b""), self.place.root)

    def order(self, message: bytes) -> None:
        write_order(str(self.place.root / folders.ORDER_FILE), seal(message, self._key))

    def open(self, argv: Sequence[str]) -> Transport:
        """Submit and connect; who has an order uses `submit`."""
        self.submit(argv)
        return self.reconnect()

    def submit(self, argv: Sequence[str]) -> str:
        script = self.place.root / SCRIPT_FILE
        script.write_text(job_script(self._config, argv), encoding="utf-8")
        self._rate.wait()
        with self._lock:  # whoever stops the run finds the job, or keeps it from being made
            if self._stopped:
                raise SandboxError("the run was stopped", failure_class=FailureClass.CANCELLED)
            self._submitted = True
            options = batch_options(self._config, self._name, self._token, str(self.place.root))
            self._job_id = submit(["sbatch", *options, str(script), str(self.place.root)], self._token, self._key)
        self._board.watch(self._job_id)
        return self._job_id

    def adopt(self, native_id: str | None) -> bool:
        self._job_id = native_id or find_again(self._token, ADOPT_LIMIT_S)
        self._made, self._submitted = True, self._job_id is not None
        if self._job_id is None or not self.place.root.is_dir():
            return False  # it was never handed in, or somebody took its folder away
        self._board.watch(self._job_id)
        self._see_restarts()
        return True

    # Followed.

    def is_queued(self) -> bool:
        if self.place.began(self.restarts) is not None:
            return False
        state = self._look()
        if state is None or state.stage is Stage.QUEUED:
            if state is not None and state.never is not None:
                message = never_runs(self._id, state.never)
                raise SandboxError(message, failure_class=FailureClass.RESOURCE_DENIED, details={"reason": state.never})
            return True
        return False

    def is_alive(self) -> bool:
        if self.place.exit_code(self.restarts) is not None:
            return False
        before = self.restarts
        self._see_restarts()
        state = self._look()
        if self.restarts > before:
            self.restarts = before  # that it was started again is for `fate` to say
            return False
        if state is None or state.stage is not Stage.ENDED:
            self._ended_s = None
            return True
        self._ended_s = self._ended_s or time.monotonic()
        return time.monotonic() - self._ended_s < FILES_LAG_S

    def reconnect(self) -> Transport:
        place = self.place.current(self.restarts)
        stderr = output_path(self._config, self._id) or str(self.place.root / JOB_OUTPUT)
        return FileTransport(FolderFiles(place), self.is_alive, stderr)

    def get(self, folder: str) -> Iterator[bytes]:
        path = self.place.current(self.restarts) / folder
        return pack_stream(path, folder) if path.is_dir() else iter(())

    @property
    def node(self) -> str:
        """Where the last start of the worker began; empty before."""
        return (self.place.began(self.restarts) or "").partition(" ")[0]

    @property
    def _id(self) -> str:
        assert self._job_id is not None
        return self._job_id

    def _look(self, *, fresh: bool = False) -> JobState | None:
        return self._board.look(self._id, fresh=fresh)

    def _see_restarts(self) -> None:
        """Slurm says how often it started the job again; so does a folder that a later start made."""
        state = self._look()
        if state is not None:
            self.restarts = max(self.restarts, state.restarts)
        while self.place.began(self.restarts + 1) is not None:
            self.restarts += 1

    # Its end.

    def fate(self) -> Fate:
        if self._job_id is None:
            return Fate(running=False, message="the job was never submitted")
        deadline_s = time.monotonic() + VERDICT_LIMIT_S
        pause_s = 0.05
        code = self.place.exit_code(self.restarts)
        while True:
            state = self._look(fresh=True)
            before = self.restarts
            self._see_restarts()
            if self.restarts > before or (state is not None and state.stage is Stage.QUEUED):
                return Fate(running=True)
            if state is not None and state.stage is Stage.ENDED:
                return self._fate_of(verdict(self._board, self._id) or state, code)
            if code is None and (state is None or state.stage is Stage.RUNNING):
                return Fate(running=True)
            if time.monotonic() > deadline_s:  # the worker ended, and Slurm does not say a word
                return self._fate_of(None, code)
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, 1.0)

    def _fate_of(self, state: JobState | None, code: int | None) -> Fate:
        code = self.place.exit_code(self.restarts) if code is None else code
        facts = {"job_id": self._id}
        if state is not None:
            facts |= {"state": state.state, "reason": state.reason, "node": state.nodes}
        if (node := self.place.began(self.restarts)) is not None:
            facts["node"] = node
        if code in _OUR_CODES or (state is not None and state.exit_code in _OUR_CODES and state.state == "FAILED"):
            message = f"job {self._id} could not start its worker on {facts.get('node', 'its node')}"
            return Fate(False, code, message=message, failure_class=FailureClass.USER_ERROR, facts=facts)
        if state is not None and state.failure_class is not None:
            failure_class = state.failure_class
            return Fate(
                False,
                code if code is not None else state.exit_code,
                out_of_memory=failure_class is FailureClass.OUT_OF_MEMORY,
                message=state.told(self._id),
                failure_class=failure_class,
                facts=facts,
            )
        message = f"the worker of job {self._id} ended with exit code {code}" if code else ""
        return Fate(False, code, message=message, facts=facts)

    def stop(self, *, keep: bool = False) -> str:
        with self._lock:
            self._stopped = True
        if not self._made:
            return ""
        self._end_job()
        if self._job_id is not None:
            self._board.forget(self._job_id)
        if keep:
            self.place.remove_order()
            return f"the folder of job {self._job_id} was kept: {self.place.root} (osiris runs gc removes it)"
        if not self.place.remove():
            raise SandboxError(f"{self.place.root} cannot be removed now (osiris runs gc removes it later)")
        return ""

    def _end_job(self) -> None:
        """No process of the job is alive on return."""
        if self._job_id is None and self._submitted:
            try:
                self._job_id = find_again(self._token, ADOPT_LIMIT_S)
            except ControllerSilent as exc:
                raise SandboxError(f"whether there is a job of this run is not known: {exc} (osiris runs gc)") from exc
        if self._job_id is None:
            return
        if self.place.exit_code(self.restarts) is not None and self._ends_by_itself():
            return
        cancel_job(self._job_id)

    def _ends_by_itself(self) -> bool:
        """A job whose script had its last line is over as soon as its node has told Slurm so."""
        deadline_s = time.monotonic() + OWN_END_LIMIT_S
        while time.monotonic() < deadline_s:
            state = self._look(fresh=True)
            if state is not None and (state.stage is Stage.QUEUED or state.restarts > self.restarts):
                return False
            if state is not None and state.stage in (Stage.ENDING, Stage.ENDED):
                return True
            time.sleep(0.02)
        return False
