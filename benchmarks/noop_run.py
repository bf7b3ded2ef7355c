"""A run of five steps that do nothing, in a process or container made for it, beside one that only imports there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Any

from benchmarks.docker_engine import NOT_THERE, DockerPlace, docker_place, docker_run
from benchmarks.drivers import noop_chain
from benchmarks.table import Row, main
from benchmarks.timing import ProcessRun, alternate, osiris, python, run_process
from osiris_core import AdapterFactory, ExecutionContext

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

IMPORTS = "import pydantic, pyarrow, duckdb"
STEPS = 5


def timed_run(name: str, config: Mapping[str, Any]) -> ProcessRun:
    """One run by a new adapter, in this process, which has imported what it needs."""
    with TemporaryDirectory() as folder, AdapterFactory.create(name, **config) as adapter:
        context = ExecutionContext(session_dir=str(Path(folder) / "session"))
        started_s = perf_counter()
        report = adapter.run(noop_chain(STEPS), context)
        took_s = perf_counter() - started_s
    assert report.succeeded, report.error
    return ProcessRun(took_s, 0.0, 0.0)


def command_line_run(folder: Path, name: str, config: Mapping[str, Any]) -> ProcessRun:
    """The same as a whole process: `osiris run --adapter …`."""
    manifest, settings, session = folder / "manifest.json", folder / "config.json", folder / "session"
    manifest.write_text(json.dumps(noop_chain(STEPS)))
    settings.write_text(json.dumps(config))
    shutil.rmtree(session, ignore_errors=True)
    options = ("--adapter", name, "--config", settings, "--session-dir", session)
    return run_process(osiris("run", manifest, *options), cwd=folder)


def measure_adapter(name: str, config: Mapping[str, Any], yardstick: list[str | Path], repeats: int) -> Iterator[Row]:
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        candidates: dict[str, Callable[[], ProcessRun]] = {
            "run": lambda: timed_run(name, config),
            "command line": lambda: command_line_run(folder, name, config),
            "imports": lambda: run_process(yardstick, cwd=folder),
        }
        found = alternate(candidates, repeats)
    beside = found["imports"]
    for what, reach in (("run", "+0.15 s" if name == "docker" else "-"), ("command line", "-")):
        ours = found[what]
        more_s = ours.wall_s - beside.wall_s
        label = f"{name}: {STEPS} no-op steps, {what}, over {IMPORTS} there: {more_s:+.3f} s"
        yield Row(label, f"{ours}", f"{beside}", ours.wall_s / beside.wall_s, reach)


def measure(quick: bool) -> Iterator[Row]:
    repeats = 1 if quick else 15
    yield from measure_adapter("process", {}, python("-c", IMPORTS), repeats)
    place: DockerPlace | None = docker_place()
    if place is None:
        yield Row(f"docker: {STEPS} no-op steps", NOT_THERE)
    else:
        yield from measure_adapter("docker", place.config, [*docker_run(place, "-c", IMPORTS)], repeats)


if __name__ == "__main__":
    main(measure)
