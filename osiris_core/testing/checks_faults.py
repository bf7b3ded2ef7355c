"""Checks of what goes wrong around a run: a controller that is told to end, odd output, full disks, huge files."""

from __future__ import annotations

import os
import signal
import time
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osiris_core.session import read_json
from osiris_core.testing.check import Check
from osiris_core.testing.evidence import ended, found_in
from osiris_core.testing.trial import DETACHED, Controller, context, manifest, new_marker, shell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from osiris_core.testing.bench import Bench
    from osiris_core.testing.evidence import Evidence

_TOPIC = "when something goes wrong"
_FULL = os.environ.get("OSIRIS_FAULTS") == "full"
STOP_LIMIT_S = 15.0
LINE_BYTES = 1_000_000_000 if _FULL else 100_000_000
LINE_MEMORY_BYTES = 400_000_000 if _FULL else 300_000_000
"""Far below the line's length, and above what an engine with its libraries takes."""
SPARSE_BYTES = 5_000_000_000 if _FULL else 200_000_000
FILE_LIMIT_S = 400.0 if _FULL else 120.0
SECRET = "f4ult/Žlu&ť+of=it"  # noqa: S105 - it is looked for in what a run leaves
SECRET_NAME = "FAULT_SECRET"  # noqa: S105 - a name
ODD_BYTES = b"\xff\xfe no text \x80\nnul \0 here\none\rtwo\r\nlast, and no end"
_FIRST = shell("first", "echo first > first.txt", artifacts=["first.txt"])


def terminated_run(bench: Bench, evidence: Evidence) -> None:
    """SIGTERM in a process that runs something, as the command line hears it."""
    session_dir = evidence.folder / "session"
    naps = shell("naps", DETACHED.format(new_marker(evidence)), needs=("first",))
    controller = Controller(bench, session_dir, manifest(_FIRST, naps), hears_signals=True)
    controller.wait_for_ready("naps")
    started_s = time.monotonic()
    controller.process.send_signal(signal.SIGTERM)
    evidence.facts["told"] = controller.end()
    evidence.facts["took_s"] = time.monotonic() - started_s
    with bench.make() as adapter:
        outcome = evidence.outcome("it", adapter, session_dir, None)
    outcome.report = read_json(outcome.session_dir / "status.json") or {}


def _terminated_leaves_a_report(evidence: Evidence) -> Iterator[str]:
    yield from ended(evidence.it, "cancelled")
    error = evidence.it.report.get("error") or {}
    if error.get("failure_class") != "cancelled" or "SIGTERM" not in error.get("message", ""):
        yield f"it was ended by SIGTERM, and says {error}"
    if evidence.facts["told"].get("report") != evidence.it.report:
        yield f"whoever called run was told {evidence.facts['told']}"
    if "first/first.txt" not in evidence.it.tree:
        yield "what its first step left did not come home"
    if evidence.facts["took_s"] > STOP_LIMIT_S:
        yield f"stopping took {evidence.facts['took_s']:.1f} s"
    yield from evidence.left()


def odd_output(bench: Bench, evidence: Evidence) -> None:
    """A step that prints bytes that are no text."""
    octal = "".join(f"\\{byte:03o}" for byte in ODD_BYTES)
    there = context(evidence)
    with bench.make() as adapter:
        report = adapter.run(manifest(_FIRST, shell("prints", f"printf '{octal}'", needs=("first",))), there)
        evidence.outcome("it", adapter, Path(there.session_dir), report)


def _bytes_that_are_no_text(evidence: Evidence) -> Iterator[str]:
    yield from ended(evidence.it, "completed")
    log = evidence.it.session_dir / "artifacts/prints/stdout.log"
    content = log.read_bytes() if log.is_file() else b""
    if content != ODD_BYTES:
        yield f"it printed {ODD_BYTES!r}, and stdout.log has {content!r}"
    told = "\n".join(event["message"] for event in evidence.it.named("log", "prints"))
    yield from (f"{words!r} is in no event: {told!r}" for words in ("no text", "last, and no end") if words not in told)
    yield from evidence.left()


def listed_environment(bench: Bench, evidence: Evidence) -> None:
    """A step that prints all that it knows of its secret: as variables, encoded, in a URL, in a traceback."""
    evidence.secrets.append(SECRET)
    there = context(evidence, environment={SECRET_NAME: SECRET})
    variables = {SECRET_NAME: f"${{{SECRET_NAME}}}"}
    code = (
        "import base64, os, sys, urllib.parse as u; s = os.environ['FAULT_SECRET']; "
        "e = open('/proc/self/environ', 'rb').read(); print(e.decode().replace(chr(0), chr(10))); "
        "print(base64.b64encode(e).decode()); print(s.encode().hex()); "
        "print('https://me:' + u.quote(s, safe='') + '@host/?t=' + u.quote_plus(s)); "
        "open('listing.txt', 'w').write('the end'); raise ValueError(s)"
    )
    step = shell("lists", f'env; python3 -c "{code}"', env=variables, artifacts=["listing.txt"])
    with bench.make() as adapter:
        report = adapter.run(manifest(_FIRST, {**step, "needs": ["first"]}), there)
        evidence.outcome("it", adapter, Path(there.session_dir), report)


def _environment_listing_is_masked(evidence: Evidence) -> Iterator[str]:
    yield from ended(evidence.it, "failed")
    lines = [event["message"] for event in evidence.it.named("log", "lists")]
    if f"{SECRET_NAME}=***" not in lines or not any("ValueError: ***" in line for line in lines):
        yield f"what it listed is not masked, or not there: {lines}"
    if "lists/listing.txt" not in evidence.it.tree:
        yield "the step did not come to the end of its listing"
    yield from evidence.leaks()
    yield from found_in({"the report": repr(evidence.it.report).encode()}, evidence.secrets)
    yield from evidence.left()


def full_device(bench: Bench, evidence: Evidence) -> None:
    """A step whose disk is full: the kernel says so of every write to `/dev/full`."""
    there = context(evidence)
    fills = shell("fills", "echo kept > kept.txt; cat /bin/sh > /dev/full", needs=("first",), artifacts=["kept.txt"])
    never = shell("never", "true", needs=("fills",))
    with bench.make() as adapter:
        report = adapter.run(manifest(_FIRST, fills, never), there)
        evidence.outcome("it", adapter, Path(there.session_dir), report)


def _full_device_is_named(evidence: Evidence) -> Iterator[str]:
    yield from ended(evidence.it, "failed")
    error = evidence.it.report.get("error") or {}
    if "No space left on device" not in error.get("message", ""):
        yield f"what the kernel said of the disk is not in {error.get('message')!r}"
    statuses = [record["status"] for record in evidence.it.report["steps"]]
    if statuses != ["completed", "failed", "skipped"]:
        yield f"its steps are {statuses}"
    missing = {"first/first.txt", "fills/kept.txt"} - set(evidence.it.tree)
    yield from (f"{name} did not come home" for name in sorted(missing))
    yield from evidence.left()


def sparse_file(bench: Bench, evidence: Evidence) -> None:
    """An artifact that is mostly holes."""
    line = f"printf begins > holes.bin; truncate -s {SPARSE_BYTES - 4} holes.bin; printf ends >> holes.bin"
    there = context(evidence)
    with bench.make() as adapter:
        report = adapter.run(manifest(shell("writes", line, artifacts=["holes.bin"])), there)
        outcome = evidence.outcome("it", adapter, Path(there.session_dir), report)
    path = outcome.session_dir / "artifacts/writes/holes.bin"
    if path.is_file():
        with path.open("rb") as file:
            evidence.facts["ends"] = (file.read(6), file.seek(-4, os.SEEK_END) and file.read())
        evidence.facts["size_bytes"] = path.stat().st_size
        path.unlink()


def _sparse_file_is_whole(evidence: Evidence) -> Iterator[str]:
    yield from ended(evidence.it, "completed")
    if (evidence.facts.get("ends"), evidence.facts.get("size_bytes")) != ((b"begins", b"ends"), SPARSE_BYTES):
        yield f"a sparse file of {SPARSE_BYTES} bytes came home as {evidence.facts}"
    wanted = sha256(b"begins")
    rest, block = SPARSE_BYTES - 10, bytes(1 << 20)
    while rest > 0:
        wanted.update(block[: min(rest, len(block))])
        rest -= len(block)
    wanted.update(b"ends")
    listed = {item["path"]: item["sha256"] for item in evidence.it.report["artifacts"]}
    if listed.get("writes/holes.bin") != wanted.hexdigest():
        yield "the report does not have its digest"
    yield from evidence.left()


def endless_line(bench: Bench, evidence: Evidence) -> None:
    """A step that prints one very long line, beside a controller whose memory is measured."""
    session_dir = evidence.folder / "session"
    line = f"head -c {LINE_BYTES} /dev/zero | tr '\\0' x; echo; echo after"
    controller = Controller(bench, session_dir, manifest(_FIRST, shell("prints", line, needs=("first",))))
    evidence.facts["told"] = controller.end(FILE_LIMIT_S)
    with bench.make() as adapter:
        outcome = evidence.outcome("it", adapter, session_dir, None)
    outcome.report = read_json(outcome.session_dir / "status.json") or {}
    log = session_dir / "artifacts/prints/stdout.log"
    if log.is_file():
        evidence.facts["size_bytes"] = log.stat().st_size
        log.unlink()


def _endless_line_takes_no_memory(evidence: Evidence) -> Iterator[str]:
    yield from ended(evidence.it, "completed")
    peak = evidence.facts["told"].get("peak_memory_bytes", 0)
    if not 0 < peak < LINE_MEMORY_BYTES:
        yield f"with a line of {LINE_BYTES} bytes the controller took {peak} bytes of memory"
    if evidence.facts.get("size_bytes") != LINE_BYTES + len("\nafter\n"):
        yield f"stdout.log has {evidence.facts.get('size_bytes')} bytes"
    sizes = [len(event["message"]) for event in evidence.it.named("log", "prints")]
    if not sizes or max(sizes) > 1_000_000:
        yield f"its events have texts of {sizes[:20]} characters"
    yield from evidence.left()


def _check(name: str, promise: str, run: Any, faults: Any, limit_s: float = 120.0) -> Check:
    return Check(name, promise, _TOPIC, run, faults, limit_s=limit_s)


FAULT_CHECKS = (
    _check(
        "terminated-leaves-a-report",
        "SIGTERM stops the steps with all that they started, and leaves a report that names it",
        terminated_run,
        _terminated_leaves_a_report,
    ),
    _check("bytes-that-are-no-text", "output that is no UTF-8 breaks nothing", odd_output, _bytes_that_are_no_text),
    _check(
        "environment-listing-is-masked",
        "a secret in a listing of the environment, encoded, in a URL and in a traceback is nowhere to be found",
        listed_environment,
        _environment_listing_is_masked,
    ),
    _check(
        "full-device-is-named",
        "a step whose disk is full fails with what the kernel says, and what was there comes home",
        full_device,
        _full_device_is_named,
    ),
    _check(
        "sparse-file-is-whole",
        "a file that is mostly holes comes home in full length",
        sparse_file,
        _sparse_file_is_whole,
        FILE_LIMIT_S,
    ),
    _check(
        "endless-line-takes-no-memory",
        "a very long line passes through little memory of the controller's",
        endless_line,
        _endless_line_takes_no_memory,
        FILE_LIMIT_S,
    ),
)
