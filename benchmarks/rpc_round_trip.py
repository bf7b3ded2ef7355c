"""One request and its answer, beside a bare echo of the same bytes over the same kind of connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.bare_worker import ECHO, place
from benchmarks.docker_engine import NOT_THERE, docker_place
from benchmarks.round_trips import quantile, times_ms
from benchmarks.table import Row, main
from osiris_core import AdapterFactory
from remote.framing import LF, encode_frame
from remote.protocol import encode, request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from remote.sandbox import Transport

WARM_UP = 100


def echo_trip(transport: Transport) -> Callable[[], None]:
    frame = encode_frame(encode(request(1_000, "heartbeat", {})))

    def trip() -> None:
        transport.send(frame, 5.0)
        while (data := transport.receive(5.0)) is None or not data.endswith(LF):
            continue

    return trip


def measure_adapter(name: str, config: dict[str, Any], count: int) -> Iterator[Row]:
    with AdapterFactory.create(name, **config) as adapter, place(adapter) as ours, place(adapter) as bare:
        client = ours.open_worker()
        echo = echo_trip(bare.open([bare.sandbox.python, "-I", "-c", ECHO]))
        trips: dict[str, Callable[[], Any]] = {"ours": lambda: client.call("heartbeat"), "echo": echo}
        found: dict[str, list[float]] = {key: [] for key in trips}
        for trip in trips.values():
            times_ms(trip, WARM_UP)
        for _ in range(count):  # in turns, one by one: how soon the machine wakes a process depends on what was before
            for key, trip in trips.items():
                found[key] += times_ms(trip, 1)
    for share in (0.5, 0.95):
        own, beside = quantile(found["ours"], share), quantile(found["echo"], share)
        what = f"{name}: request and answer, p{share * 100:.0f}, over a bare echo"
        reach = "2" if (name, share) == ("docker", 0.5) else "-"
        yield Row(what, f"{own:.3f} ms", f"{beside:.3f} ms", own / beside, reach)


def measure(quick: bool) -> Iterator[Row]:
    count = 20 if quick else 3_000
    yield from measure_adapter("process", {}, count)
    docker = docker_place()
    if docker is None:
        yield Row("docker: request and answer", NOT_THERE)
    else:
        yield from measure_adapter("docker", docker.config, count)


if __name__ == "__main__":
    main(measure)
