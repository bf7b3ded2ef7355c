"""What is to be run, in the one form that engine, plan and resume share; and the rules that make a DAG of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any

from osiris_core.errors import Problem
from osiris_core.manifest import InputReference, Manifest, RetryPolicy
from osiris_core.suggestion import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping


@dataclass(frozen=True, slots=True)
class InputPlan:
    """One input: the step it comes from, and which of its outputs (None: the only one)."""

    from_step: str
    key: str | None = None
    optional: bool = False


@dataclass(frozen=True, slots=True)
class StepPlan:
    """One step, with every name in it resolved. `config` holds references where values are secret."""

    id: str
    driver: str
    config: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, InputPlan] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    retry: RetryPolicy | None = None
    timeout_s: float | None = None

    @property
    def upstream(self) -> tuple[str, ...]:
        """Every step that must complete first, each once, in a stable order."""
        return tuple(dict.fromkeys([*(item.from_step for item in self.inputs.values()), *self.needs]))

    def to_json(self) -> dict[str, Any]:
        """The step as a plain mapping, in the native manifest's form."""
        inputs = {
            name: {"from_step": item.from_step, "key": item.key, "optional": item.optional}
            for name, item in self.inputs.items()
        }
        retry = self.retry.model_dump(mode="json") if self.retry else None
        return {
            "id": self.id,
            "driver": self.driver,
            "config": dict(self.config),
            "inputs": inputs,
            "needs": list(self.needs),
            "retry": retry,
            "timeout_s": self.timeout_s,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> StepPlan:
        """The inverse of `to_json`; also takes the seed's minimal steps (`id`, `driver`, `config`)."""
        inputs = {name: InputPlan(**item) for name, item in (data.get("inputs") or {}).items()}
        retry = RetryPolicy.model_validate(data["retry"]) if data.get("retry") else None
        return cls(
            id=data["id"],
            driver=data["driver"],
            config=data.get("config") or {},
            inputs=inputs,
            needs=tuple(data.get("needs") or ()),
            retry=retry,
            timeout_s=data.get("timeout_s"),
        )


def plan_steps(
    manifest: Manifest, outputs: Mapping[str, frozenset[str] | None]
) -> tuple[list[StepPlan], list[Problem]]:
    """
    The steps of a manifest with inputs resolved, in its order, and every problem with ids, references and cycles.

    `outputs` says which outputs a step is known to give (None or absent: unknown until it ran).
    """
    problems: list[Problem] = []
    ids = dict.fromkeys(step.id for step in manifest.steps)
    first: dict[str, int] = {}
    plans: list[StepPlan] = []
    for index, step in enumerate(manifest.steps):

        def report(message: str, key: str, hint: str | None = None, *, at: int = index, of: str = step.id) -> None:
            line = manifest.line_of("steps", at, *key.split("."))
            problems.append(Problem(message, step_id=of, key=key, file=manifest.file, line=line, hint=hint))

        if step.id in first:
            report(f"the id stands twice (first as step #{first[step.id] + 1})", "id")
        first.setdefault(step.id, index)
        inputs: dict[str, InputPlan] = {}
        needs = list(step.needs)
        for name, reference in step.inputs.items():
            resolved = _resolve(reference, ids, outputs)
            if not isinstance(resolved, InputPlan):
                report(resolved[0], f"inputs.{name}", resolved[1])
            elif _never_comes(resolved, outputs.get(resolved.from_step)):
                needs.append(resolved.from_step)  # it only says what is first
            else:
                inputs[name] = resolved
        for need in step.needs:
            if need not in ids:
                report(f"there is no step '{need}'", "needs", did_you_mean(need, ids))
        known = tuple(dict.fromkeys(need for need in needs if need in ids))
        plans.append(StepPlan(step.id, step.driver, step.config, inputs, known, step.retry, step.timeout_s))
    for cycle in _cycles(plans):
        line = manifest.line_of("steps", first[cycle[0]])
        way = " -> ".join([*cycle, cycle[0]])
        message = f"steps wait for each other: {way}" if len(cycle) > 1 else "the step waits for itself"
        problems.append(Problem(message, cycle[0], None, manifest.file, line))
    return plans, problems


def _resolve(
    reference: str | InputReference, ids: Collection[str], outputs: Mapping[str, frozenset[str] | None]
) -> InputPlan | tuple[str, str | None]:
    """The input that a reference means, or (message, hint)."""
    if isinstance(reference, InputReference):
        if reference.from_step not in ids:
            return f"there is no step '{reference.from_step}'", did_you_mean(reference.from_step, ids)
        known = outputs.get(reference.from_step)
        if known is not None and reference.key is not None and not reference.optional and reference.key not in known:
            return _no_output(reference.from_step, reference.key, known)
        if reference.key is None and not reference.optional and (unclear := _unclear(reference.from_step, known)):
            return unclear
        return InputPlan(reference.from_step, reference.key, reference.optional)
    text = reference[2:-1] if reference.startswith("${") and reference.endswith("}") else reference
    # Only what stands before a dot can be a step: the longest first.
    ends = [len(text), *(at for at in range(len(text) - 2, 0, -1) if text[at] == ".")]
    readings = [(text[:end], text[end + 1 :] or None) for end in ends if text[:end] in ids]
    if not readings:
        return f"there is no step '{text}'", did_you_mean(text.split(".")[0], ids) or did_you_mean(text, ids)
    step_id, key = readings[0]
    for other, other_key in readings[1:]:
        if other_key in (outputs.get(other) or ()):
            return f"'{text}' is step '{step_id}' and also an output of '{other}'; write {{from_step: …, key: …}}", None
    known = outputs.get(step_id)
    if known is not None and key is not None and key not in known:
        return _no_output(step_id, key, known)
    if key is None and (unclear := _unclear(step_id, known)):
        return unclear
    return InputPlan(step_id, key)


def _never_comes(item: InputPlan, known: frozenset[str] | None) -> bool:
    """Whether an optional input is of an output that its step is known not to give."""
    return item.optional and item.key is not None and known is not None and item.key not in known


def _unclear(step_id: str, known: frozenset[str] | None) -> tuple[str, str | None] | None:
    """Why an input that names only a step cannot mean one output of it, or None."""
    if known is None or len(known) == 1 or "df" in known:
        return None
    if not known:
        return f"step '{step_id}' gives no output", "to only wait for a step use needs"
    return f"step '{step_id}' gives several outputs; say which is meant", f"it gives {', '.join(sorted(known))}"


def _no_output(step_id: str, key: str, known: frozenset[str]) -> tuple[str, str | None]:
    gives = f"it gives {', '.join(sorted(known))}" if known else "it gives none"
    return f"step '{step_id}' has no output '{key}'", did_you_mean(key, known) or gives


def _cycles(plans: list[StepPlan]) -> Iterator[list[str]]:
    """Rings of steps, each of which the next waits for (the order in which data would flow); no step is in two."""
    graph = {plan.id: set(plan.upstream) for plan in plans}
    while True:
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as exc:
            ring = list(exc.args[1][:-1])
        else:
            return
        start = min(range(len(ring)), key=lambda index: list(graph).index(ring[index]))
        yield ring[start:] + ring[:start]
        graph = {step_id: upstream - set(ring) for step_id, upstream in graph.items() if step_id not in ring}


def execution_waves(plans: Iterable[StepPlan]) -> list[list[StepPlan]]:
    """The steps in waves: each waits only for earlier waves; within a wave as they were written. Needs a DAG."""
    by_id = {plan.id: plan for plan in plans}
    position = {step_id: index for index, step_id in enumerate(by_id)}
    sorter = TopologicalSorter({plan.id: plan.upstream for plan in by_id.values()})
    sorter.prepare()
    waves = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready(), key=position.__getitem__)
        waves.append([by_id[step_id] for step_id in ready])
        sorter.done(*ready)
    return waves


def width(plans: Iterable[StepPlan]) -> int:
    """About how many steps can run at a time: the size of the largest wave."""
    return max((len(wave) for wave in execution_waves(plans)), default=1)
