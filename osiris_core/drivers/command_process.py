"""Runs one command in a session of its own, from start to the end of the last process it left behind."""

from __future__ import annotations

import os
import resource
import secrets
import select
import subprocess
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from osiris_core.drivers.command_config import STEP_TOKEN
from osiris_core.drivers.command_output import OutputLog
from osiris_core.memory_evidence import peak_rss_bytes
from osiris_core.process_tree import ProcessTree

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from osiris_core.step_context import StepContext

CANCEL_GRACE_S = 3.0
"""Between TERM and KILL when the step is stopped; less than the grace that the step itself has."""

LEFTOVER_GRACE_S = 1.0
"""Between TERM and KILL for what a finished command left running."""

LINGER_S = 0.2
"""How long what a finished command left may end by itself: a `tee` that still has to write its last line."""

FIRST_SAMPLE_S, SAMPLE_S = 0.01, 0.25
"""Between two looks at the memory of the running command."""

MAX_DRAIN_READS = 256
"""How much is still read when all members are dead: far more than pipes hold, and an end in any case."""


SPAWNING = threading.Lock()
"""Held while writing ends are open that only one child may have: another child that is forked would have them too."""
os.register_at_fork(after_in_child=SPAWNING._at_fork_reinit)  # type: ignore[attr-defined] # as `logging` does it


@dataclass(frozen=True)
class Finished:
    """
    How a command ended: `exit_code`, negative for a signal; peak memory; tails of its output, masked.

    `oom_kills` is how many processes the kernel killed meanwhile for lack of memory, where the command itself was
    killed; None when nobody can tell.
    """

    exit_code: int
    peak_rss_bytes: int
    stdout_tail: str
    stderr_tail: str
    oom_kills: int | None = None


@dataclass
class Child:
    """A child process as `subprocess` shows one, as far as it is used here."""

    pid: int
    stdout: IO[bytes]
    stderr: IO[bytes]
    returncode: int | None = None


class CommandProcess:
    """
    One run of one command. Standard output and error are pumped by the calling thread.

    On return of `run`, and when it raises, no process of the command is alive.
    """

    def __init__(self, ctx: StepContext, *, follow: bool, keep: bool = True) -> None:
        self._ctx = ctx
        self._follow = follow
        self._keep = keep
        self._logs: list[OutputLog] = []
        self.started = False

    def run(self, argv: Sequence[str], cwd: Path, environment: Mapping[str, str], stdin: str | None) -> Finished:
        """
        Start `argv` and wait for its end; a cancel of the step ends it early.

        Raises:
            OSError: It cannot be started, or its output cannot be written.
        """
        with ExitStack() as cleanup:
            self._start(cleanup, argv, cwd, environment, stdin)
            self._pump_until_exit()
            self._end_leftovers()
            for log in self._logs:
                log.finish()
            return self._reap()

    def _start(
        self, cleanup: ExitStack, argv: Sequence[str], cwd: Path, environment: Mapping[str, str], stdin: str | None
    ) -> None:
        token = secrets.token_hex(16)
        with ExitStack() as ours:
            ours.enter_context(SPAWNING)
            alive_read, alive_write = os.pipe2(os.O_CLOEXEC)
            cleanup.callback(os.close, alive_read)
            ours.callback(os.close, alive_write)
            source = subprocess.DEVNULL if stdin is None else _text_file(stdin)
            if stdin is not None:
                ours.callback(os.close, source)
            process = self._spawn(argv, cwd, {**environment, STEP_TOKEN: token}, source, alive_write)
        self.started = True
        assert process.stdout is not None
        assert process.stderr is not None
        cleanup.callback(process.stdout.close)
        cleanup.callback(process.stderr.close)
        self._process = process
        self._pid = process.pid
        pipes = (alive_read, process.stdout.fileno(), process.stderr.fileno())
        self._tree = ProcessTree(process.pid, f"{STEP_TOKEN}={token}", [os.fstat(fd).st_ino for fd in pipes])
        cleanup.callback(self._abandon)
        self._floor_bytes = _own_peak_bytes()
        self._sampled_bytes = peak_rss_bytes(process.pid)
        self._logs = [
            OutputLog("stdout", process.stdout.fileno(), self._ctx, follow=self._follow, keep=self._keep),
            OutputLog("stderr", process.stderr.fileno(), self._ctx, follow=self._follow, keep=self._keep),
        ]
        self._open: dict[int, OutputLog | None] = {log.fd: log for log in self._logs}
        self._open[alive_read] = None
        self._poll = select.poll()
        for log in self._logs:
            self._poll.register(log.fd, select.POLLIN)
        self._alive_fd = alive_read
        self._exit_fd = _exit_fd(process.pid)
        cleanup.callback(os.close, self._exit_fd)
        self._ctx.on_cancel(lambda: self._tree.terminate(CANCEL_GRACE_S))

    def _spawn(
        self, argv: Sequence[str], cwd: Path, environment: Mapping[str, str], stdin: int, alive: int
    ) -> Child | subprocess.Popen[bytes]:
        """A child in a session of its own, that alone has the writing end `alive`, and pipes for its output."""
        return subprocess.Popen(
            argv,
            cwd=cwd,
            env=environment,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
            pass_fds=(alive,),
        )

    def _pump_until_exit(self) -> None:
        self._poll.register(self._exit_fd, select.POLLIN)
        # Soon at first, because a short command has no other chance to be seen; then ever less often.
        pause_s = FIRST_SAMPLE_S
        sample_at_s = time.monotonic() + pause_s
        exited = False
        while not exited:
            for fd, _ in self._poll.poll(pause_s * 1000):
                exited = exited or fd == self._exit_fd
                self._take(fd)
            if time.monotonic() >= sample_at_s:
                self._sampled_bytes = max(self._sampled_bytes, peak_rss_bytes(self._pid))
                pause_s = min(pause_s * 1.5, SAMPLE_S)
                sample_at_s = time.monotonic() + pause_s
        self._poll.unregister(self._exit_fd)
        # From here on the end of this pipe counts too: nobody below us holds it any more.
        self._poll.register(self._alive_fd, select.POLLIN)

    def _take(self, fd: int) -> None:
        if fd not in self._open:
            return
        log = self._open[fd]
        # The pipe that nobody writes to becomes readable at its end; a child that does write to it is not listened to.
        if not (log.pump() if log is not None else os.read(fd, 1 << 16)):
            self._poll.unregister(fd)
            del self._open[fd]

    def _pump_while_open(self, deadline_s: float) -> None:
        """Pump until every pipe was let go by everybody, or until the deadline."""
        while self._open and not self._ctx.cancelled and (left_s := deadline_s - time.monotonic()) > 0:
            for fd, _ in self._poll.poll(left_s * 1000):
                self._take(fd)

    def _end_leftovers(self) -> None:
        """End what the command left in the background, and say so."""
        deadline_s = time.monotonic() + LINGER_S
        self._pump_while_open(deadline_s)
        gone = self._tree.is_gone()
        while not gone and not self._ctx.cancelled and time.monotonic() < deadline_s:
            time.sleep(0.005)
            gone = self._tree.is_gone()
        if gone and not self._open:
            return
        stopped: list[str] = []
        stopper = threading.Thread(target=lambda: stopped.extend(self._tree.terminate(LEFTOVER_GRACE_S)), daemon=True)
        stopper.start()
        # Their pipes are read on meanwhile: who is blocked on a full one cannot answer TERM.
        while stopper.is_alive():
            if not self._open:
                stopper.join()
            for fd, _ in self._poll.poll(5):
                self._take(fd)
        for _ in range(MAX_DRAIN_READS):
            for fd, _ in (ready := self._poll.poll(0)):
                self._take(fd)
            if not ready:
                break
        if stopped and not self._ctx.cancelled:
            names = ", ".join(stopped)
            self._ctx.log(f"ended what the command left running: {names}", level="warning", processes=stopped)

    def _reap(self) -> Finished:
        # Closing first: once reaped, the pid may be anybody's.
        self._tree.close()
        _, status, usage = os.wait4(self._pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        # Until it replaces its program a child is charged with our own peak. Only what exceeds that is surely its own;
        # below it, what was seen while it ran counts.
        charged_bytes = usage.ru_maxrss << 10
        peak = charged_bytes if charged_bytes > self._floor_bytes else self._sampled_bytes
        tails = [log.tail() for log in self._logs]
        return Finished(self._process.returncode, peak, tails[0], tails[1])

    def _abandon(self) -> None:
        """Leave nothing behind when something else went wrong; after `_reap` there is nothing to do."""
        if self._process.returncode is None:
            try:
                for log in self._logs:
                    log.finish()
            finally:
                self._tree.terminate(0)
                self._tree.close()
                _, status = os.waitpid(self._pid, 0)
                self._process.returncode = os.waitstatus_to_exitcode(status)


def _own_peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def _text_file(text: str) -> int:
    """An open file with this text that has no name: a secret in it touches no disk, and no reader can block us."""
    fd = os.memfd_create("stdin", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(fd), "wb") as file:
        file.write(text.encode("utf-8", "surrogateescape"))
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _exit_fd(pid: int) -> int:
    """A file that becomes readable when the child has ended; it is not reaped by that."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        # A kernel or sandbox without pidfds: a thread waits in its place.
        read_end, write_end = os.pipe2(os.O_CLOEXEC)

        def wait() -> None:
            try:
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            finally:
                os.close(write_end)

        threading.Thread(target=wait, name="osiris-wait", daemon=True).start()
        return read_end
