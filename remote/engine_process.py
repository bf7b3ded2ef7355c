"""The supervisor's handle on the engine process: fork it, talk to it, see it end, and leave nothing below alive."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import TYPE_CHECKING, Any

from remote import folders
from remote.output_spool import PrintedOutput

if TYPE_CHECKING:
    from collections.abc import Callable

PR_SET_CHILD_SUBREAPER = 36
KILL_LIMIT_S = 5.0
"""How long KILL is repeated. What is alive then sits in an uninterruptible system call."""


class EngineProcess:
    """
    Attributes:
        pid: The engine's.
        printed: What it prints; shared with it.
        status: Its wait status, once it has ended.
    """

    def __init__(self, work_dir: str) -> None:
        self._work_dir = work_dir
        self.printed = PrintedOutput(f"{work_dir}/{folders.WORKER_FOLDER}")
        self.pid = -1
        self.status: int | None = None
        self._pending = b""

    def fork(self, close_fds: list[int]) -> None:
        """Fork it; it has none of `close_fds`."""
        read_fd, self._control_fd = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            for fd in (*close_fds, self._control_fd):
                os.close(fd)
            # Not ignored: that would be inherited by every command. The supervisor hears these signals for all.
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, lambda *_: None)
            from osiris_core.rooms import load

            load("remote.worker").run_engine(self._work_dir, read_fd, self.printed)
        os.close(read_fd)
        os.set_blocking(self._control_fd, False)
        try:
            self.exit_fd = os.pidfd_open(self.pid)
        except (OSError, AttributeError):  # a kernel or sandbox without pidfds: `reap` is called often enough
            self.exit_fd = -1

    def tell(self, message: dict[str, Any]) -> None:
        """Send it a line; what it does not take now is sent by `flush`."""
        self._pending += json.dumps(message).encode() + b"\n"
        self.flush()

    def flush(self) -> bool:
        """Send on what is held back; whether all is sent."""
        while self._pending:
            try:
                written = os.write(self._control_fd, self._pending)
            except BlockingIOError:
                return False
            except OSError:  # it has ended
                self._pending = b""
                break
            self._pending = self._pending[written:]
        return True

    def reap(self) -> None:
        """Collect every child that ended; `status` is set when the engine is one of them."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                # Nobody is left, and how it ended was not kept for us: its summary says, if it wrote one.
                self.status = 0 if self.status is None else self.status
                return
            if pid == 0:
                return
            if pid == self.pid:
                self.status = status

    def kill(self) -> None:
        """No process below this one is alive on return, the engine included; they are killed, not asked."""
        kill_descendants(self.reap)
        self.reap()


def kill_descendants(reap: Callable[[], object]) -> None:
    """No process below this one is alive on return; KILL is repeated, with `reap` in between."""
    deadline_s = time.monotonic() + KILL_LIMIT_S
    pause_s = 0.001
    while living := _living_below():
        for pid in living:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                continue
        if time.monotonic() > deadline_s:
            return
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, 0.02)
        reap()


def become_subreaper() -> None:
    """From now on, who loses its parent below us becomes our child, not init's."""
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _has_children() -> bool:
    """Whether there is any process below this one; true also where the kernel does not tell."""
    try:
        for task in os.listdir("/proc/self/task"):  # noqa: PTH208 - plain paths, as everywhere in a worker
            with open(f"/proc/self/task/{task}/children", "rb") as file:
                if file.read(1):
                    return True
    except OSError:
        return True
    return False


def _living_below() -> list[int]:
    if not _has_children():
        return []  # as it nearly always is; to look through all processes takes milliseconds
    from osiris_core.process_scan import descendants, process_entries

    return [entry.pid for entry in descendants([os.getpid()], process_entries()) if entry.alive]
