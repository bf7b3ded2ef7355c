"""A worker on this machine that another process started: found by its token, and watched without being its parent."""

from __future__ import annotations

from time import monotonic, sleep

from adapters.process_worker.gc import token_of
from osiris_core.process_scan import process_entries
from remote.sandbox import Fate

END_LIMIT_S = 0.2
"""How long an end that is just happening is waited for."""


class AdoptedWorker:
    """Its supervisor is whoever shows the token and has a parent that does not; None of that pid when it has ended."""

    def __init__(self, token: str) -> None:
        self._token = token
        self._pid = self._find()

    @property
    def is_alive(self) -> bool:
        """Whether that very process is still there: another one of its number does not show the token."""
        return self._pid is not None and token_of(self._pid) == self._token

    def fate(self) -> Fate:
        """How it is; how it ended is known to its parent alone, and that is dead."""
        deadline_s = monotonic() + END_LIMIT_S
        while self.is_alive:
            if monotonic() >= deadline_s:
                return Fate(running=True)
            sleep(0.005)
        return Fate(running=False, message="the worker process has ended")

    def _find(self) -> int | None:
        ours = {entry.pid: entry for entry in process_entries() if entry.alive and token_of(entry.pid) == self._token}
        return next((pid for pid, entry in ours.items() if entry.parent not in ours), None)
