"""
A model run by `local` beside a bare `subprocess.run` of the same command in the same folder, alternating; the whole
pipeline of generate, run and noop; and 300 MB of output. A callable, `config.run`, has a bare fork as its yardstick.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from benchmarks.table import Row, main
from benchmarks.timing import ProcessRun, alternate, python, run_process
from osiris_core import ModelRun
from osiris_core.backends import LocalConfig
from osiris_core.models.execution import execute_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MUCH = "head -c {size} /dev/zero | tr '\\0' x | fold -w 100"
SCRIPT = """
from osiris_core import ModelRun
assert ModelRun(run_id="m", output_dir={folder!r}, command={command!r}).run("local")
"""


def side_by_side(actions: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """The median of each in milliseconds, taken in turns so that a busy machine is busy for all."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for number in range(repeats + 5):
        for name, action in actions.items():
            started_s = perf_counter()
            action()
            if number >= 5:
                times[name].append((perf_counter() - started_s) * 1000)
    return {name: median(found) for name, found in times.items()}


def measure(quick: bool) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as name:
        yield from trivial_commands(Path(name), 20 if quick else 300)
        yield from much_output(Path(name), 1_000_000 if quick else 300_000_000, 1 if quick else 3)


def trivial_commands(folder: Path, repeats: int) -> Iterator[Row]:
    run = ModelRun(run_id="m", output_dir=folder / "runs", command="true")
    workspace = run.generate()
    config, environment = LocalConfig(), dict(os.environ)
    phases: list[float] = []

    def ours() -> None:
        result = run.execute(config, workspace)
        assert result.success, result.error
        phases.append(result.timings["start_ms"] + result.timings["steps_ms"])

    def bare() -> None:
        command = ["/bin/sh", "-c", "true"]
        subprocess.run(command, cwd=workspace, env=environment, capture_output=True, text=True, check=True)

    def pipeline() -> None:
        assert run.pipeline(force=True).success

    def call() -> None:
        assert subject_run().success

    def subject_run() -> Any:
        subject = SimpleNamespace(
            run_id="c",
            output_dir=folder / "runs",
            config=SimpleNamespace(run=lambda _: True),
            generate=lambda: workspace,
        )
        return execute_model(subject, config)

    found = side_by_side({"ours": ours, "bare": bare, "pipeline": pipeline, "call": call, "fork": bare_fork}, repeats)
    ours_ms, bare_ms, phase_ms = found["ours"], found["bare"], median(phases)
    beside = f"{bare_ms:.2f} ms"
    yield Row(
        f"execute of `true` in a given workspace, over a bare subprocess: {phase_ms - bare_ms:+.2f} ms",
        f"{phase_ms:.2f} ms",
        beside,
        phase_ms / bare_ms,
        "+1 ms",
    )
    yield Row(
        f"prepare, execute, collect of the same: {ours_ms - bare_ms:+.2f} ms",
        f"{ours_ms:.2f} ms",
        beside,
        ours_ms / bare_ms,
        "5 ms",
    )
    pipeline_ms = found["pipeline"]
    yield Row("generate, run, noop", f"{pipeline_ms:.2f} ms", beside, pipeline_ms / bare_ms, "10 ms")
    yield Row(
        "config.run, in a child", f"{found['call']:.2f} ms", f"{found['fork']:.2f} ms", found["call"] / found["fork"]
    )


def bare_fork() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def much_output(folder: Path, size_bytes: int, repeats: int) -> Iterator[Row]:
    def run(command: str) -> ProcessRun:
        return run_process(python("-c", SCRIPT.format(folder=str(folder / "much"), command=command)), cwd=folder)

    talk = MUCH.format(size=size_bytes)
    found = alternate({"talk": lambda: run(talk), "idle": lambda: run("true")}, repeats=repeats, warm_up=0)
    above_mib = found["talk"].peak_rss_mib - found["idle"].peak_rss_mib
    yield Row(
        f"{size_bytes // 1_000_000} MB of output: peak above a silent run",
        f"{above_mib:.1f} MiB",
        f"{found['idle'].peak_rss_mib:.0f} MiB in all",
        found["talk"].peak_rss_mib / found["idle"].peak_rss_mib,
        "60 MiB",
    )


if __name__ == "__main__":
    main(measure)
