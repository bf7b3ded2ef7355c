"""The schedule: a step comes out once, when all it waits for is done, and ready ones in the manifest's order."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from osiris_core.plan import InputPlan, StepPlan
from osiris_core.schedule import Schedule

DAGS = st.lists(st.sets(st.integers(0, 19)), min_size=1, max_size=20).map(
    lambda found: [
        StepPlan(f"s{n}", "d", needs=tuple(f"s{m}" for m in sorted(needs) if m < n)) for n, needs in enumerate(found)
    ]
)


def drain(schedule: Schedule) -> list[str]:
    found = []
    while (step := schedule.next()) is not None:
        found.append(step.id)
    return found


def test_ready_steps_come_in_the_manifests_order() -> None:
    """However they become ready, the earlier one in the manifest is next."""
    steps = [
        StepPlan("z", "d", needs=("a",)),
        StepPlan("b", "d"),
        StepPlan("a", "d"),
        StepPlan("y", "d", inputs={"i": InputPlan("b")}),
    ]
    schedule = Schedule(steps)
    assert drain(schedule) == ["b", "a"]
    schedule.done("b")
    assert schedule.waits_for("z") == {"a"}
    schedule.done("a")
    assert drain(schedule) == ["z", "y"]
    assert [schedule.is_source(step) for step in steps] == [True, True, True, False]
    assert [schedule.is_sink(step) for step in steps] == [True, False, True, True]


@given(DAGS, st.randoms(use_true_random=False), st.sets(st.integers(0, 19)))
def test_every_step_once_and_never_too_early(steps: list[StepPlan], random: Any, taken: set[int]) -> None:
    """Whatever order steps end in, whichever were taken over: each other runs once, after its needs."""
    needs = {step.id: set(step.upstream) for step in steps}
    done = {step.id for index, step in enumerate(steps) if index in taken}
    schedule = Schedule(random.sample(steps, len(steps)))
    schedule.take_over(done)
    ran: list[str] = []
    running: list[str] = []
    while True:
        while (step := schedule.next()) is not None:
            assert needs[step.id] <= done
            assert schedule.waits_for(step.id) == set()
            ran.append(step.id)
            running.append(step.id)
        if not running:
            break
        ended = running.pop(random.randrange(len(running)))
        done.add(ended)
        schedule.done(ended)
    assert sorted([*ran, *(step.id for index, step in enumerate(steps) if index in taken)]) == sorted(needs)


def test_what_a_failed_step_holds_back_never_comes() -> None:
    """A step that is not done keeps everything behind it waiting."""
    schedule = Schedule([StepPlan("a", "d"), StepPlan("b", "d", needs=("a",)), StepPlan("c", "d", needs=("b",))])
    assert drain(schedule) == ["a"]
    assert drain(schedule) == []
    assert schedule.waits_for("c") == {"b"}
