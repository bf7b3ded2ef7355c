"""What a step costs that does nothing, journal and metrics included, and what an event costs of a step that talks."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

from benchmarks.drivers import ChattyDriver, NoopDriver, noop_chain
from benchmarks.table import Row, main
from osiris_core import AdapterFactory, DriverRegistry, ExecutionContext, RunReport, read_events

if TYPE_CHECKING:
    from collections.abc import Iterator

CHATTY_EVENTS = 10_000


def fan_out(steps: int) -> dict[str, Any]:
    """All steps but the first wait for the first, and run side by side."""
    first = {"id": "first", "driver": "benchmark.noop"}
    return {
        "steps": [
            first,
            *({"id": f"s{n}", "driver": "benchmark.noop", "needs": ["first"]} for n in range(steps - 1)),
        ]
    }


def run_locally(manifest: dict[str, Any], checkpoint: Any) -> tuple[RunReport, float, list[dict[str, Any]]]:
    """The report, the whole run's milliseconds, and the events."""
    with tempfile.TemporaryDirectory() as folder:
        context = ExecutionContext(session_dir=str(Path(folder) / "session"), checkpoint=checkpoint)
        started_s = perf_counter()
        report = AdapterFactory.create("local").run(manifest, context)
        took_ms = (perf_counter() - started_s) * 1000
        assert report.succeeded, report.error
        return report, took_ms, list(read_events(Path(report.session_dir) / "events.jsonl"))


def bare_loop_ms(events: list[dict[str, Any]]) -> float:
    """The yardstick: encode and write the same events, a line at a time, and nothing else."""
    with tempfile.NamedTemporaryFile() as file:
        started_s = perf_counter()
        for event in events:
            os.write(file.fileno(), (json.dumps(event) + "\n").encode())
        return (perf_counter() - started_s) * 1000


def measure_steps(what: str, manifest: dict[str, Any], checkpoint: str, repeats: int) -> Iterator[Row]:
    count = len(manifest["steps"])
    engine, whole, bare = [], [], []
    for _ in range(repeats):
        report, took_ms, events = run_locally(manifest, checkpoint)
        engine.append(report.timings["steps_ms"] / count)
        whole.append(took_ms / count)
        bare.append(bare_loop_ms([event for event in events if event["event"].startswith("step.")]) / count)
    yardstick = median(bare)
    ours = median(engine)
    label = f"{what}, {count:,} steps, checkpoint {checkpoint}"
    yield Row(f"{label}: a step", f"{ours:.4f} ms", f"{yardstick:.4f} ms", ours / yardstick, "0.1 ms, then 0.05")
    total = median(whole)
    yield Row(f"{label}: with prepare and collect", f"{total:.4f} ms", f"{yardstick:.4f} ms", total / yardstick)


def measure_events(events: int, repeats: int) -> Iterator[Row]:
    manifest = {"steps": [{"id": "talk", "driver": "benchmark.chatty", "config": {"events": events}}]}
    ours, bare = [], []
    for _ in range(repeats):
        report, _, found = run_locally(manifest, "never")
        ours.append(report.timings["steps_ms"] / events * 1000)
        bare.append(bare_loop_ms([event for event in found if event["event"] == "metric"]) / events * 1000)
    ratio = median(ours) / median(bare)
    yield Row(f"an event of a step with {events:,}", f"{median(ours):.2f} µs", f"{median(bare):.2f} µs", ratio)


def measure(quick: bool) -> Iterator[Row]:
    DriverRegistry.register("benchmark.noop", NoopDriver)
    DriverRegistry.register("benchmark.chatty", ChattyDriver)
    repeats = 1 if quick else 5
    sizes = (20,) if quick else (1_000, 10_000)
    run_locally(noop_chain(2, "benchmark.noop"), "never")  # imports are the other benchmarks' affair
    for checkpoint in ("auto", "never"):
        for size in sizes:
            yield from measure_steps("chain", noop_chain(size, "benchmark.noop"), checkpoint, repeats)
    yield from measure_steps("fan-out", fan_out(sizes[0]), "auto", repeats)
    yield from measure_events(100 if quick else CHATTY_EVENTS, repeats)


if __name__ == "__main__":
    main(measure)
