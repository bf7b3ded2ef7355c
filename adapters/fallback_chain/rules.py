"""When a run may go on elsewhere: by the class of its failure, and by what its steps may have done. Pure decisions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from osiris_core.driver import is_repeatable
from osiris_core.errors import FailureClass

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from osiris_core.aftermath import Aftermath
    from osiris_core.plan import StepPlan

ANOTHER_PLACE_MAY_HELP = {
    FailureClass.INFRA_LOST: True,  # the place was lost, or could not be had
    FailureClass.PREEMPTED: True,  # it was taken away
    FailureClass.RESOURCE_DENIED: True,  # it has no room: a quota, a full disk
    FailureClass.PROTOCOL: True,  # its worker is not what it should be
    FailureClass.OUT_OF_MEMORY: False,  # the run needs more than it may use; the next place may be this very machine
    FailureClass.USER_ERROR: False,  # it would fail everywhere, later and elsewhere
    FailureClass.TIMEOUT: False,  # its time is used up
    FailureClass.CANCELLED: False,  # nobody wants it
    FailureClass.ADAPTER_BUG: False,  # it is to be seen, not to be passed over
}
"""Every failure class, and whether the next target is tried after it."""

OF_THE_TARGET = frozenset({FailureClass.INFRA_LOST, FailureClass.PREEMPTED, FailureClass.PROTOCOL})
"""Failures that say something about the target; so many in a row open its breaker."""


def perhaps_started(told: Aftermath, steps: Iterable[StepPlan], *, place_is_gone: bool) -> list[str]:
    """The steps that were started, or may be by now, in a place that may still be there and is not heard any more."""
    if place_is_gone or told.ended:
        return told.started
    return [step.id for step in steps]


def unsafe_step(steps: Iterable[StepPlan], started: Collection[str], failure_class: FailureClass) -> str | None:
    """
    The first step that was started and may not run twice; None when all may.

    A step may when its driver says that it changes nothing outside of the run (`repeatable`), or when its own retry
    policy would try it again after this class of failure.
    """
    for step in steps:
        if step.id in started and not is_repeatable(step.driver, step.config):
            policy = step.retry
            if policy is None or policy.attempts == 1 or failure_class not in policy.on:
                return step.id
    return None
