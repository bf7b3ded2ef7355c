"""The drivers that benchmarks run; a module of its own, so that they can travel with a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class NoopDriver:
    """Returns at once."""

    def run(self, step_id: str, config: Any, inputs: Mapping[str, Any], ctx: Any) -> None:
        return None


class ChattyDriver:
    """Writes `events` metrics."""

    def run(self, step_id: str, config: Any, inputs: Mapping[str, Any], ctx: Any) -> None:
        for number in range(config["events"]):
            ctx.metric("number", number)


class OneRowDriver:
    """Gives a table of one row, always the same."""

    deterministic = True

    def run(self, step_id: str, config: Any, inputs: Mapping[str, Any], ctx: Any) -> dict[str, Any]:
        import pyarrow as pa

        return {"df": pa.table({"n": [len(inputs)]})}


def noop_chain(steps: int, driver: str = "benchmarks.drivers:NoopDriver") -> dict[str, Any]:
    """A manifest of steps that do nothing, each waiting for the one before."""
    needs = [[f"step-{number - 1}"] if number else [] for number in range(steps)]
    return {"steps": [{"id": f"step-{n}", "driver": driver, "needs": needs[n]} for n in range(steps)]}
