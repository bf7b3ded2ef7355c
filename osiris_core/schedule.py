"""Which steps may start: the graph of a run, shrinking as steps end. Knows no threads and no clocks."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from osiris_core.plan import StepPlan


class Schedule:
    """Steps become ready when all they wait for is done; ready ones come out in the manifest's order."""

    def __init__(self, steps: Iterable[StepPlan]) -> None:
        self._steps = list(steps)
        self._index = {step.id: index for index, step in enumerate(self._steps)}
        self._waits_for = {step.id: set(step.upstream) for step in self._steps}
        self._followers: dict[str, list[str]] = {step.id: [] for step in self._steps}
        for step in self._steps:
            for upstream in step.upstream:
                self._followers[upstream].append(step.id)
        self._read = {item.from_step for step in self._steps for item in step.inputs.values()}
        self._taken: set[str] = set()
        self._ready = [self._index[step_id] for step_id, waiting in self._waits_for.items() if not waiting]

    def next(self) -> StepPlan | None:
        """The next ready step, which then is no longer ready; None when there is none now."""
        return self._steps[heapq.heappop(self._ready)] if self._ready else None

    def done(self, step_id: str) -> None:
        """A step completed: what waited only for it becomes ready."""
        for follower in self._followers[step_id]:
            waiting = self._waits_for[follower]
            waiting.discard(step_id)
            if not waiting and follower not in self._taken:
                heapq.heappush(self._ready, self._index[follower])

    def take_over(self, step_ids: Iterable[str]) -> None:
        """Steps that need not run: they are done and never become ready. Call before the first `next`."""
        self._taken = set(step_ids)
        for step_id in self._taken:
            self.done(step_id)
        self._ready = [index for index in self._ready if self._steps[index].id not in self._taken]
        heapq.heapify(self._ready)

    def waits_for(self, step_id: str) -> set[str]:
        """What a step still waits for."""
        return self._waits_for[step_id]

    def is_source(self, step: StepPlan) -> bool:
        """Whether a step reads from no other step."""
        return not step.inputs

    def is_sink(self, step: StepPlan) -> bool:
        """Whether no other step reads what a step gives; one may wait for it all the same."""
        return step.id not in self._read
