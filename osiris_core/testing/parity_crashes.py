"""Parity scenarios that end the engine's process, or silence it: every adapter but `local` outlives them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from osiris_core.testing.parity_failures import failed_with
from osiris_core.testing.parity_scenario import Scenario, step

if TYPE_CHECKING:
    from collections.abc import Callable

    from osiris_core.testing.parity_outcome import Outcome

_CRASH = "`local` is the engine in the caller's process, which would end with it"
_LOCKED = "`local` is the engine in the caller's process: who holds its interpreter's lock stops it too"
_ABANDONED = "`local` cannot end a thread that does not stop: it is left behind"
_CHILDREN = "`local` cannot tell the children of a Python driver from those of the caller"
_SECONDS = str(32_000_000_000 + os.getpid())


def _true_end(check: Callable[[Outcome], None], status: str = "failed") -> Callable[[Outcome], None]:
    """The report and the journal say what happened to the step, once, and what came before it is kept."""

    def whole_check(outcome: Outcome) -> None:
        check(outcome)
        assert outcome.step("fine")["status"] == "completed", outcome.report["steps"]
        assert outcome.step("dies")["status"] == status, outcome.report["steps"]
        assert outcome.step("next")["status"] == "skipped", outcome.report["steps"]
        assert len(outcome.named("step.error", "dies")) == 1, "the step's end is not told once"
        assert len(outcome.named("steps.error")) == 1, "the end of the steps is not told once"
        assert "fine/sums.txt" in outcome.tree, "what came before did not come home"

    return whole_check


def _dies(name: str, how: str, failure_class: str, *words: str) -> Scenario:
    return Scenario(
        name,
        f"an engine that ends by {how}: a true last event, and what came before is kept",
        (
            step("numbers", "Numbers", {"rows": 5}),
            step("fine", "Sums", inputs={"df": "numbers"}),
            step("dies", "Dies", {"how": how}, needs=["fine"]),
            step("next", "Tells", {"text": ""}, needs=["dies"]),
        ),
        status="failed",
        check=_true_end(failed_with(failure_class, *words, "famous last words")),
        without_local=_CRASH,
    )


def _hangs(name: str, promise: str, driver: str, reason: str, timeout_s: float) -> Scenario:
    return Scenario(
        name,
        promise,
        (
            step("numbers", "Numbers", {"rows": 5}),
            step("fine", "Sums", inputs={"df": "numbers"}),
            step("dies", driver, timeout_s=timeout_s, needs=["fine"]),
            step("next", "Tells", {"text": ""}, needs=["dies"]),
        ),
        status="timeout",
        check=_true_end(failed_with("timeout"), status="timeout"),
        without_local=reason,
        limit_s=20.0,
    )


CRASH_SCENARIOS = (
    _dies("segfault", "segfault", "user_error", "SIGSEGV"),
    _dies("abort", "abort", "user_error", "SIGABRT"),
    _dies("exit", "exit", "user_error", "exit code 3"),
    _dies("killed", "kill", "infra_lost", "SIGKILL"),
    _hangs(
        "holds-the-lock",
        "a step that silences the engine's every thread is ended at its limit",
        "HoldsTheLock",
        _LOCKED,
        1.0,
    ),
    Scenario(
        "stubborn",
        "a driver that does not stop when it is asked to is ended with its process",
        (step("stubborn", "Waits", {"stubborn": True}, timeout_s=0.5),),
        status="timeout",
        check=failed_with("timeout"),
        without_local=_ABANDONED,
        limit_s=20.0,
    ),
    Scenario(
        "children-of-a-driver",
        "processes that a Python driver left behind end with the run, also those that left its session",
        (step("leaves", "LeavesChildren", {"seconds": _SECONDS}),),
        without_local=_CHILDREN,
        marker=_SECONDS,
    ),
)
