"""
Going on: `attach` after SIGKILL of the controller, to the first replayed event; and a resume with everything cached.

The yardstick of the first is a new run on the same adapter, to its first event; of the second, reading the same journal
and hashing the same kept outputs by hand.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from hashlib import sha256
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Any

from benchmarks.docker_engine import NOT_THERE, docker_place
from benchmarks.table import Row, main
from benchmarks.timing import surroundings
from osiris_core import AdapterFactory, ExecutionContext

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

TALK = "while :; do echo word; sleep 0.02; done"
"""A step that never stops talking: each line is an event."""
WORDS_BEFORE = 50
CONTROLLER = """
import json, sys
from osiris_core import AdapterFactory, ExecutionContext
name, config, manifest, session = sys.argv[1:]
AdapterFactory.create(name, **json.loads(config)).run(json.loads(manifest), ExecutionContext(session_dir=session))
"""


def talking() -> dict[str, Any]:
    return {"steps": [{"id": "talk", "driver": "command", "config": {"argv": ["sh", "-c", TALK]}}]}


def events_in(session: Path) -> int:
    try:
        return (session / "events.jsonl").read_bytes().count(b'"origin":"engine"')
    except OSError:
        return 0


def until(condition: Callable[[], bool], limit_s: float = 60.0) -> None:
    deadline_s = perf_counter() + limit_s
    while not condition():
        assert perf_counter() < deadline_s, "it did not come to that"
        time.sleep(0.002)


def to_first_event(session: Path, work: Callable[[], object], cancel: Callable[[], object]) -> float:
    """The seconds from the call of `work` to one more event of the engine in the journal; `cancel` ends it then."""
    before = events_in(session)
    thread = threading.Thread(target=work)
    started_s = perf_counter()
    thread.start()
    until(lambda: events_in(session) > before)
    took_s = perf_counter() - started_s
    cancel()
    thread.join()
    return took_s


def attached(name: str, config: Mapping[str, Any]) -> tuple[float, float]:
    """To the first replayed event of a run whose controller was killed, and to the first event of a new one."""
    with TemporaryDirectory() as folder, AdapterFactory.create(name, **config) as adapter:
        session, fresh = Path(folder, "killed"), Path(folder, "fresh")
        argv = [sys.executable, "-c", CONTROLLER, name, json.dumps(config), json.dumps(talking()), str(session)]
        controller = subprocess.Popen(argv, env=surroundings())
        until(lambda: events_in(session) > WORDS_BEFORE)
        controller.send_signal(signal.SIGKILL)
        controller.wait()
        time.sleep(0.2)  # words that the dead controller did not hear
        again_s = to_first_event(session, lambda: adapter.attach(session), lambda: adapter.cancel("measured"))
        context = ExecutionContext(session_dir=str(fresh))
        new_s = to_first_event(fresh, lambda: adapter.run(talking(), context), lambda: adapter.cancel("measured"))
    return again_s, new_s


def chain(steps: int) -> dict[str, Any]:
    """Steps that each read the output of the one before, and have one that is kept."""
    inputs: list[dict[str, str]] = [{"t": f"step-{number - 1}"} if number else {} for number in range(steps)]
    driver = "benchmarks.drivers:OneRowDriver"
    return {"steps": [{"id": f"step-{n}", "driver": driver, "inputs": inputs[n]} for n in range(steps)]}


def by_hand(session: Path) -> float:
    """Read the journal, and hash what is kept."""
    started_s = perf_counter()
    for line in (session / "events.jsonl").read_bytes().splitlines():
        json.loads(line)
    for path in (session / "checkpoints").iterdir():
        sha256(path.read_bytes()).hexdigest()
    return perf_counter() - started_s


def resumed(name: str, config: Mapping[str, Any], steps: int, repeats: int) -> tuple[float, float]:
    with TemporaryDirectory() as folder, AdapterFactory.create(name, **config) as adapter:
        session = Path(folder, "session")
        manifest = chain(steps)

        def run(*, resume: bool) -> float:
            context = ExecutionContext(session_dir=str(session), resume=resume, checkpoint="always")
            started_s = perf_counter()
            report = adapter.run(manifest, context)
            took_s = perf_counter() - started_s
            assert report.succeeded
            assert not resume or {step["status"] for step in report.steps} == {"reused"}
            return took_s

        run(resume=False)
        hand_s = median(by_hand(session) for _ in range(repeats))
        return median(run(resume=True) for _ in range(repeats)), hand_s


def measure(quick: bool) -> Iterator[Row]:
    repeats, steps = (1, 50) if quick else (3, 1000)
    place = docker_place()
    for name, config in (("process", {}), ("docker", place.config if place is not None else None)):
        what = f"{name}: attach after SIGKILL, to the first replayed event; beside: a new run, to its first event"
        if config is None:
            yield Row(what, NOT_THERE)
            continue
        found = [attached(name, config) for _ in range(repeats)]
        ours, beside = (median(times) for times in zip(*found, strict=True))
        yield Row(what, f"{ours:.3f} s", f"{beside:.3f} s", ours / beside, "<= 2 s")
    for name in ("local", "process"):
        ours, beside = resumed(name, {}, steps, repeats)
        what = f"{name}: resume of {steps} steps, all cached; beside: journal read and outputs hashed by hand"
        yield Row(what, f"{ours:.3f} s", f"{beside:.3f} s", ours / beside, "<= 1 s" if name == "local" else "-")


if __name__ == "__main__":
    main(measure)
