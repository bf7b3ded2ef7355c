"""How far a run is, and how far it may get from there."""

from __future__ import annotations

from enum import StrEnum


class Phase(StrEnum):
    """How far the run of one session directory is."""

    NEW = "new"
    PREPARED = "prepared"
    EXECUTING = "executing"
    EXECUTED = "executed"
    COLLECTED = "collected"


NEXT_PHASES = {
    Phase.NEW: {Phase.PREPARED, Phase.EXECUTING},  # executing: what was prepared elsewhere, and came here as JSON
    Phase.PREPARED: {Phase.PREPARED, Phase.EXECUTING},
    Phase.EXECUTING: {Phase.EXECUTED},
    Phase.EXECUTED: {Phase.COLLECTED},
    Phase.COLLECTED: {Phase.COLLECTED, Phase.PREPARED},  # collect may be repeated, a session run again
}
"""Which phase may follow which."""
