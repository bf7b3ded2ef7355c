"""Events of one talkative step through a worker's pipe, in the journal at both ends; none may be lost."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Any

from benchmarks.docker_engine import NOT_THERE, docker_place
from benchmarks.table import Row, main
from osiris_core import AdapterFactory, ExecutionContext, read_events

if TYPE_CHECKING:
    from collections.abc import Iterator


def events_per_s(name: str, config: dict[str, Any], count: int) -> float:
    """How many events a second came home, counted from `execute` to the last one; start of the worker included."""
    steps = [{"id": "talk", "driver": "benchmarks.drivers:ChattyDriver", "config": {"events": count}}]
    with TemporaryDirectory() as folder, AdapterFactory.create(name, **config) as adapter:
        context = ExecutionContext(session_dir=str(Path(folder) / "session"))
        prepared = adapter.prepare({"steps": steps}, context)
        started_s = perf_counter()
        adapter.execute(prepared, context)
        took_s = perf_counter() - started_s
        report = adapter.collect(prepared, context)
        values = [
            event["value"]
            for event in read_events(Path(report.session_dir) / "events.jsonl")
            if event["event"] == "metric" and event["name"] == "number"
        ]
        assert values == list(range(count)), f"{len(values)} of {count} events came home"
    return count / took_s


def measure(quick: bool) -> Iterator[Row]:
    count = 1_000 if quick else 500_000
    places: dict[str, dict[str, Any] | None] = {"process": {}, "docker": None}
    if (docker := docker_place()) is not None:
        places["docker"] = docker.config
    local = events_per_s("local", {}, count)
    for name, config in places.items():
        if config is None:
            yield Row(f"{name}: events through the pipe", NOT_THERE)
        else:
            ours = events_per_s(name, config, count)
            what = f"{name}: {count:,} events, journalled at both ends, over local's one journal"
            yield Row(what, f"{ours:,.0f}/s", f"{local:,.0f}/s", ours / local, "50,000/s")


if __name__ == "__main__":
    main(measure)
