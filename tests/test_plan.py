"""The plan: what a reference means, which rings there are, and an order that respects every need."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osiris_core.manifest import load_manifest
from osiris_core.plan import InputPlan, StepPlan, execution_waves, plan_steps, width

if TYPE_CHECKING:
    from osiris_core.errors import Problem


def plan(
    steps: dict[str, dict[str, Any]], outputs: dict[str, Any] | None = None
) -> tuple[dict[str, StepPlan], list[Problem]]:
    manifest = load_manifest({"steps": [{"id": step_id, "driver": "d", **step} for step_id, step in steps.items()]})
    plans, problems = plan_steps(manifest, {key: frozenset(value) for key, value in (outputs or {}).items()})
    return {item.id: item for item in plans}, problems


STEPS: dict[str, dict[str, Any]] = {"a": {}, "a.b": {}, "a.b.c": {}, "x-y": {}}


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("a", InputPlan("a")),
        ("a.df", InputPlan("a", "df")),
        ("a.b", InputPlan("a.b")),
        ("a.b.df", InputPlan("a.b", "df")),
        ("a.b.c", InputPlan("a.b.c")),
        ("a.b.c.d.e", InputPlan("a.b.c", "d.e")),
        ("a.bb", InputPlan("a", "bb")),
        ("${x-y.df}", InputPlan("x-y", "df")),
        ("${a}", InputPlan("a")),
        ({"from_step": "a", "key": "b"}, InputPlan("a", "b")),
        ({"from_step": "a", "key": "q", "optional": True}, InputPlan("a", "q", True)),
    ],
)
def test_the_longest_step_id_wins(reference: Any, expected: InputPlan) -> None:
    """A reference is read as the longest step id that it starts with; the rest is the output."""
    plans, problems = plan({**STEPS, "z": {"inputs": {"i": reference}}})
    assert problems == []
    assert plans["z"].inputs["i"] == expected


def test_an_optional_input_that_nothing_will_come_of() -> None:
    """It only says what is first, and nobody reads that step."""
    optional = {"from_step": "a", "key": "df", "optional": True}
    plans, problems = plan({"a": {}, "z": {"inputs": {"df_a": optional}, "needs": ["a"]}}, {"a": []})
    assert problems == []
    assert (plans["z"].inputs, plans["z"].needs) == ({}, ("a",))


@pytest.mark.parametrize(
    ("reference", "message", "hint"),
    [
        ("x_y", "there is no step 'x_y'", "did you mean 'x-y'?"),
        ("x_y.df", "there is no step 'x_y.df'", "did you mean 'x-y'?"),
        ("a.", "there is no step 'a.'", "did you mean 'a'?"),
        ("", "there is no step ''", None),
        ("${a", "there is no step '${a'", None),
        ({"from_step": "x_y"}, "there is no step 'x_y'", "did you mean 'x-y'?"),
        ("known.othr", "step 'known' has no output 'othr'", "did you mean 'other'?"),
        ("known.zzz", "step 'known' has no output 'zzz'", "it gives df, other"),
        ({"from_step": "known", "key": "zzz"}, "step 'known' has no output 'zzz'", "it gives df, other"),
        ("mute.x", "step 'mute' has no output 'x'", "it gives none"),
        ("known.sub", "'known.sub' is step 'known.sub' and also an output of 'known'", None),
    ],
)
def test_references_to_nothing_or_to_two(reference: Any, message: str, hint: str | None) -> None:
    """A reference that means nothing, or two things, is a problem of that input with what was probably meant."""
    steps = {**STEPS, "known": {}, "mute": {}, "z": {"inputs": {"i": reference}}}
    outputs = {"known": ["df", "other"], "mute": []}
    if "sub" in str(reference):
        steps["known.sub"], outputs["known"] = {}, ["sub"]
    _, (problem,) = plan(steps, outputs)
    assert (problem.step_id, problem.key) == ("z", "inputs.i")
    assert problem.message.startswith(message)
    assert problem.hint == hint or (hint and hint in str(problem.hint))


@pytest.mark.parametrize(
    ("steps", "ways"),
    [
        ({"a": {"needs": ["a"]}}, ["the step waits for itself"]),
        ({"a": {"inputs": {"i": "a.df"}}}, ["the step waits for itself"]),
        ({"a": {"needs": ["c"]}, "b": {"inputs": {"i": "a"}}, "c": {"needs": ["b"]}}, ["a -> b -> c -> a"]),
        (
            {"c": {"needs": ["b"]}, "b": {"needs": ["a"]}, "a": {"needs": ["c"]}, "d": {"needs": ["a"]}},
            ["c -> a -> b -> c"],
        ),
        (
            {"a": {"needs": ["b"]}, "b": {"needs": ["a"]}, "c": {"needs": ["d"]}, "d": {"needs": ["c"]}},
            ["a -> b -> a", "c -> d -> c"],
        ),
    ],
)
def test_each_ring_is_shown_in_the_order_of_the_data(steps: dict[str, Any], ways: list[str]) -> None:
    """A cycle is shown from its first step on, each waiting for the one before it; two cycles are two problems."""
    _, problems = plan(steps)
    assert [problem.message.removeprefix("steps wait for each other: ") for problem in problems] == ways


def test_duplicates_and_unknown_needs() -> None:
    """An id that stands twice, and a need of nothing, are problems of their steps; needs are kept once."""
    manifest = load_manifest(
        {
            "steps": [
                {"id": "a", "driver": "d"},
                {"id": "a", "driver": "d", "needs": ["b", "b"]},
                {"id": "b", "driver": "d"},
            ]
        }
    )
    plans, problems = plan_steps(manifest, {})
    assert [problem.message for problem in problems] == ["the id stands twice (first as step #1)"]
    assert plans[1].needs == ("b",)
    assert plan({"a": {"needs": ["bb"]}, "b": {}})[1][0].message == "there is no step 'bb'"


DAGS = st.integers(1, 25).flatmap(
    lambda size: st.lists(st.sets(st.integers(0, 24)), min_size=size, max_size=size).map(
        lambda needs: {f"s{n}": sorted(f"s{m}" for m in found if m < n) for n, found in enumerate(needs)}
    )
)


@given(DAGS, st.randoms())
def test_every_order_respects_every_need(dag: dict[str, list[str]], random: Any) -> None:
    """In whatever order steps are written, each wave waits for earlier ones only, and holds each step once."""
    items = list(dag.items())
    random.shuffle(items)
    plans, problems = plan(
        {step_id: {"needs": needs[::2], "inputs": {f"i{n}": n for n in needs[1::2]}} for step_id, needs in items}
    )
    assert problems == []
    waves = execution_waves(plans.values())
    done: set[str] = set()
    written = [step_id for step_id, _ in items]
    for wave in waves:
        assert all(set(item.upstream) <= done for item in wave)
        assert [item.id for item in wave] == sorted((item.id for item in wave), key=written.index)
        done |= {item.id for item in wave}
    assert sum(map(len, waves)) == len(dag) == len(done)
    assert width(plans.values()) == max(map(len, waves))


def test_a_plan_survives_json() -> None:
    """A step goes through JSON and back unchanged; the seed's minimal form is a step too."""
    plans, _ = plan(
        {
            "a": {},
            "b": {
                "config": {"x": [1]},
                "inputs": {"i": "a.df"},
                "needs": ["a"],
                "retry": {"attempts": 2},
                "timeout_s": 5,
            },
        }
    )
    for item in plans.values():
        assert StepPlan.from_json(json.loads(json.dumps(item.to_json()))) == item
    assert StepPlan.from_json({"id": "a", "driver": "d", "config": {}}) == StepPlan("a", "d")


def test_five_thousand_steps() -> None:
    """A long chain, and a step that reads from all others, are resolved in seconds (a bound against quadratic work)."""
    steps: dict[str, Any] = {f"s.{n}": {"inputs": {"df": f"s.{n - 1}.df"}} if n else {} for n in range(5000)}
    steps["all"] = {"inputs": {f"i{n}": f"s.{n}" for n in range(5000)}, "needs": [f"s.{n}" for n in range(5000)]}
    started_s = time.monotonic()
    plans, problems = plan(steps)
    assert problems == []
    assert len(execution_waves(plans.values())) == 5001
    assert time.monotonic() - started_s < 20


def test_hundreds_of_wrong_references() -> None:
    """Suggestions for many mistakes among many steps come in seconds too."""
    started_s = time.monotonic()
    _, problems = plan({f"step-{n}": {"needs": [f"stp-{n}"]} for n in range(600)})
    assert len(problems) == 600
    assert all("did you mean" in str(problem.hint) for problem in problems)
    assert time.monotonic() - started_s < 30


def test_nothing_at_all() -> None:
    """No steps make no waves, and need room for one."""
    assert execution_waves([]) == []
    assert width([]) == 1
