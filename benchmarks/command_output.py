"""300 MB of output from a `command` step: what it costs in memory and time over one that is silent."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.table import Row, main
from benchmarks.timing import ProcessRun, Spread, alternate, osiris, run_process

if TYPE_CHECKING:
    from collections.abc import Iterator

SHAPES = {
    "lines of 100 characters": "head -c {size} /dev/zero | tr '\\0' x | fold -w 100",
    "one single line": "head -c {size} /dev/zero | tr '\\0' x",
}


def run_shell(folder: Path, shell: str) -> ProcessRun:
    """A run of one `command` step, as a whole process."""
    session = folder / "session"
    shutil.rmtree(session, ignore_errors=True)
    manifest = folder / "manifest.json"
    manifest.write_text(json.dumps({"steps": [{"id": "talk", "driver": "command", "config": {"shell": shell}}]}))
    return run_process(osiris("run", manifest, "--session-dir", session), cwd=folder)


def measure(quick: bool) -> Iterator[Row]:
    size_bytes = 100_000 if quick else 300_000_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for shape, template in SHAPES.items():
            shell = template.format(size=size_bytes)

            def talk(shell: str = shell) -> ProcessRun:
                return run_shell(folder, shell)

            def into_a_file(shell: str = shell) -> ProcessRun:
                return run_process(["/bin/sh", "-c", f"({shell}) > {folder}/output.log"], cwd=folder)

            found = alternate(
                {"talk": talk, "idle": lambda: run_shell(folder, "true"), "plain": into_a_file},
                repeats=1 if quick else 3,
                warm_up=0,
            )
            yield from rows(f"{size_bytes // 1_000_000} MB of output, {shape}", found)


def rows(what: str, found: dict[str, Spread]) -> Iterator[Row]:
    talk, idle, plain = found["talk"], found["idle"], found["plain"]
    above_mib = talk.peak_rss_mib - idle.peak_rss_mib
    yield Row(
        f"{what}: peak above a silent step",
        f"{above_mib:.1f} MiB",
        f"{idle.peak_rss_mib:.0f} MiB in all",
        talk.peak_rss_mib / idle.peak_rss_mib,
        "60 MiB",
    )
    net_s = talk.wall_s - idle.wall_s
    yield Row(f"{what}: time over `> file`", f"{net_s:.2f} s", f"{plain.wall_s:.2f} s", net_s / plain.wall_s)


if __name__ == "__main__":
    main(measure)
