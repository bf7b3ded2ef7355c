"""One run of a chain: where it is, where it was before, and how much of its time is left."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from adapters.fallback_chain.target import Target
    from osiris_core.context import ExecutionContext
    from osiris_core.manifest import Manifest
    from osiris_core.prepared import PreparedRun


@dataclass
class Course:
    """
    One run on its way along the chain.

    Attributes:
        tried: The targets that were passed over, with the reason.
        stayed: Why it did not go on elsewhere.
        moved: It is not on its first target any more.
        prepare_ms: What its first target took to prepare it.
        begun_s: When it was started.
        earlier_ms: What it took on the targets that it failed on.
    """

    manifest: str | Path | Mapping[str, object] | Manifest | None
    context: ExecutionContext
    target: Target
    prepared: PreparedRun
    tried: list[dict[str, Any]] = field(default_factory=list)
    stayed: str | None = None
    cancelled: str | None = None
    moved: bool = False
    prepare_ms: float = 0.0
    begun_s: float = 0.0
    earlier_ms: float = 0.0

    def left_s(self) -> float | None:
        """How much of the run's time is left; None without a limit."""
        if self.context.timeout is None:
            return None
        return round(self.context.timeout - (monotonic() - self.begun_s), 3)
