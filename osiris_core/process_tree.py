"""Everything that one command started: found by parents, session, environment marker and held pipes, and stopped."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from osiris_core.process_scan import Entry, entry_of, has_marker, holds_only_write_ends, process_entries

if TYPE_CHECKING:
    from collections.abc import Iterable

    import psutil

SHORT_S = 1.0
"""Up to this age the processes born since can be told by their pids alone; no machine gives out all pids so fast."""

EXEC_S = 0.0005
"""Longer than a process takes to replace its program."""

UNKILLABLE_S = 5.0
"""How long KILL is repeated. What is alive then sits in an uninterruptible system call."""


class ProcessTree:
    """
    A process, its descendants, and whatever of them tried to get away.

    A member is: the root; every process of its session or process group; every process whose environment holds
    `marker`; every holder of the writing end of one of `pipes`; and all their descendants. Never this process,
    nor one that is older than the root.

    Not found: a process that gave up all of that at once (session, parents, environment and inherited files).

    The root must not be reaped before `close`: its pid, kept by the zombie, is what makes the numbers of its session
    and group trustworthy.

    Args:
        root_pid: A child of this process, leader of its own session.
        marker: `NAME=value` in the root's environment, impossible to guess.
        pipes: Inodes of pipes of which only this tree was given the writing end.
    """

    def __init__(self, root_pid: int, marker: str, pipes: Iterable[int] = ()) -> None:
        self.root_pid = root_pid
        self._marker = marker.encode()
        self._pipes = frozenset(pipes)
        self._started_s = time.monotonic()
        root = entry_of(root_pid)
        self._start = root.start if root else 0
        self._lock = threading.Lock()
        self._closed = False
        _open.add(self)

    def is_gone(self) -> bool:
        """
        Whether nothing is left. True is certain (but for what the class says is not found); False means: look.

        Costs one short read when nobody was born since the root, and imports nothing.
        """
        return not any(self._may_be_ours(pid) for pid in self._born_since())

    def _may_be_ours(self, pid: int) -> bool:
        try:
            session = os.getsid(pid)
        except OSError:
            return False
        # Kernel threads are in session 0, and nobody below the root can be.
        if session == 0 or pid == os.getpid():
            return False
        suspect = session == self.root_pid or self._shows_marker(pid) is not False
        return suspect and (entry := entry_of(pid)) is not None and entry.alive

    def _shows_marker(self, pid: int) -> bool | None:
        shown = has_marker(pid, self._marker)
        if shown is None:
            # A process shows no environment while it is replacing its program: most often somebody else's, just born.
            time.sleep(EXEC_S)
            shown = has_marker(pid, self._marker)
        return shown

    def _born_since(self) -> Iterable[int]:
        """Every pid that may belong to a process younger than the root; many of them of no process at all."""
        last = _last_pid() if time.monotonic() - self._started_s < SHORT_S else None
        if last is not None and last >= self.root_pid:
            return range(self.root_pid + 1, last + 1)
        return [entry.pid for entry in process_entries() if entry.start >= self._start and entry.pid != self.root_pid]

    def members(self) -> list[psutil.Process]:
        """The living members now, the root included; zombies are not alive."""
        return list(self._living())

    def _living(self) -> dict[psutil.Process, Entry]:
        import psutil

        found = {}
        for entry in self._entries():
            try:
                process = psutil.Process(entry.pid)
            except psutil.NoSuchProcess:
                continue
            # psutil has fixed whom it means; if the start time is still the scanned one, it means ours.
            now = entry_of(entry.pid)
            if now is not None and now.start == entry.start and now.alive:
                found[process] = entry
        return found

    def _entries(self) -> list[Entry]:
        me = os.getpid()
        young = [e for e in process_entries() if e.alive and e.start >= self._start and e.pid != me]
        ours = {entry.pid: entry for entry in young if self._is_ours(entry)}
        grown = True
        while grown:
            children = {e.pid: e for e in young if e.parent in ours and e.pid not in ours}
            ours.update(children)
            grown = bool(children)
        return list(ours.values())

    def _is_ours(self, entry: Entry) -> bool:
        return (
            self.root_pid in (entry.pid, entry.session, entry.group)
            or has_marker(entry.pid, self._marker) is True
            or (bool(self._pipes) and holds_only_write_ends(entry.pid, self._pipes))
        )

    def terminate(self, grace_s: float) -> list[str]:
        """
        TERM to every member, KILL to who is left after `grace_s`, repeated until nobody is.

        May be called from several threads and again; the later ones wait, and find nothing. Returns the names and pids
        of who was signalled. What the kernel does not let us kill is left after 5 s; nothing is raised.
        """
        with self._lock:
            if self._closed:
                return []
            stopped: dict[psutil.Process, str] = {}
            deadline_s = time.monotonic() + grace_s
            left = not self._signal(signal.SIGTERM, stopped, deadline_s) if grace_s > 0 else True
            if left:
                self._signal(signal.SIGKILL, stopped, time.monotonic() + UNKILLABLE_S)
            return list(stopped.values())

    def _signal(self, number: signal.Signals, stopped: dict[psutil.Process, str], deadline_s: float) -> bool:
        """Signal every member until none is left (True) or time is up; newcomers too. TERM is sent once to each."""
        asked: set[psutil.Process] = set()
        pause_s, empty = 0.001, 0
        while True:
            living = self._living()
            for process, entry in living.items():
                stopped.setdefault(process, f"{entry.name} (pid {entry.pid})")
                if number is signal.SIGKILL or process not in asked:
                    asked.add(process)
                    self._send(process, number)
            if number is signal.SIGKILL:
                # The kernel does the whole group in one go: nobody can fork away in between, or be born and gone
                # faster than we look.
                _quietly_kill_group(self.root_pid)
            # Nor would a member that is replacing its program be seen: one empty look proves nothing.
            empty = 0 if living else empty + 1
            if empty == 2:
                return True
            if time.monotonic() >= deadline_s:
                return False
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, 0.02)

    @staticmethod
    def _send(process: psutil.Process, number: signal.Signals) -> None:
        import psutil

        try:
            process.send_signal(number)
            if number is signal.SIGTERM:
                process.send_signal(signal.SIGCONT)  # a stopped process does not hear TERM
        except (psutil.Error, OSError):
            return

    def close(self) -> None:
        """Never signal anybody again; call it before the root is reaped. Waits for a `terminate` under way."""
        with self._lock:
            self._closed = True
            _open.discard(self)

    def kill(self) -> None:
        """KILL to every member there is now, at once and waiting for no lock: for a process that leaves."""
        for entry in self._entries():
            with suppress(OSError):
                os.kill(entry.pid, signal.SIGKILL)


_open: set[ProcessTree] = set()


def kill_open_trees() -> None:
    """Kill everything of every tree of this process that was not closed; twice, for what was born meanwhile."""
    for _ in range(2):
        for tree in _open.copy():
            tree.kill()


def _quietly_kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except OSError:
        return


def _last_pid() -> int | None:
    """The pid that was given out last in this pid namespace; None where the kernel does not say."""
    try:
        with open("/proc/sys/kernel/ns_last_pid", "rb", buffering=0) as file:
            return int(file.read(32))
    except (OSError, ValueError):
        return None
