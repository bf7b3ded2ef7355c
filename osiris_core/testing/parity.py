"""Parity scenarios as checks: each really runs on `local` and on the adapter, and what users see of both is equal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from osiris_core.testing.check import PYTHON, Check
from osiris_core.testing.evidence import ended
from osiris_core.testing.parity_compare import differences

if TYPE_CHECKING:
    from collections.abc import Iterator

    from osiris_core.testing.bench import Bench
    from osiris_core.testing.evidence import Evidence
    from osiris_core.testing.parity_scenario import Scenario

TOPIC = "the same everywhere"


def parity_check(scenario: Scenario) -> Check:
    """A run comes to the same end as on `local`: artifacts, events, errors, records; and leaves nothing."""

    def run(bench: Bench, evidence: Evidence) -> None:
        evidence.secrets += scenario.secrets
        evidence.markers += filter(None, [scenario.marker])
        with bench.make() as adapter:
            evidence.outcomes["it"] = bench.stage.run(scenario, adapter, evidence.folder)

    def faults(evidence: Evidence) -> Iterator[str]:
        outcome = evidence.it
        yield from ended(outcome, scenario.status)
        if outcome.status == scenario.status:
            try:
                scenario.check(outcome)
            except AssertionError as exc:
                yield str(exc)
            if outcome.took_s > scenario.limit_s:
                yield f"it took {outcome.took_s:.1f} s, more than {scenario.limit_s:g} s"
        yield from evidence.left()
        yield from evidence.leaks()
        if evidence.reference is not None:
            yield from differences(evidence.reference, outcome, scenario.left_out)

    only_commands = scenario.steps and {step["driver"] for step in scenario.steps} == {"command"}
    return Check(
        name=scenario.name,
        promise=scenario.promise,
        topic=TOPIC,
        run=run,
        faults=faults,
        tags=frozenset() if only_commands else frozenset({PYTHON}),
        scenario=scenario,
    )
