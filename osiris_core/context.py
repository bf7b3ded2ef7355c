"""What a caller says about one run, the same for every adapter."""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

SURROUNDINGS = {"LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
"""What every step and worker is surrounded by, wherever it is: the same texts, sorted alike, at the same time."""


def new_session_id() -> str:
    """A session id that sorts by time and does not repeat."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"


@dataclass
class ExecutionContext:
    """
    One run's surroundings and limits.

    Attributes:
        session_id: Names the run in every event. Made up when empty.
        session_dir: Where everything of the run is written; `.osiris/sessions/<session_id>` when empty.
        verbose: Log every phase, step and transfer.
        timeout: Seconds that the steps may take; getting a place elsewhere may take as long again. None for no limit.
        environment: Variables declared for the run. The steps get these and no others. Values are secret.
        public_environment: Names of those whose values are no secret.
        params: Values of the manifest's parameters.
        connections: A connections file; looked for when None.
        base_dir: The folder that relative input paths start at; the manifest's own rule when None.
        publish_dir: Copy the declared outputs here, under their own relative paths, when the run completed.
        resume: Take over outputs of an earlier attempt in the same session directory where they still hold.
        max_parallel_steps: How many steps run at a time; the number of processors when None.
        memory_budget_bytes: What tables and steps may use together; a quarter of what the process may when None.
        on_failure: `stop` starts no new step after a failure; `continue` goes on with what does not depend on it.
        checkpoint: Which outputs to keep for a resume: those that are cheap to keep, all, or none.
        trace_rpc: Append every message between host and worker to this file, masked.
        debug_step: Stop in a debugger, on this terminal, when this step starts; its time limits are off.
        notices: What is to be said at the start of the run, as warnings in its events.
        facts: Further entries of the report, as plain JSON.
        earlier_ms: What the run took on other adapters, where it failed; a part of its time, and booked as `earlier`.
    """

    session_id: str = ""
    session_dir: str = ""
    verbose: bool = False
    timeout: float | None = None
    environment: dict[str, str] = field(default_factory=dict, repr=False)
    public_environment: frozenset[str] = frozenset()
    params: dict[str, Any] = field(default_factory=dict)
    connections: str | None = None
    base_dir: str | None = None
    publish_dir: str | None = None
    resume: bool = False
    max_parallel_steps: int | None = None
    memory_budget_bytes: int | None = None
    on_failure: Literal["stop", "continue"] = "stop"
    checkpoint: Literal["auto", "always", "never"] = "auto"
    trace_rpc: str | None = None
    debug_step: str | None = None
    notices: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    earlier_ms: float = 0.0

    def __post_init__(self) -> None:
        if {"/", "\0"} & set(self.session_id) or self.session_id in (".", ".."):
            raise ValueError(f"a session id is a plain name, got {self.session_id!r}")
        self.session_id = self.session_id or (Path(self.session_dir).name if self.session_dir else new_session_id())
        self.session_dir = str(Path(self.session_dir or Path(".osiris") / "sessions" / self.session_id).resolve())
        if self.timeout is not None and not isinstance(self.timeout, (int, float)):
            raise TypeError(f"timeout is a number of seconds, got {self.timeout!r}")
        if self.timeout is not None and not 0 < self.timeout < math.inf:
            raise ValueError(f"timeout must be a positive number of seconds, got {self.timeout}")
        for name in ("max_parallel_steps", "memory_budget_bytes"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, int):
                raise TypeError(f"{name} is a whole number, got {value!r}")
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        for name, known in (("on_failure", ("stop", "continue")), ("checkpoint", ("auto", "always", "never"))):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is one of {', '.join(known)}, got {getattr(self, name)!r}")
        for name, value in self.environment.items():
            if not isinstance(value, str):  # not shown: it may be a secret
                raise TypeError(f"environment[{name!r}] must be text, got {type(value).__name__}")
            if not name or "=" in name or "\0" in name + value:
                raise ValueError(f"environment[{name!r}]: a name has no '=', and neither it nor its value a NUL")
