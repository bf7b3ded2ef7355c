"""Ctrl-C and SIGTERM while a run lasts: the first one cancels it, a second Ctrl-C leaves at once."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from osiris_core.cli import exits, stdout

if TYPE_CHECKING:
    from collections.abc import Callable

REPEAT_INTERVAL_S = 0.2
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopSignals:
    """
    While the block runs, these signals call `cancel` with their name instead of ending the process.

    `cancel` is called from a thread: a handler would run in the middle of whatever the main thread does, under
    a lock that `cancel` may want. It is called again until the block ends, so that one that came while the run
    was still being set up is not lost.
    """

    def __init__(self, cancel: Callable[[str], object], on_second: Callable[[], object]) -> None:
        self._cancel = cancel
        self._on_second = on_second
        self._reason: str | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        self._read_fd, self._write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        # The byte is written by C code: also while the main thread is deep inside a library.
        self._wakeup_before = signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        for number in _SIGNALS:
            if number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                continue  # started by nohup
            self._before[number] = signal.signal(number, lambda *_: None)
        self._thread = threading.Thread(target=self._work, name="osiris-signals", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        os.close(self._write_fd)
        self._thread.join()
        os.close(self._read_fd)

    def _work(self) -> None:
        while True:
            ready, _, _ = select.select([self._read_fd], [], [], REPEAT_INTERVAL_S if self._reason else None)
            if ready:
                with suppress(BlockingIOError):
                    numbers = os.read(self._read_fd, 64)
                    if not numbers:
                        return
                    for number in numbers:
                        self._arrived(signal.Signals(number))
            if self._reason:
                self._cancel(self._reason)

    def _arrived(self, number: signal.Signals) -> None:
        if number not in self._before:
            return
        if self._reason is None:
            self._reason = number.name
            again = "; Ctrl-C again leaves at once" if number is signal.SIGINT else ""
            stdout.say(f"osiris: {number.name}: stopping{again}")
        elif number is signal.SIGINT:
            self._on_second()


def leave_at_once(session_dir: str, *, as_json: bool) -> None:
    """
    End this process and what it started now, with a `status.json` that says so. Does not return.

    The journal then has no last event: its one writer is this process's main thread, which is not asked.
    """
    kill_descendants()
    status: dict[str, Any] = {"status": "cancelled"}
    with suppress(Exception):
        status = _write_status(session_dir) or status
    # No stream of Python's from here on: whoever holds its lock may never let go of it.
    with suppress(OSError):
        cursor = b"\x1b[?25h\n" if os.isatty(2) else b""  # the live view hides it
        os.write(2, cursor + b"osiris: left at once; steps were not waited for (osiris runs gc removes the rest)\n")
    if as_json:
        stdout.write_json(status)
    os._exit(exits.CANCELLED)


def _write_status(session_dir: str) -> dict[str, Any] | None:
    """Say in `status.json` that the run was cancelled, if it says that it runs; return what it says then."""
    from pathlib import Path

    from osiris_core.session import SessionLayout, read_json, write_json

    layout = SessionLayout(Path(session_dir))
    run, status = read_json(layout.run_file), read_json(layout.status_file)
    if run is None or run.get("pid") != os.getpid() or status is None or status.get("status") != "running":
        return status
    error = {
        "type": "RunCancelled",
        "message": "the run was cancelled: a second SIGINT, steps were not waited for",
        "failure_class": "cancelled",
        "traceback": "",
        "details": {},
    }
    status = {**status, "status": "cancelled", "session_dir": session_dir, "error": error}
    write_json(layout.status_file, status)
    return status


def kill_descendants() -> None:
    """Kill everything below this process, and what commands have put aside; twice, for what was born meanwhile."""
    if not sys.platform.startswith("linux"):
        return
    from osiris_core.process_scan import descendants, process_entries
    from osiris_core.process_tree import kill_open_trees

    for _ in range(2):
        for entry in descendants([os.getpid()], process_entries()):
            with suppress(OSError):
                os.kill(entry.pid, signal.SIGKILL)
    kill_open_trees()
