"""
A process that holds a place and takes run after run: everything is imported once, each run is forked from that.

It reads tickets in its pool's folder, claims one by making a file that only one of all pilots can make, links nothing
between runs, and leaves nothing of a run alive: each has a supervisor of its own, as anywhere else. Pilots of one pool
know nothing of each other.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from osiris_core.rooms import load
from remote import folders
from remote.control_file import ControlFile
from remote.engine_process import become_subreaper, kill_descendants
from remote.order_file import take_key

if TYPE_CHECKING:
    from typing import NoReturn

TICKETS_FILE = "tickets.jsonl"
CLAIMS_FOLDER = "claims"
MIN_PAUSE_S, MAX_PAUSE_S, GROWTH = 0.002, 0.25, 1.05
"""Between two looks at the tickets: short after a run, longer the longer there is none."""
LEAVE_LIMIT_S = 20.0
"""How long runs under way may take to end when the pilot is asked to."""
_PACKAGE = (
    folders.CODE_ZIP,
    folders.PACKAGE_FILE,
    folders.PREPARED_FILE,
    folders.ORDER_FILE,
    folders.INPUTS_FOLDER,
    folders.CODE_FOLDER,
)


def main(pool_dir: str, name: str, slots: int, idle_s: float, ends_in_s: float, drain_s: float) -> NoReturn:
    """
    The whole life of a pilot.

    Args:
        pool_dir: The folder of its pool.
        name: What it is called (its node and its job's id), for whoever looks for its runs.
        slots: How many runs it takes at a time.
        idle_s: How long it waits for one.
        ends_in_s: When its place is taken from it.
        drain_s: How long before that it takes no further run.
    """
    key = take_key()
    assert key is not None, "a pilot is started with the key of its pool"
    _import_everything()
    become_subreaper()
    pilot = Pilot(pool_dir, name, key, slots, idle_s, time.monotonic() + ends_in_s, drain_s)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, pilot.leave)
    try:
        pilot.work()
    finally:
        kill_descendants(lambda: None)
    os._exit(0)


def _import_everything() -> None:
    """What every run needs is in memory on return; runs share it until they write to it."""
    os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"
    from osiris_core.driver import BUILTIN, DriverRegistry

    for module in ("supervisor", "methods", "worker", "engine_job", "last_words", "service"):
        load(f"remote.{module}")
    for driver in BUILTIN:
        with suppress(Exception):  # one that needs what is not installed here
            DriverRegistry.get(driver)
    load("remote.supervisor").worker_packages()
    with suppress(ImportError):
        from cryptography.hazmat.primitives.ciphers import aead  # noqa: F401
    gc.collect()
    gc.freeze()


class Pilot:
    """Claims tickets while it has time, and sees to the runs that it began. See `main`."""

    def __init__(
        self, pool_dir: str, name: str, key: str, slots: int, idle_s: float, ends_s: float, drain_s: float
    ) -> None:
        self._claims = f"{pool_dir}/{CLAIMS_FOLDER}"
        self._tickets = ControlFile(f"{pool_dir}/{TICKETS_FILE}", os.devnull)
        self._name, self._key, self._slots = name, key, slots
        self._idle_s, self._ends_s, self._drain_s = idle_s, ends_s, drain_s
        self._waiting: list[tuple[int, dict[str, Any]]] = []
        self._runs: dict[int, str] = {}
        self._spare: tuple[int, int] | None = None
        self._asked_s: float | None = None
        self._busy_s = time.monotonic()

    def leave(self, *_: object) -> None:
        """Take no further run, and end when those under way have; a signal handler."""
        self._asked_s = self._asked_s or time.monotonic()

    def work(self) -> None:
        """Return when it is asked to, when it has had nothing to do, or when its time is nearly up."""
        pause_s = MIN_PAUSE_S
        while not self._is_over():
            did_something = self._reap()
            self._waiting += [(number, json.loads(text)) for number, text in self._tickets.receive()]
            did_something = self._begin() or did_something
            self._kill_who_must_go()
            if not self._runs and not did_something and self._asked_s is None:
                self._have_spare()
            pause_s = MIN_PAUSE_S if did_something else min(pause_s * GROWTH, MAX_PAUSE_S)
            time.sleep(pause_s)

    def _is_over(self) -> bool:
        now_s = time.monotonic()
        if self._runs:
            self._busy_s = now_s
            return self._asked_s is not None and now_s > self._asked_s + LEAVE_LIMIT_S
        return self._asked_s is not None or self._left_s < self._drain_s or now_s > self._busy_s + self._idle_s

    @property
    def _left_s(self) -> float:
        return self._ends_s - time.monotonic()

    def _begin(self) -> bool:
        """Claim and begin what fits; whether something was claimed."""
        began = False
        kept = []
        for number, ticket in self._waiting:
            if len(self._runs) >= self._slots or self._asked_s is not None:
                kept.append((number, ticket))
                continue
            if self._left_s < self._drain_s + float(ticket["needs_s"]):
                continue  # another one has the time, or will be made
            if self._claim(number):
                self._start(ticket["place"], int(ticket["restarts"]))
                began = True
        self._waiting = kept
        return began

    def _claim(self, number: int) -> bool:
        """Whether the ticket is ours: whoever makes the file has it."""
        try:
            fd = os.open(f"{self._claims}/{number}", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError:
            return False
        os.write(fd, self._name.encode())
        os.close(fd)
        return True

    def _start(self, base: str, restarts: int) -> None:
        place = _made(base, restarts)
        if place is None:
            return  # it was withdrawn
        order = json.dumps([place, restarts]).encode()
        while True:
            self._have_spare()
            assert self._spare is not None
            pid, fd = self._spare
            self._spare = None
            try:
                os.write(fd, order)
            except OSError:  # somebody killed it
                continue
            finally:
                os.close(fd)
            self._runs[pid] = place
            return

    def _have_spare(self) -> None:
        """A child stands ready to become a worker: to fork one takes longer than many a run."""
        if self._spare is not None:
            return
        read_fd, write_fd = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(write_fd)
            text = b""
            while piece := os.read(read_fd, 1 << 16):
                text += piece
            if not text:  # the pilot has left
                os._exit(0)
            place, restarts = json.loads(text)
            _become_worker(place, self._key, restarts, self._name)
        os.close(read_fd)
        self._spare = pid, write_fd

    def _reap(self) -> bool:
        """Write down how runs ended; whether one did. What they left behind, which only a kill can, is ended too."""
        ended = False
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            if self._spare is not None and pid == self._spare[0]:
                os.close(self._spare[1])
                self._spare = None
            if (place := self._runs.pop(pid, None)) is not None:
                ended = True
                if os.WIFSIGNALED(status) and not self._runs:
                    kill_descendants(lambda: None)  # the spare too: its end is seen here as well
                _write(f"{place}/{folders.EXIT_FILE}", str(_exit_code(status)))
        return ended

    def _kill_who_must_go(self) -> None:
        """A run that its host cannot end otherwise is killed with all that is below it."""
        for pid, place in self._runs.items():
            if os.path.exists(f"{place}/{folders.KILL_FILE}"):  # noqa: PTH110 - many times a second
                with suppress(OSError):
                    os.kill(pid, signal.SIGKILL)


def _made(base: str, restarts: int) -> str | None:
    """The folder of a start, with the package in it; None when the run has none any more."""
    if not os.path.isdir(base):  # noqa: PTH112
        return None
    if not restarts:
        return base
    place = f"{base}/{folders.RESTART_PREFIX}{restarts}"
    os.makedirs(place, exist_ok=True)  # noqa: PTH103
    for part in _PACKAGE:
        if os.path.exists(f"{base}/{part}"):  # noqa: PTH110
            with suppress(FileExistsError):
                os.symlink(f"../{part}", f"{place}/{part}")  # noqa: PTH211
    return place


def _become_worker(place: str, key: str, restarts: int, name: str) -> NoReturn:
    """What a forked child does: it is the supervisor of the run in `place` from now on."""
    try:
        os.makedirs(f"{place}/{folders.WORKER_FOLDER}", exist_ok=True)  # noqa: PTH103
        _write(f"{place}/{folders.BEGAN_FILE}", name)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        for fd, path in ((2, f"{place}/{folders.STDERR_FILE}"), (1, os.devnull), (0, os.devnull)):
            opened = os.open(path, os.O_RDONLY if fd == 0 else flags, 0o600)
            os.dup2(opened, fd)
            os.close(opened)
        load("remote.supervisor").supervise(place, os.dup(0), os.dup(1), key, restarts)
    except BaseException:  # noqa: BLE001 - the process ends here; its host finds this text
        import traceback

        traceback.print_exc()
    finally:
        os._exit(1)


def _write(path: str, text: str) -> None:
    """The file has this text, whole; a folder that is gone wants no word."""
    with suppress(OSError):
        with open(f"{path}.new", "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(f"{path}.new", path)  # noqa: PTH105


def _exit_code(status: int) -> int:
    """As a shell has it."""
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
