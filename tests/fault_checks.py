"""Checks of the fault matrix that need more of a machine than the kit may ask for: a mount, and a clock that jumps."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from osiris_core.session import read_json
from osiris_core.testing import Check
from osiris_core.testing.evidence import ended
from osiris_core.testing.trial import Controller, context, manifest, shell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from osiris_core.testing import Bench, Evidence

DISK_BYTES = 6 << 20
CLOCK_SOURCE = Path(__file__).parent / "data/jumping_clock.c"
JUMP_S = 2 * 86_400
_FIRST = shell("first", "echo first > first.txt", artifacts=["first.txt"])


def full_disk_here(bench: Bench, evidence: Evidence) -> None:
    """A session directory on a disk that is smaller than what its run brings home."""
    there = context(evidence)
    disk = Path(there.session_dir)
    disk.mkdir()
    line = f"head -c {2 * DISK_BYTES} /dev/urandom > big.bin"
    what = manifest(_FIRST, shell("fills", line, needs=("first",), artifacts=["big.bin"]))
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", disk], check=True)
    try:
        with bench.make() as adapter:
            evidence.outcome("it", adapter, disk, adapter.run(what, there))
        kept = evidence.folder / "kept"
        shutil.copytree(disk, kept, symlinks=True)
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)
    disk.rmdir()
    kept.rename(disk)


def _full_disk_is_told(evidence: Evidence) -> Iterator[str]:
    yield from ended(evidence.it, "failed")
    error = evidence.it.report.get("error") or {}
    if "No space left" not in error.get("message", ""):
        yield f"the report says {error}"
    wanted = "user_error" if error.get("type") == "StepError" else "resource_denied"  # the former: a command's own exit
    if error.get("failure_class") != wanted:
        yield f"the class of a full disk is {error.get('failure_class')}: {error}"
    if evidence.it.report["steps"][0]["status"] != "completed":
        yield f"its steps are {evidence.it.report['steps']}"
    listed = {item["path"] for item in evidence.it.report["artifacts"]}
    found = {name for name, item in evidence.it.tree.items() if item[0] == "file"}
    if listed != found:
        yield f"listed and there, but not both: {sorted(listed ^ found)}"
    yield from evidence.left()


def jumping_clock(bench: Bench, evidence: Evidence) -> None:
    """While a step runs, the controller's clock goes two days on, and then four days back."""
    session_dir = evidence.folder / "session"
    clock = evidence.folder / "clock"
    clock.write_text("+0")
    library = evidence.folder / "clock.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, CLOCK_SOURCE], check=True)
    variables = {"LD_PRELOAD": str(library), "JUMPING_CLOCK": str(clock)}
    naps = shell("naps", "echo ready; sleep 1.5; echo kept > kept.txt", needs=("first",), artifacts=["kept.txt"])
    what = manifest(_FIRST, {**naps, "timeout_s": 50})
    controller = Controller(bench, session_dir, what, variables=variables, timeout=55)
    controller.wait_for_ready("naps")
    started_s = time.monotonic()
    for jump in (f"+{JUMP_S}", f"-{JUMP_S}"):
        clock.write_text(jump)
        time.sleep(0.5)
    evidence.facts["told"] = controller.end()
    evidence.facts["took_s"] = time.monotonic() - started_s
    with bench.make() as adapter:
        outcome = evidence.outcome("it", adapter, session_dir, None)
    outcome.report = read_json(session_dir / "status.json") or {}


def _clock_jump_is_nothing(evidence: Evidence) -> Iterator[str]:
    yield from ended(evidence.it, "completed")
    if evidence.facts["told"].get("report") != evidence.it.report:
        yield f"whoever called run was told {evidence.facts['told']}"
    timings = dict(evidence.it.report["timings"])
    wall_ms = timings.pop("wall_ms")
    if not 1500 <= wall_ms < 60_000 or abs(sum(timings.values()) - wall_ms) > 0.5 or min(timings.values()) < 0:
        yield f"the times went with the clock: {evidence.it.report['timings']}"
    if not timings["steps_ms"] >= 1500:
        yield f"a step that naps for 1.5 s took {timings['steps_ms']} ms"
    stamps = [datetime.fromisoformat(event["ts"]).timestamp() for event in evidence.it.events]
    if max(stamps) - min(stamps) < JUMP_S / 2:
        yield "the clock did not jump: this proves nothing"
    if "naps/kept.txt" not in evidence.it.tree:
        yield "the artifact did not come home"
    yield from evidence.left()


MACHINE_CHECKS = (
    Check(
        "full-disk-here",
        "a disk that is too small for what comes home fails the run with what the kernel says, and leaves whole files",
        "when something goes wrong",
        full_disk_here,
        _full_disk_is_told,
    ),
    Check(
        "clock-jumps",
        "a controller's clock that is set on and back changes no limit and no measured time",
        "when something goes wrong",
        jumping_clock,
        _clock_jump_is_nothing,
    ),
)
_HERE = os.geteuid() == 0 and shutil.which("gcc") is not None
CHECKS_HERE = MACHINE_CHECKS if _HERE or os.environ.get("CI") == "true" else ()
"""Those that this machine can do; in CI all: the right to mount, and a compiler, are there."""
