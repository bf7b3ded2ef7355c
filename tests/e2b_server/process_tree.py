"""The living processes of a sandbox, found in /proc: what was started in it, and whatever came of that."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MARK = "E2B_SANDBOX_ID"


class ProcessTree:
    """
    A process belongs to the sandbox if it carries the sandbox's mark in its environment, works in its folder, is of a
    session that was started in it, or descends from one that does.
    """

    def __init__(self, sandbox_id: str, root: Path) -> None:
        self._mark = f"{MARK}={sandbox_id}".encode()
        self._root = os.path.realpath(root)
        self.sessions: set[int] = set()

    def living(self) -> list[int]:
        parents: dict[int, int] = {}
        members: set[int] = set()
        for pid in _pids():
            try:
                state, parent, session = _stat(pid)
                if state in "ZX":
                    continue
                parents[pid] = parent
                if session in self.sessions or self._works_here(pid) or self._is_marked(pid):
                    members.add(pid)
            except OSError:
                continue
        grown = True
        while grown:
            children = {pid for pid, parent in parents.items() if parent in members} - members
            members |= children
            grown = bool(children)
        return sorted(members - {os.getpid()})

    def _works_here(self, pid: int) -> bool:
        folder = os.readlink(f"/proc/{pid}/cwd").removesuffix(" (deleted)")
        return folder == self._root or folder.startswith(self._root + "/")

    def _is_marked(self, pid: int) -> bool:
        return self._mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")

    def kill(self, bound_s: float = 10.0) -> None:
        """
        End them all. Nothing lives on return.

        Raises:
            AssertionError: Something did, after `bound_s`.
        """
        deadline_s = time.monotonic() + bound_s
        while found := self.living():
            assert time.monotonic() < deadline_s, f"these processes of a sandbox do not die: {found}"
            self._signal(found, signal.SIGKILL)
            time.sleep(0.002)

    def stop(self) -> None:
        self._signal(self.living(), signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(self.living(), signal.SIGCONT)

    @staticmethod
    def _signal(pids: list[int], number: signal.Signals) -> None:
        for pid in pids:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdecimal())


def _stat(pid: int) -> tuple[str, int, int]:
    """State, parent and session."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return fields[0], int(fields[1]), int(fields[3])
