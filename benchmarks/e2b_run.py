"""What a run in an E2B sandbox costs: its requests, what it takes beside them, and events over a line that breaks."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Any

from benchmarks.drivers import noop_chain
from benchmarks.e2b_far_end import NOT_THERE, FarEnd, far_end
from benchmarks.table import Row, main
from osiris_core import AdapterFactory, ExecutionContext, read_events

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LATENCIES_MS = (0, 50, 100)
NOT_COUNTED = ("info", "timeout")
"""A look at what was granted, beside the run, and the extension of a long run's life."""
STREAMS = "Process/(Start|Connect)$"
EVENT_BYTES = 300
"""About, on the wire; so that cuts are spread over all of it."""


def run(name: str, config: Mapping[str, Any], manifest: dict[str, Any], folder: Path) -> tuple[float, Any]:
    """How long a whole run took beside its steps, and its report."""
    with AdapterFactory.create(name, **config) as adapter:
        started_s = perf_counter()
        report = adapter.run(manifest, ExecutionContext(session_dir=str(folder / "session")))
        took_s = perf_counter() - started_s
    assert report.succeeded, report.error
    return took_s - report.timings["steps_ms"] / 1000, report


def around_steps_s(name: str, config: Mapping[str, Any], steps: int = 5) -> float:
    with TemporaryDirectory() as folder:
        return run(name, config, noop_chain(steps), Path(folder))[0]


def beyond_requests_s(place: FarEnd) -> float:
    """What one run takes beside its steps and its requests' own time."""
    place.ask(act="clear")
    return around_steps_s("e2b", place.config) - place.own_time_s()


def measure_requests(place: FarEnd) -> Iterator[Row]:
    for steps in (1, 50):
        place.ask(act="clear")
        around_steps_s("e2b", place.config, steps)
        kinds = [request["kind"] for request in place.requests() if request["kind"] not in NOT_COUNTED]
        yield Row(f"requests of {steps} steps ({', '.join(kinds)})", f"{len(kinds)}", reach="5")


def measure_events(place: FarEnd, count: int, most_cuts: int) -> Iterator[Row]:
    """All of them, once each, though the stream is reset in between."""
    steps = [{"id": "talk", "driver": "benchmarks.drivers:ChattyDriver", "config": {"events": count}}]
    rates = []
    for cuts in (0, most_cuts):
        place.ask(act="clear")
        if cuts:
            place.ask(cut=[STREAMS, count * EVENT_BYTES // (cuts + 1), cuts])
        with TemporaryDirectory() as name:
            started_s = perf_counter()
            _, report = run("e2b", place.config, {"steps": steps}, Path(name))
            rates.append(count / (perf_counter() - started_s))
            events = read_events(Path(report.session_dir) / "events.jsonl")
            values = [event["value"] for event in events if event["event"] == "metric" and event["name"] == "number"]
        assert values == list(range(count)), f"{len(values)} of {count} events came home"
        streams = sum(request["kind"] in ("start", "reconnect") for request in place.requests())
        assert streams > cuts, f"{streams} streams for {cuts} cuts"
    what = f"{count:,} events with {most_cuts} cuts, none lost, none twice, over none cut: whole run"
    yield Row(what, f"{rates[1]:,.0f}/s", f"{rates[0]:,.0f}/s", rates[1] / rates[0])


def measure(quick: bool) -> Iterator[Row]:
    with far_end() as place:
        if place is None:
            yield Row("e2b: a run", NOT_THERE)
            return
        around_steps_s("e2b", place.config)  # the SDK is imported
        yield from measure_requests(place)
        repeats = 1 if quick else 7
        process_s = median(around_steps_s("process", {}) for _ in range(repeats))
        for latency_ms in (50,) if quick else LATENCIES_MS:
            place.ask(policy={"latency_s": latency_ms / 1000})
            ours_s = median(beyond_requests_s(place) for _ in range(repeats))
            what = f"{latency_ms} ms a request: beside steps and requests' own time, over all that process takes"
            yield Row(what, f"{ours_s:.3f} s", f"{process_s:.3f} s", ours_s / process_s, "0.3 s")
        place.ask(policy={"latency_s": 0.0})
        yield from measure_events(place, *((20_000, 2) if quick else (100_000, 10)))


if __name__ == "__main__":
    main(measure)
