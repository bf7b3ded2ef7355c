"""Whether anything is heard of a worker, by the files that it writes to."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from remote import turn

if TYPE_CHECKING:
    from adapters.slurm_cluster.place import Place


class Pulse:
    """One for a run; `silence_s` is after how long without a sign nothing is heard."""

    def __init__(self, place: Place, silence_s: float) -> None:
        self._place = place
        self._silence_s = max(silence_s, 2 * turn.HEARTBEAT_S)  # it is asked for a sign of life that often
        self._seen: tuple[int, ...] | None = None
        self._since_s = 0.0

    def beats(self, restarts: int) -> bool:
        """Whether that start's worker wrote anything since it was last looked at, or not long before."""
        now_s = time.monotonic()
        sizes_bytes = (restarts, *self._place.written_bytes(restarts))
        if sizes_bytes != self._seen:
            self._seen, self._since_s = sizes_bytes, now_s
        return now_s - self._since_s < self._silence_s
