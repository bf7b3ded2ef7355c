"""A `BatchSandbox` that is one job with one folder on the shared file system."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from adapters.slurm_cluster.board import verdict
from adapters.slurm_cluster.errors import ControllerSilent
from adapters.slurm_cluster.fate import fate_of
from adapters.slurm_cluster.options import JOB_OUTPUT, batch_options
from adapters.slurm_cluster.place import SCRIPT_FILE, Place
from adapters.slurm_cluster.pulse import Pulse
from adapters.slurm_cluster.removal import cancel_jobs
from adapters.slurm_cluster.script import has_own_words, job_script
from adapters.slurm_cluster.states import FORGOTTEN, JobState, Stage, is_held, never_runs
from adapters.slurm_cluster.submit import find_again, our_jobs, submit
from osiris_core.archive import pack_stream
from osiris_core.arrival import unpack_stream
from osiris_core.errors import FailureClass
from remote import folders
from remote.file_transport import FileTransport
from remote.order_file import new_key, seal, write_order
from remote.pipe_transport import FolderFiles
from remote.sandbox import Fate, SandboxError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from adapters.slurm_cluster.board import Board
    from adapters.slurm_cluster.config import SlurmConfig
    from adapters.slurm_cluster.submit import SubmitRate
    from remote.sandbox import Transport

FILES_LAG_S = 2.0
"""How much later than the end of a job the word of its worker that it ended may be seen here."""
FILES_LIMIT_S = 60.0
"""How much later than that word the last files of a worker that ended well may be seen here."""
VERDICT_LIMIT_S = 60.0
"""How long Slurm may take to say how a job ended whose worker did."""
OWN_END_LIMIT_S = 2.0
"""How long a job may take to be over after the last line of its script."""
ADOPT_LIMIT_S = 30.0


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
        warn: Told what the user should know though the run goes on.
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
        warn: Callable[[str], None],
    ) -> None:
        self.place = Place(config.shared_dir, token, session_dir)
        self.work_dir = PurePosixPath(self.place.root)
        self.python = python
        self.reads_in_place: dict[str, str] = {}
        self.queue_timeout_s = config.queue_timeout_s
        self.restarts = 0
        self._config, self._board, self._rate = config, board, rate
        self._token, self._session_id, self._name, self._warn = token, session_id, name, warn
        self._key = new_key()
        self._lock = threading.Lock()
        self._job_id: str | None = None
        self._made = self._submitted = self._stopped = False
        self._is_only_job = self._told_held = False
        self._ended_s: float | None = None
        self._left_s: float | None = None
        self._pulse = Pulse(self.place, config.forgotten_s)

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
            argv = ["sbatch", *options, str(script), str(self.place.root)]
            try:
                submitted = submit(argv, self._token, self._key, self._warn)
            except SandboxError as exc:
                self._submitted = isinstance(exc, ControllerSilent)  # else Slurm said that there is no job
                raise
            self._job_id, self._is_only_job = submitted.job_id, submitted.is_only_one
        self._board.watch(self._job_id)
        return self._job_id

    def adopt(self, native_id: str | None) -> bool:
        self._job_id = native_id or self._find_job()
        self._made, self._submitted = True, self._job_id is not None
        if self._job_id is None or not self.place.root.is_dir():
            return False  # it was never handed in, or somebody took its folder away
        self._board.watch(self._job_id)
        self._see_who_began()
        self._see_restarts()
        return True

    def _find_job(self) -> str | None:
        """The run's job, by the token alone."""
        return find_again(self._token, ADOPT_LIMIT_S)

    def _others(self) -> list[str]:
        """Further jobs that came of the run's submission, and are not over."""
        return [job.job_id for job in our_jobs(active=True) if job.token == self._token and job.job_id != self._job_id]

    # Followed.

    def is_queued(self) -> bool:
        if self._see_who_began():
            return False
        state = self._look()
        if state is None:
            return True
        if state.never is not None:
            message = never_runs(self._id, state.never)
            raise SandboxError(message, failure_class=FailureClass.RESOURCE_DENIED, details={"reason": state.never})
        if state.is_held and not self._told_held:
            self._told_held = True
            self._warn(is_held(self._id, state.reason))
        return state.stage is Stage.QUEUED

    def is_alive(self) -> bool:
        code = self.place.exit_code(self.restarts)
        if code is not None:
            return code == 0 and self._files_may_be_late()
        self._left_s = None
        before = self.restarts
        self._see_restarts()
        state = self._look()
        if self.restarts > before:
            self.restarts = before  # that it was started again is for `fate` to say
            return False
        if state is None or state.stage is not Stage.ENDED:
            self._ended_s = None
            return True
        ended = self._id
        self._see_who_began()
        if self._id != ended:
            return True
        self._ended_s = self._ended_s or time.monotonic()
        return time.monotonic() - self._ended_s < FILES_LAG_S

    def _files_may_be_late(self) -> bool:
        """A worker that ended well wrote everything down; whoever still misses something may come to see it."""
        self._left_s = self._left_s or time.monotonic()
        return time.monotonic() - self._left_s < FILES_LIMIT_S

    def reconnect(self) -> Transport:
        place = self.place.current(self.restarts)
        stderr = folders.STDERR_FILE if has_own_words(self._config) else str(self.place.root / JOB_OUTPUT)
        return FileTransport(FolderFiles(place), self.is_alive, stderr)

    def get(self, folder: str) -> Iterator[bytes]:
        path = self.place.current(self.restarts) / folder
        return pack_stream(path, folder) if self.place.has_results(self.restarts) else iter(())

    def standing(self) -> str:
        state = self._look()
        return state.standing(self._id) if state is not None else ""

    @property
    def node(self) -> str:
        """Where the last start of the worker began; empty before."""
        return (self.place.began(self.restarts) or ("", ""))[0]

    @property
    def _id(self) -> str:
        assert self._job_id is not None
        return self._job_id

    def _look(self, *, fresh: bool = False) -> JobState | None:
        return self._believed(self._board.look(self._id, fresh=fresh))

    def _believed(self, state: JobState | None) -> JobState | None:
        """What Slurm says; nothing where it has forgotten a job whose worker is heard of."""
        if state is None or state.state != FORGOTTEN:
            return state
        return None if self._pulse.beats(self.restarts) else state

    def _see_who_began(self) -> bool:
        """Whether the worker began. Of two jobs that came of one submission the first has the run."""
        began = self.place.began(self.restarts)
        if began is None:
            return False
        if began[1] and began[1] != self._job_id:
            self._job_id, self._is_only_job = began[1], False
            self._board.watch(self._job_id)
        return True

    def _see_restarts(self) -> None:
        """Slurm says how often it started the job again; so does a folder that a later start made."""
        state = self._look()
        if state is not None and state.restarts > self.restarts:
            self.restarts = state.restarts
            with suppress(OSError):  # its node makes it too
                self.place.restart_begins(self.restarts)
        while self.place.began(self.restarts + 1) is not None:
            self.restarts += 1

    # Its end.

    def fate(self) -> Fate:
        if self._job_id is None:
            return Fate(running=False, message="the job was never submitted")
        self._see_who_began()
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
                return self._fate_of(verdict(state, self._id), code)
            if code is None and (state is None or state.stage is Stage.RUNNING):
                return Fate(running=True)
            if time.monotonic() > deadline_s:  # the worker ended, and Slurm does not say a word
                return self._fate_of(None, code)
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, 1.0)

    def _fate_of(self, state: JobState | None, code: int | None) -> Fate:
        code = self.place.exit_code(self.restarts) if code is None else code
        return fate_of(self._id, self.node, state, code)

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
        """No process of the job, or of another one that came of its submission, is alive on return."""
        if not self._submitted:
            return
        try:
            if self._job_id is None:
                self._job_id = self._find_job()
            left = [] if self._is_only_job else self._others()
        except ControllerSilent as exc:
            raise SandboxError(f"whether there is a job of this run is not known: {exc} (osiris runs gc)") from exc
        if self._job_id is not None and not (
            self.place.exit_code(self.restarts) is not None and self._ends_by_itself()
        ):
            left.append(self._job_id)
        cancel_jobs(left)

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
