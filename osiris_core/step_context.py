"""What a driver gets besides its configuration and inputs: metrics, events, places, surroundings, cancellation."""

from __future__ import annotations

import math
import numbers
import shutil
import time
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from osiris_core.errors import FailureClass, RunCancelled, RunTimeout
from osiris_core.run_pool import RunPool

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from osiris_core.cancellation import CancelToken
    from osiris_core.journal import Origin
    from osiris_core.redaction import Redactor

STANDARD_METRICS = frozenset({"rows_read", "rows_written", "execution_time_ms", "memory_usage_mb"})
PROGRESS_INTERVAL_S = 1.0
LOG_LEVELS = ("debug", "info", "warning", "error")


class StepContext:
    """
    One attempt of one step. Safe to use from any thread the driver starts.

    Once the attempt is over or was given up (its grace after a cancel or timeout has passed), every call that would
    publish something raises `StepFenced`.

    Attributes:
        step_id: The step.
        attempt: 1 for the first try of this step in this run.
        environment: Declared variables plus PATH, HOME, LANG, LC_ALL and TZ; read-only. Nothing else of the
            caller's environment belongs to the step.
        work_dir: A private, empty directory, removed after the step; made on first use.
        memory_budget_bytes: The step's share of the run's memory.
        threads: The step's share of the processors.
        run_key: The same for every try of every step of this run, and of one that resumes it; no other run has it. With
            `step_id` it tells a system outside that a request is a repeated one.
        pool: Where a driver leaves a connection for a later step of the run, and finds one.
        redactor: Masks what the step writes by ways of its own (an output file of a child process).
    """

    def __init__(
        self,
        *,
        step_id: str,
        attempt: int,
        origin: Origin,
        token: CancelToken,
        artifacts_dir: str | os.PathLike[str],
        work_dir: str | os.PathLike[str],
        environment: dict[str, str],
        memory_budget_bytes: int,
        threads: int,
        redactor: Redactor,
        run_key: str = "",
        pool: RunPool | None = None,
    ) -> None:
        self.step_id = step_id
        self.attempt = attempt
        self.environment = MappingProxyType(environment)
        self.memory_budget_bytes = memory_budget_bytes
        self.threads = threads
        self.redactor = redactor
        self.run_key = run_key
        self.pool = pool if pool is not None else RunPool()
        self.standard_metrics: dict[str, float] = {}
        self._origin = origin
        self._token = token
        self._artifacts_dir = artifacts_dir
        self._work_dir = work_dir
        self._last_progress_s = float("-inf")
        self.made_work_dir: Path | None = None
        self._made_artifacts_dir: Path | None = None

    @property
    def artifacts_dir(self) -> Path:
        """Everything left here, at any depth, becomes an artifact of the step. Made on first use."""
        if self._made_artifacts_dir is None:
            folder = Path(self._artifacts_dir)
            self._token.publish(lambda: folder.mkdir(parents=True, exist_ok=True))
            self._made_artifacts_dir = folder
        else:
            self._token.publish(lambda: None)  # it may be fenced by now
        return self._made_artifacts_dir

    @property
    def output_dir(self) -> Path:
        """The same directory under the name that Osiris drivers know."""
        return self.artifacts_dir

    @property
    def work_dir(self) -> Path:
        if self.made_work_dir is None:
            self._token.publish(self._make_work_dir)
        return Path(self._work_dir)

    def _make_work_dir(self) -> None:
        folder = Path(self._work_dir)
        folder.mkdir(parents=True, exist_ok=True)
        self.made_work_dir = folder

    def remove_work_dir(self) -> None:
        """For the engine, when the attempt is over: what is in the work directory is nobody's any more."""
        if self.made_work_dir is not None:
            shutil.rmtree(self.made_work_dir, ignore_errors=True)

    def metric(self, name: str, value: float, /, **tags: Any) -> None:
        """
        Record a number. The standard metrics (`rows_read`, `rows_written`, `memory_usage_mb`) replace what the
        engine counts itself and ride in `step.complete`; any other is a `metric` event.
        """
        if not isinstance(value, (int, float)):
            if not isinstance(value, numbers.Real):
                raise TypeError(f"metric {name!r} must be a number, got {type(value).__name__}")
            value = int(value) if isinstance(value, numbers.Integral) else float(value)  # numpy's
        if name in STANDARD_METRICS:
            if not math.isfinite(value) or value < 0:
                raise ValueError(f"metric {name!r} must be finite and not negative, got {value}")
            self._token.publish(lambda: self.standard_metrics.__setitem__(name, value))
        elif isinstance(tags.get("tags"), dict) and len(tags) == 1:
            self._emit("metric", name=name, value=value, tags=tags["tags"])
        else:
            self._emit("metric", name=name, value=value, tags=tags)

    def log_metric(self, name: str, value: float, /, **tags: Any) -> None:
        """`metric` under the name that Osiris drivers know."""
        self.metric(name, value, **tags)

    def event(self, name: str, /, **data: Any) -> None:
        """Record a fact of the driver's own: a `step.event` with this name and JSON data."""
        self._emit("step.event", name=name, data=data)

    def log(self, message: object, /, level: str = "info", **data: Any) -> None:
        """Record a line for people: a `log` event. `level` is debug, info, warning or error."""
        level = level.lower()
        if level not in LOG_LEVELS:
            raise ValueError(f"a level is one of {', '.join(LOG_LEVELS)}, got {level!r}")
        if data:
            self._emit("log", level=level, message=str(message), data=data)
        else:
            self._emit("log", level=level, message=str(message))

    def progress(self, done: float, total: float | None = None, unit: str = "rows") -> None:
        """Say how far the step is. May be called as often as liked: at most one event a second is written."""
        now_s = time.monotonic()
        if now_s - self._last_progress_s >= PROGRESS_INTERVAL_S:
            self._last_progress_s = now_s
            self._emit("step.progress", done=done, total=total, unit=unit)

    @property
    def cancelled(self) -> bool:
        """Whether the step was asked to stop. A long loop looks here and returns, or calls `raise_if_cancelled`."""
        return self._token.cancelled

    def raise_if_cancelled(self) -> None:
        """Raise `RunCancelled` or `RunTimeout` if the step was asked to stop."""
        if self._token.reason is FailureClass.TIMEOUT:
            raise RunTimeout("the step ran out of time", step_id=self.step_id)
        if self._token.reason is not None:
            raise RunCancelled("the step was cancelled", step_id=self.step_id)

    def on_cancel(self, hook: Callable[[], object]) -> None:
        """Call `hook`, from another thread, when the step is to stop; at once if that was already asked."""
        self._token.on_cancel(hook)

    def _emit(self, event: str, /, **fields: Any) -> None:
        self._token.publish(lambda: self._origin.emit(event, self.step_id, **fields))
