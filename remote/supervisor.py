"""
A worker's supervisor: forks the engine first, then owns the wire, the deadlines and the end of every process below it.

It has no thread and never waits for anybody, so that it answers while the engine's C code holds the GIL, is stopped,
or is dead, and while the host does not read. Nothing but the standard library is imported before `hello` is out.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import sys
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from osiris_core import __version__
from osiris_core.rooms import load
from remote import folders
from remote.control_file import ControlFile
from remote.engine_process import EngineProcess, become_subreaper
from remote.order_file import ORDER_ID, RESTARTS_VARIABLE, OrderError, clear_up, is_superseded, read_order, take_key
from remote.protocol import PROTOCOL_VERSION, WORKER_PACKAGES, ErrorCode, encode, error, notification
from remote.service import WorkerService
from remote.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

TICK_S = 0.02
"""Between two looks at the journal while the run lasts."""
IDLE_TICK_S = 0.25
FILES_INTERVAL_S = 0.25
"""Between two looks at the control file."""
SYNC_INTERVAL_S = 1.0
"""How long an event may be seen by nobody on another machine."""
GOODBYE_LIMIT_S = 2.0
"""How long the last answers may take to be read."""


def main(work_dir: str, in_fd: int, out_fd: int) -> NoReturn:
    """The whole life of a worker, from its first line on. The standard streams must be free of the wire already."""
    supervise(work_dir, in_fd, out_fd, take_key(), int(os.environ.pop(RESTARTS_VARIABLE, "0")))


def supervise(work_dir: str, in_fd: int, out_fd: int, key: str | None, restarts: int) -> NoReturn:
    """As `main`, for a worker whose order `key` opens; None for one that is told to start over its wire."""
    os.makedirs(f"{work_dir}/{folders.WORKER_FOLDER}", exist_ok=True)  # noqa: PTH103 - pathlib comes after `hello`
    # What imports make stays: looking for garbage among it every 700 objects costs 15 ms.
    gc.set_threshold(50_000)
    # Looking for plugins costs as much. User code is loaded when this is gone again (`EngineJob`).
    os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # where it is ignored, nobody learns how a child ended
    engine = EngineProcess(work_dir)
    engine.fork([in_fd, out_fd])
    wire = Wire(in_fd, out_fd)
    files = ControlFile(f"{work_dir}/{folders.CONTROL_FILE}", f"{work_dir}/{folders.REPLIES_FILE}")
    hello = encode(notification("hello", _hello()))
    wire.send(hello)
    files.send(0, hello)
    supervisor = Supervisor(work_dir, engine, wire, files)
    if key is None:
        supervisor.run()
    else:
        try:
            supervisor.run(lambda: read_order(work_dir, key, restarts), lambda: is_superseded(work_dir, restarts))
        finally:
            clear_up(work_dir, restarts)
    os._exit(0)


def _hello() -> dict[str, Any]:
    return {
        "protocol": PROTOCOL_VERSION,
        "version": __version__,
        "python": ".".join(map(str, sys.version_info[:3])),
        "packages": worker_packages(),
        "pid": os.getpid(),
    }


@lru_cache(maxsize=1)
def worker_packages() -> dict[str, str]:
    """Which of the packages that a worker needs are installed here."""
    return installed_versions(list(WORKER_PACKAGES))


def installed_versions(names: list[str]) -> dict[str, str]:
    """The versions of installed packages by the names of their folders; what is not installed is left out."""
    wanted = set(names)
    found: dict[str, str] = {}
    for folder in sys.path:
        try:
            entries = os.listdir(folder)  # noqa: PTH208 - pathlib comes after `hello`
        except OSError:
            continue
        for entry in entries:
            stem, ending = os.path.splitext(entry)  # noqa: PTH122 - as above; and old Pythons are to say hello too
            name, _, version = stem.partition("-")
            name = name.lower().replace("_", "-")
            if name in wanted and version and ending in (".dist-info", ".egg-info"):
                found.setdefault(name, version.partition("-")[0])
    return found


class Supervisor:
    """The loop: requests in, answers and events out, the engine watched. See `main`."""

    def __init__(self, work_dir: str, engine: EngineProcess, wire: Wire, files: ControlFile) -> None:
        self._engine = engine
        self._wire = wire
        self._files = files
        self._files_at_s = self._look_at_s = self._sync_at_s = 0.0
        self._ordered = False
        self._service = WorkerService(work_dir, engine)
        self._dispatch: Callable[[bytes], bytes] | None = None
        self._signalled: int | None = None
        self._wake_fd = -1
        self._watched: tuple[int, ...] = ()

    def run(
        self, order: Callable[[], bytes | None] = lambda: None, is_superseded: Callable[[], bool] = lambda: False
    ) -> None:
        """
        Return when the worker is to leave; nothing below it is alive then.

        `order` gives the start request of a worker that begins by itself; such a one ends when it `is_superseded`.
        """
        self._is_superseded = is_superseded
        become_subreaper()
        self._wake_fd = _wake_up_by_signals()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._note_signal)
        self._dispatch = load("remote.methods").Dispatcher(self._service, self._service.mask)
        import osiris_core.process_scan  # noqa: F401 - to end what is below, also when our code is gone from the disk

        try:
            self._obey(order)
            while not self._service.leaving:
                only_asked = self._wait()
                self._hear()
                if only_asked and time.monotonic() < self._look_at_s:  # the answers first: they are waited for
                    continue
                self._look_at_s = time.monotonic() + TICK_S
                self._follow()
                if self._signalled is not None:
                    self._service.end(signal.Signals(self._signalled).name)
                self._service.watch(heard_of=not self._wire.closed)
            self._say_goodbye()
        finally:
            self._engine.kill()

    def _obey(self, order: Callable[[], bytes | None]) -> None:
        assert self._dispatch is not None
        try:
            if (text := order()) is None:
                return
            self._ordered = True
            answer = self._dispatch(text)
        except OrderError as exc:
            answer = encode(error(ORDER_ID, ErrorCode.PACKAGE_BROKEN, str(exc)))
        self._files.send(0, answer)
        # Nobody could send another order.
        self._service.leaving = not self._service.running

    def _note_signal(self, number: int, _: object) -> None:
        self._signalled = number

    def _wait(self) -> bool:
        """Return when there is something to do; whether that is no more than a request."""
        wire, engine = self._wire, self._engine
        watched = (
            self._wake_fd,
            -1 if wire.closed else wire.in_fd,
            wire.out_fd if wire.pending_bytes and not wire.dead else -1,
            engine.exit_fd if engine.status is None else -1,
        )
        if watched != self._watched:  # seldom; the time between an answer and the next request counts
            self._watched, self._poll = watched, select.poll()
            for fd, event in zip(watched, (select.POLLIN, select.POLLIN, select.POLLOUT, select.POLLIN), strict=True):
                if fd >= 0:
                    self._poll.register(fd, event)
        ready = self._poll.poll((TICK_S if self._service.busy else IDLE_TICK_S) * 1000)
        if any(fd == self._wake_fd for fd, _ in ready):
            os.read(self._wake_fd, 1 << 10)
        return len(ready) == 1 and ready[0][0] == wire.in_fd

    def _hear(self) -> None:
        assert self._dispatch is not None
        if not self._wire.closed:
            for text in self._wire.receive():
                self._service.heard()
                if answer := self._dispatch(text):
                    self._wire.send(answer)
        now_s = time.monotonic()
        if now_s >= self._files_at_s:
            self._files_at_s = now_s + FILES_INTERVAL_S
            if self._ordered and now_s >= self._sync_at_s:
                self._sync_at_s = now_s + SYNC_INTERVAL_S
                self._service.sync_journal()
                if self._is_superseded():
                    self._engine.kill()  # at once: nobody wants a word of it any more
                    self._service.leaving = True
            for number, text in self._files.receive():
                self._service.heard()
                if answer := self._dispatch(text):
                    self._files.send(number, answer)

    def _follow(self) -> None:
        """Tell the host what is new in the journal, as much as it takes; see the rest all the same."""
        self._wire.flush()
        while self._wire.takes_events:
            frames, more = self._service.new_events()
            if frames:
                self._wire.send_frames(frames)
            if not more:
                self._tell()
                return
        self._service.look_ahead()
        if self._wire.dead:
            self._tell()

    def _tell(self) -> None:
        """Say what is due without being asked; what the run came to also for whoever reads the files."""
        for name, params in self._service.unasked():
            message = encode(notification(name, params))
            self._wire.send(message)
            if name == "summary":
                self._files.send(0, message)

    def _say_goodbye(self) -> None:
        if self._service.has_last_word:
            self._tell()  # whoever wrote the last event has it on the disk
        deadline_s = time.monotonic() + GOODBYE_LIMIT_S
        while self._wire.pending_bytes and not self._wire.dead and time.monotonic() < deadline_s:
            select.select([], [self._wire.out_fd], [], 0.1)
            self._wire.flush()


def _wake_up_by_signals() -> int:
    """A file descriptor that can be read once a signal came; else `poll` would sleep on to its end."""
    read_fd, write_fd = os.pipe()
    os.set_blocking(read_fd, False)
    os.set_blocking(write_fd, False)
    signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
    return read_fd
