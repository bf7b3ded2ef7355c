"""What a conformance check is: something to run on an adapter, and what has to be true of it afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from osiris_core.testing.bench import Bench
    from osiris_core.testing.evidence import Evidence
    from osiris_core.testing.parity_scenario import Scenario

State = Literal["holds", "fails", "gap"]
PYTHON = "python"
"""The tag of checks whose steps are Python drivers."""


@dataclass(frozen=True)
class Check:
    """
    One promise of every adapter. Checks that have the same `run` look at the same evidence: it is run once.

    Attributes:
        name: What it is asked for and named as a gap by.
        promise: What it shows, in a sentence.
        topic: Which part of the contract it belongs to.
        run: Brings about what is looked at, and takes it down. What it raises is a fault.
        faults: What is wrong with that, a sentence each; nothing when the promise is kept.
        tags: What else it can be named as a gap by, together with others.
        scenario: The parity scenario that it is made of; that is run on `local` too.
        limit_s: How long `run` may take at most.
    """

    name: str
    promise: str
    topic: str
    run: Callable[[Bench, Evidence], None]
    faults: Callable[[Evidence], Iterator[str]]
    tags: frozenset[str] = frozenset()
    scenario: Scenario | None = None
    limit_s: float = 120.0

    def gap(self, known_gaps: Mapping[str, str]) -> str | None:
        """Why an adapter with these gaps cannot keep this promise; None when it has to."""
        return next((known_gaps[name] for name in (self.name, *sorted(self.tags)) if name in known_gaps), None)


@dataclass(frozen=True)
class Verdict:
    """What came of one check: `notes` are its faults, or the reason of a gap."""

    check: Check
    state: State
    notes: tuple[str, ...] = ()
    took_s: float = 0.0

    def to_json(self) -> dict[str, Any]:
        check = self.check
        about = {"name": check.name, "promise": check.promise, "topic": check.topic}
        return {**about, "state": self.state, "notes": list(self.notes), "took_s": round(self.took_s, 3)}
