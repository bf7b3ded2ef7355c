"""What a parity scenario is: a run that every adapter must bring to the same end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from osiris_core.testing.parity_outcome import Outcome

DRIVERS = "osiris_parity_drivers"
"""The module that the scenarios' drivers are in, for whoever runs them."""


def step(
    step_id: str,
    driver: str,
    config: Mapping[str, Any] | None = None,
    inputs: Mapping[str, str] | None = None,
    **keys: Any,
) -> dict[str, Any]:
    """A step of a manifest, `keys` being its others; a driver in capitals is one of `parity_drivers`."""
    place = f"{DRIVERS}:{driver}" if driver[0].isupper() else driver
    return {"id": step_id, "driver": place, "config": dict(config or {}), "inputs": dict(inputs or {}), **keys}


@dataclass(frozen=True)
class Scenario:
    """
    One run, or with `again` two in one session directory.

    Attributes:
        promise: What it shows, in a sentence.
        steps: The manifest's steps; `manifest` names a file instead.
        base_dir: Where `manifest`'s input paths start.
        files: Input files by their path, beside the manifest.
        modules: Modules of the user's own by name, beside the drivers.
        settings: What the caller says about the run (fields of `ExecutionContext`).
        again: The steps of a second run that resumes the first.
        cancel: The step at whose first own event or output the run is cancelled; `before`: before it starts.
        status: How it ends; `refused` when it cannot start.
        check: Raises AssertionError when an outcome is not what it must be, whatever the adapter.
        without_local: Why it cannot run in the caller's own process; then `check` alone decides.
        gap: Why `local` differs in the events that `left_out` names.
        variables: What the caller's environment holds meanwhile; nothing of it is declared.
        secrets: Values that may stand in no file, message and stream.
        marker: In the command line of every process that its steps start; none may be alive afterwards.
        limit_s: How long the run may take at most.
    """

    name: str
    promise: str
    steps: tuple[dict[str, Any], ...] = ()
    manifest: Path | None = None
    base_dir: Path | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)
    modules: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    again: tuple[dict[str, Any], ...] = ()
    cancel: str = ""
    status: str = "completed"
    check: Callable[[Outcome], object] = lambda _: None
    without_local: str = ""
    gap: str = ""
    left_out: Callable[[Mapping[str, Any]], bool] = lambda _: False
    variables: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    marker: str = ""
    limit_s: float = 40.0
