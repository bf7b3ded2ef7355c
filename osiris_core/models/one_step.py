"""Runs a manifest of one step through the three phases of an adapter: a model, a postprocessor, a foreign backend."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from osiris_core.context import ExecutionContext
from osiris_core.driver import DriverRegistry
from osiris_core.errors import OsirisError, PreparationError, classify

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from osiris_core.adapter import ExecutionAdapter
    from osiris_core.report import RunReport


MEMORY_BUDGET_BYTES = 64 << 20
"""For tables, of which such a step has none."""


@dataclass(frozen=True)
class OneStep:
    """
    What came of it: a report, or the reason why there is none.

    `phase` is the one that decided: the last for a run that completed.
    """

    phase: Literal["prepare", "execute", "collect"]
    report: RunReport | None = None
    refused: OsirisError | OSError | None = None

    @property
    def status(self) -> str:
        return self.report.status if self.report is not None else "failed"

    @property
    def error(self) -> str | None:
        """Why it did not complete, in words."""
        if self.report is None:
            return str(self.refused)
        return None if self.report.error is None else str(self.report.error["message"])

    @property
    def details(self) -> dict[str, Any]:
        """The facts of a failure: `exit_code` or `signal`, and the end of the output."""
        error = self.report.error if self.report is not None else None
        return dict((error or {}).get("details") or {})

    @property
    def failure_class(self) -> str | None:
        if self.refused is not None:
            return str(classify(self.refused))
        error = self.report.error if self.report is not None else None
        return None if error is None else str(error["failure_class"])

    @property
    def timings(self) -> dict[str, float]:
        return self.report.timings if self.report is not None else {}


def run_one_step(
    adapter: ExecutionAdapter,
    name: str,
    session_dir: Path,
    step: Mapping[str, Any],
    *,
    timeout_s: float | None,
    environment: Mapping[str, str] | None = None,
) -> OneStep:
    """
    Run a step of id `run` as pipeline `name`. A SIGTERM that would have ended this process ends the step first.

    Raises:
        KeyboardInterrupt: Ctrl-C in the calling thread; the step was stopped first.
    """
    context = ExecutionContext(
        session_id=session_dir.name,
        session_dir=str(session_dir),
        timeout=timeout_s,
        environment=dict(environment or {}),
        checkpoint="never",
        max_parallel_steps=1,
        memory_budget_bytes=MEMORY_BUDGET_BYTES,
    )
    manifest = {"pipeline": name, "steps": [{"id": "run", **step}]}
    try:
        with _at_work(adapter), stopped_first(adapter):
            report = adapter.run(manifest, context)
    except PreparationError as exc:
        return OneStep("prepare", refused=exc)
    except (OsirisError, OSError) as exc:
        return OneStep("execute", refused=exc)
    home = bool(report.steps) and all(record["status"] == "completed" for record in report.steps)
    return OneStep("collect" if home else "execute", report)


def cancel_at_work(reason: str) -> None:
    """Cancel every step of this process that runs now; returns without waiting. For who handles signals himself."""
    for adapter in _working.copy():
        adapter.cancel(reason)


_working: set[ExecutionAdapter] = set()


@contextmanager
def _at_work(adapter: ExecutionAdapter) -> Iterator[None]:
    _working.add(adapter)
    try:
        yield
    finally:
        _working.discard(adapter)


@contextmanager
def registered(driver: type[Any]) -> Iterator[str]:
    """While the block runs, `driver` has the name that is given, which nobody else has."""
    name = f"osiris.{driver.__name__}.{id(driver):x}"
    DriverRegistry.register(name, driver)
    try:
        yield name
    finally:
        DriverRegistry.unregister(name)


@contextmanager
def stopped_first(adapter: ExecutionAdapter) -> Iterator[None]:
    """
    A SIGTERM that would end this process at once cancels the adapter's runs, and ends it when the block is over.

    Only where that can be had: in the main thread, and where nobody handles the signal.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    arrived: list[int] = []

    def cancel(number: int, _: object) -> None:
        arrived.append(number)
        adapter.cancel(signal.Signals(number).name)

    signal.signal(signal.SIGTERM, cancel)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if arrived:
            os.kill(os.getpid(), signal.SIGTERM)
