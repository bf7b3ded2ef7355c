"""A `Sandbox` on a node, over the pipes of srun: nothing need be shared with it, and it ends with this process."""

from __future__ import annotations

import re
import select
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from adapters.slurm_cluster.board import verdict
from adapters.slurm_cluster.errors import ToolMissing, refusal
from adapters.slurm_cluster.options import COMMENT_PREFIX, job_name, resource_options
from adapters.slurm_cluster.removal import cancel_jobs
from adapters.slurm_cluster.script import FAIL, SETUP_FAILED, set_up
from adapters.slurm_cluster.states import Stage, is_held, never_runs
from adapters.slurm_cluster.tools import tool_environment
from osiris_core.errors import FailureClass, RunTimeout
from remote.pipe_transport import PipeTransport
from remote.sandbox import Fate, SandboxError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from adapters.slurm_cluster.board import Board
    from adapters.slurm_cluster.config import SlurmConfig
    from remote.sandbox import Transport

HOLD = """\
set -e
d=$(mktemp -d "${TMPDIR:-/tmp}/osiris-XXXXXXXX")
trap 'rm -rf -- "$d"' EXIT
trap : TERM INT HUP
printf 'osiris %s %s %s\\n' "$SLURM_JOB_ID" "$SLURMD_NODENAME" "$d"
cat >/dev/null
"""
"""Keeps the allocation, and a folder of the node's, until its standard input ends: with whoever has its other end."""
PIECE_BYTES = 1 << 20
END_LIMIT_S, HOLDER_LIMIT_S = 1.0, 5.0


def hold_command(config: SlurmConfig, name: str, token: str) -> list[str]:
    """What gets the allocation and keeps it."""
    return [
        "srun",
        *resource_options(config.model_copy(update={"ntasks": 1})),
        f"--job-name={job_name(config, name)}",
        f"--comment={COMMENT_PREFIX}{token}",
        "bash",
        "-c",
        HOLD,
    ]


class InteractiveSandbox:
    """
    See `remote.sandbox.Sandbox`.

    Args:
        book: Books the time of a block, by its name.
        cancelled: Whether the run was; asked while it waits for its turn.
        warn: Told what the user should know though the run goes on.

    Attributes:
        node: Where it is, once that is known.
    """

    def __init__(
        self,
        config: SlurmConfig,
        board: Board,
        python: str,
        *,
        token: str,
        name: str,
        book: Callable[[str], AbstractContextManager[None]],
        cancelled: Callable[[], bool],
        warn: Callable[[str], None],
    ) -> None:
        self.python = python
        self.work_dir = PurePosixPath("/")
        self.reads_in_place: dict[str, str] = {}
        self._config, self._board = config, board
        self._token, self._name = token, name
        self._book, self._cancelled, self._warn = book, cancelled, warn
        self._told_held = False
        self._lock = threading.Lock()
        self._holder: subprocess.Popen[bytes] | None = None
        self._worker: subprocess.Popen[bytes] | None = None
        self._said = b""
        self._job_id: str | None = None
        self.node = ""

    def start(self) -> str:
        argv = hold_command(self._config, self._name, self._token)
        with self._book("queue"):
            self._holder = _piped(argv)
            self._job_id, self.node, folder = self._turn(self._holder)
        self.work_dir = PurePosixPath(folder)
        self._board.watch(self._job_id)
        return self._job_id

    def _turn(self, holder: subprocess.Popen[bytes]) -> tuple[str, str, str]:
        """Wait for the holder's line."""
        assert holder.stdout is not None
        assert holder.stderr is not None
        started_s = time.monotonic()
        heard = b""
        while True:
            ready, _, _ = select.select([holder.stdout, holder.stderr], [], [], 0.1)
            if holder.stderr in ready:
                self._hear(holder.stderr.read1(PIECE_BYTES))  # type: ignore[attr-defined]
            if holder.stdout in ready:
                heard += (piece := holder.stdout.read1(PIECE_BYTES))  # type: ignore[attr-defined]
                if match := re.search(rb"osiris (\d+) (\S+) (/[^\n]+)\n", heard):
                    job_id, node, folder = (part.decode() for part in match.groups())
                    return job_id, node, folder
                if not piece:
                    holder.wait(END_LIMIT_S)
                    self._hear(holder.stderr.read())
                    raise refusal("srun could not start the worker's place", self._said.decode(errors="replace"))
            if self._cancelled():
                raise SandboxError("the run was cancelled in the queue", failure_class=FailureClass.CANCELLED)
            limit_s = self._config.queue_timeout_s
            if limit_s is not None and time.monotonic() > started_s + limit_s:
                raise RunTimeout(f"srun did not get its turn within {limit_s:g} s (queue_timeout_s)")
            self._see_whether_it_can_run()

    def _hear(self, said: bytes) -> None:
        self._said = (self._said + said)[-4096:]
        if self._job_id is None and (match := re.search(rb"job (\d+) queued", self._said)):
            self._job_id = match[1].decode()
            self._board.watch(self._job_id)

    def _see_whether_it_can_run(self) -> None:
        state = self._board.look(self._job_id) if self._job_id is not None else None
        if state is not None and state.never is not None:
            message = never_runs(str(self._job_id), state.never)
            raise SandboxError(message, failure_class=FailureClass.RESOURCE_DENIED)
        if state is not None and state.is_held and not self._told_held:
            self._told_held = True
            self._warn(is_held(str(self._job_id), state.reason))

    def _step(self, *command: str) -> list[str]:
        """A further step on the node of the allocation."""
        return ["srun", f"--jobid={self._job_id}", "--overlap", "--nodes=1", "--ntasks=1", *command]

    def put(self, archive: Path) -> None:
        with archive.open("rb") as file:
            step = self._step("tar", "-xf", "-", "-C", str(self.work_dir))
            done = subprocess.run(step, env=tool_environment(), stdin=file, capture_output=True, check=False)
        if done.returncode:
            raise refusal(f"files cannot be sent to {self.node}", done.stderr.decode(errors="replace"))

    def open(self, argv: Sequence[str]) -> Transport:
        login = ["-l"] if self._config.modules or self._config.setup else []
        # What these lines print is no message of the worker's.
        lines = f'{FAIL}finish() {{ exit "$1"; }}\nexec 3>&1 1>&2\n{set_up(self._config)}exec "$@" >&3 3>&-'
        with self._lock:
            self._worker = _piped(self._step("bash", *login, "-c", lines, "bash", *argv))
        return _StepTransport(self._worker)

    def adopt(self, native_id: str | None) -> bool:  # noqa: ARG002 - it died with its controller
        return False

    def reconnect(self) -> Transport:
        raise SandboxError("the pipes of srun are gone, and with them the worker (mode job outlives its controller)")

    def get(self, folder: str) -> Iterator[bytes]:
        process = _piped(self._step("tar", "--format=pax", "-cf", "-", "-C", str(self.work_dir), folder))
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            process.stdin.close()
            while piece := process.stdout.read(PIECE_BYTES):
                yield piece
            said = process.stderr.read().decode(errors="replace")
            if process.wait() and "Cannot stat" not in said:  # no engine ran: there is nothing to fetch
                raise refusal(f"the results cannot be fetched from {self.node}", said)
        finally:
            _end(process)

    def fate(self) -> Fate:
        if self._worker is None:
            return Fate(running=False, message="the worker was not started")
        with suppress(subprocess.TimeoutExpired):
            self._worker.wait(END_LIMIT_S)
        code = self._worker.returncode
        if code is None:
            return Fate(running=True)
        facts = {"job_id": self._job_id, "node": self.node}
        if code == SETUP_FAILED:
            message = f"the worker could not be started on {self.node}"
            return Fate(False, code, message=message, failure_class=FailureClass.USER_ERROR, facts=facts)
        state = self._board.look(str(self._job_id), fresh=True)
        if state is not None and state.stage is Stage.ENDED:
            state = verdict(state, str(self._job_id))
        if state is not None and state.failure_class is not None:
            told = state.told(str(self._job_id))
            return Fate(False, code, message=told, failure_class=state.failure_class, facts=facts)
        return Fate(False, code, message=f"the worker on {self.node} ended with exit code {code}", facts=facts)

    def stop(self, *, keep: bool = False) -> str:  # noqa: ARG002 - what is on a node goes with the job
        if self._worker is not None:
            _end(self._worker)
        if self._holder is not None:
            assert self._holder.stdin is not None
            with suppress(OSError):
                self._holder.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                self._holder.wait(HOLDER_LIMIT_S if self.node else 0)
            _end(self._holder)
        if self._job_id is not None:
            cancel_jobs([self._job_id])
            self._board.forget(self._job_id)
        return ""


class _StepTransport(PipeTransport):
    """A worker's pipes, of which srun has the other end."""

    def stderr_tail(self) -> str:
        """Without srun's own words about an end, which come last."""
        return "\n".join(line for line in super().stderr_tail().splitlines() if not line.startswith("srun: "))


def _piped(argv: Sequence[str]) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    try:
        return subprocess.Popen(
            argv, env=tool_environment(), stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
        )
    except FileNotFoundError:
        raise ToolMissing(argv[0]) from None


def _end(process: subprocess.Popen[bytes]) -> None:
    """It has ended and its pipes are closed; srun ends its step when it is asked to."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(HOLDER_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()
