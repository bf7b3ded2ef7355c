"""Checks of one run from beginning to end, looked at before, meanwhile and afterwards."""

from __future__ import annotations

import json
import os
import signal
import tarfile
import threading
import time
from collections.abc import Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osiris_core.journal import JOURNAL_NAME, read_events
from osiris_core.process_scan import process_entries
from osiris_core.session import read_json
from osiris_core.testing.check import Check
from osiris_core.testing.evidence import ended, found_in
from osiris_core.testing.parity_outcome import tree_of
from osiris_core.testing.trial import SECRET, SECRET_NAME, context, manifest, new_marker, shell, wait_for_ready

if TYPE_CHECKING:
    from collections.abc import Iterator

    from osiris_core.adapter import ExecutionAdapter
    from osiris_core.prepared import PreparedRun
    from osiris_core.testing.bench import Bench
    from osiris_core.testing.evidence import Evidence

NOTES = "Jiří\nŁucja\n".encode()
RAW = b"\x00\xff\x0a\x0d" * 5000
WAIT_S = 1.5
REPORT_TYPES: dict[str, type | tuple[type, ...]] = {
    "status": str,
    "artifacts": list,
    "metrics": dict,
    "environment": str,
    "session_id": str,
    "session_dir": str,
    "attempt": int,
    "pipeline": str,
    "fingerprint": str,
    "steps": list,
    "timings": dict,
    "overhead_ms": (int, float),
}
METRICS = ("rows_read", "rows_written", "execution_time_ms", "memory_usage_mb")
_TOPIC = "one run, looked at closely"


def whole_run(bench: Bench, evidence: Evidence) -> None:
    inputs = evidence.folder / "in"
    inputs.mkdir()
    (inputs / "notes.txt").write_bytes(NOTES)
    marker = new_marker(evidence)
    steps = (
        shell(
            "writes",
            "cat notes.txt > copy.txt; for i in $(seq 5000); do printf '\\000\\377\\n\\r'; done > raw.bin",
            files=["notes.txt"],
            artifacts=["copy.txt", "raw.bin"],
        ),
        shell(
            "waits",
            f'echo "with ${SECRET_NAME}" >&2; (sleep {marker} &); echo ready; sleep {WAIT_S}',
            needs=("writes",),
        ),
    )
    (inputs / "manifest.json").write_text(json.dumps(manifest(*steps)), encoding="utf-8")
    evidence.secrets.append(SECRET)
    evidence.facts["before"] = _surroundings(inputs)
    there = context(
        evidence, environment={SECRET_NAME: SECRET}, publish_dir=str(evidence.folder / "out"), trace_rpc=None
    )
    with bench.make(compress_artifacts=True) as adapter:
        spent_s = evidence.facts["spent_s"] = []
        before = _everything(evidence.folder)
        with _clock(spent_s):
            prepared = adapter.prepare(inputs / "manifest.json", there)
        evidence.facts["made by prepare"] = [*(_everything(evidence.folder) - before)]
        evidence.facts["made by prepare"] += bench.left_behind(Path(there.session_dir))
        evidence.facts["prepared"] = json.dumps(prepared.to_json(), ensure_ascii=False)
        with _clock(spent_s):
            _execute(evidence, adapter, prepared, there)
        with _clock(spent_s):
            report = adapter.collect(prepared, there)
        outcome = evidence.outcome("it", adapter, Path(there.session_dir), report)
        evidence.facts["report"] = report
        evidence.facts["environments"] = set(getattr(adapter, "environments", (adapter.name,)))
        files = _contents(outcome.session_dir)
        again = adapter.collect(prepared, there).to_json()
        after = _contents(outcome.session_dir)
        changed = sorted(name for name in {*files, *after} if files.get(name) != after.get(name))
        evidence.facts["changed by collecting again"] = [*(["the report"] if again != outcome.report else []), *changed]
    evidence.facts["after"] = _surroundings(inputs)


@contextmanager
def _clock(spent_s: list[float]) -> Iterator[None]:
    started_s = time.monotonic()
    yield
    spent_s.append(time.monotonic() - started_s)


def _execute(evidence: Evidence, adapter: ExecutionAdapter, prepared: PreparedRun, there: Any) -> None:
    over = threading.Event()
    watcher = threading.Thread(target=_watch, args=(evidence, Path(there.session_dir), over))
    watcher.start()
    try:
        adapter.execute(prepared, there)
    finally:
        over.set()
        watcher.join()


def _watch(evidence: Evidence, session_dir: Path, over: threading.Event) -> None:
    """What can be seen while the second step waits."""
    seen = evidence.facts["meanwhile"] = {"status": None, "events": [], "leaks": ["the run was not seen while it ran"]}
    try:
        wait_for_ready(session_dir, "waits", over.is_set)
    except TimeoutError:
        return
    seen["status"] = read_json(session_dir / "status.json")
    seen["events"] = [(event["event"], event.get("step_id")) for event in read_events(session_dir / JOURNAL_NAME)]
    places = {}
    for entry in process_entries():
        try:
            places[f"the command line of process {entry.pid}"] = Path(f"/proc/{entry.pid}/cmdline").read_bytes()
        except OSError:
            continue
    for path in evidence.folder.rglob("*"):
        try:
            places[f"{path}, while it runs"] = path.read_bytes() if path.is_file() else b""
        except OSError:
            continue
    seen["leaks"] = list(found_in(places, [SECRET]))


def _everything(folder: Path) -> set[str]:
    """The files below a folder, and the children of this process."""
    me = os.getpid()
    children = {f"process {entry.pid} ({entry.name})" for entry in process_entries() if entry.parent == me}
    return children | {str(path) for path in folder.rglob("*")}


def _contents(session_dir: Path) -> dict[str, bytes]:
    return {str(path.relative_to(session_dir)): path.read_bytes() for path in session_dir.rglob("*") if path.is_file()}


def _surroundings(inputs: Path) -> dict[str, Any]:
    """What of the caller a run must leave as it is."""
    status = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace")
    return {
        "the environment": dict(os.environ),
        "the working directory": str(Path.cwd()),
        "the umask": next((line for line in status.splitlines() if line.startswith("Umask")), ""),
        "signal handlers": {str(number): signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)},
        "the input files": dict(tree_of(inputs)),
    }


# What has to be true of it.


def _prepare_creates_nothing(evidence: Evidence) -> Iterator[str]:
    yield from (f"prepare left {name}" for name in evidence.facts["made by prepare"])


def _prepared_holds_no_secret(evidence: Evidence) -> Iterator[str]:
    prepared = evidence.facts["prepared"]
    yield from found_in({"the prepared run": prepared.encode()}, evidence.secrets)
    if SECRET_NAME not in prepared:
        yield f"the prepared run does not name its secret, {SECRET_NAME}"


def _report_has_its_keys(evidence: Evidence) -> Iterator[str]:
    report = evidence.facts["report"]
    if not isinstance(report, Mapping):
        yield f"a report is a Mapping, and this is a {type(report).__name__}"
        return
    for key, kinds in REPORT_TYPES.items():
        if key not in report:
            yield f"the report has no {key!r}"
        elif not isinstance(report[key], kinds):
            yield f"{key!r} of the report is a {type(report[key]).__name__}"
    yield from (f"the metrics have no {key!r}" for key in METRICS if key not in report.get("metrics", {}))
    names = {report.get("environment"), *(event["adapter"] for event in evidence.it.named("run.start"))}
    if len(names) != 1 or not names <= evidence.facts["environments"]:
        yield f"adapter '{evidence.it.adapter}' calls itself {names}"
    try:
        json.dumps(dict(report), allow_nan=False)
    except (TypeError, ValueError) as exc:
        yield f"the report is no plain JSON: {exc}"


def _status_is_true(evidence: Evidence) -> Iterator[str]:
    yield from ended(evidence.it, "completed")
    meanwhile = evidence.facts["meanwhile"]["status"] or {}
    if meanwhile.get("status") != "running":
        yield f"while it ran, status.json said {meanwhile or 'nothing'}"


def _books_balance(evidence: Evidence) -> Iterator[str]:
    timings = dict(evidence.it.report["timings"])
    wall_ms, measured_ms = timings.pop("wall_ms"), sum(evidence.facts["spent_s"]) * 1000
    yield from (f"{name} is {value}" for name, value in timings.items() if value < 0)
    if abs(sum(timings.values()) - wall_ms) > 0.5:
        yield f"the times add up to {sum(timings.values()):.1f} ms, and wall_ms is {wall_ms}: {timings}"
    if abs(wall_ms - measured_ms) > 250 + 0.15 * measured_ms:
        yield f"wall_ms is {wall_ms}, and it took {measured_ms:.0f} ms"
    if not WAIT_S * 1000 <= timings["steps_ms"] <= measured_ms:
        yield f"steps_ms is {timings['steps_ms']}, with a step that takes {WAIT_S * 1000:g} ms in {measured_ms:.0f} ms"


def _artifacts_are_verified(evidence: Evidence) -> Iterator[str]:
    folder = evidence.it.session_dir / "artifacts"
    listed = {item["path"]: item for item in evidence.it.report["artifacts"]}
    for path, content in (("writes/copy.txt", NOTES), ("writes/raw.bin", RAW)):
        if path not in listed:
            yield f"{path} is not in the report"
        elif not (folder / path).is_file() or (folder / path).read_bytes() != content:
            yield f"{path} does not have the bytes that its step wrote"
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    if there != listed.keys():
        yield f"listed and there, but not both: {sorted(there ^ listed.keys())}"
    for path in sorted(there & listed.keys()):
        content = (folder / path).read_bytes()
        if (len(content), sha256(content).hexdigest()) != (listed[path]["size_bytes"], listed[path]["sha256"]):
            yield f"{path} is not what the report says of it"


def _artifacts_archive(evidence: Evidence) -> Iterator[str]:
    path, folder = evidence.it.session_dir / "artifacts.tar.gz", evidence.it.session_dir / "artifacts"
    if not path.is_file():
        yield "compress_artifacts was set, and there is no artifacts.tar.gz"
        return
    with tarfile.open(path) as archive:
        packed = {item.name: archive.extractfile(item) for item in archive if item.isfile()}
        contents = {name: file.read() for name, file in packed.items() if file is not None}
    if contents != {item["path"]: (folder / item["path"]).read_bytes() for item in evidence.it.report["artifacts"]}:
        yield f"artifacts.tar.gz has other files or bytes than the artifacts: {sorted(contents)}"


def _collect_repeats(evidence: Evidence) -> Iterator[str]:
    yield from (f"collecting again changed {name}" for name in evidence.facts["changed by collecting again"])


def _journal_is_live(evidence: Evidence) -> Iterator[str]:
    events = evidence.facts["meanwhile"]["events"]
    wanted = [("run.start", None), ("step.start", "writes"), ("step.complete", "writes"), ("step.start", "waits")]
    missing = [f"{name} {step_id or ''}".strip() for name, step_id in wanted if (name, step_id) not in events]
    if missing:
        yield f"while a step ran, the journal did not have {', '.join(missing)}"
    yield from (f"{name} was told before the run was collected" for name, _ in events if name == "run.complete")


def _secret_is_in_no_file(evidence: Evidence) -> Iterator[str]:
    yield from evidence.leaks()
    yield from (leak for leak in evidence.facts["meanwhile"]["leaks"] if "command line" not in leak)
    lines = [event["message"] for event in evidence.it.named("log", "waits")]
    if "with ***" not in lines:
        yield f"what the step printed of it is not masked, or not there: {lines}"


def _secret_is_in_no_argv(evidence: Evidence) -> Iterator[str]:
    yield from (leak for leak in evidence.facts["meanwhile"]["leaks"] if "command line" in leak or "not seen" in leak)


def _caller_is_untouched(evidence: Evidence) -> Iterator[str]:
    before, after = evidence.facts["before"], evidence.facts["after"]
    for name in before:
        if name != "the input files" and before[name] != after[name]:
            yield f"the run changed {name} of the process that asked for it"


def _inputs_are_untouched(evidence: Evidence) -> Iterator[str]:
    before, after = (evidence.facts[when]["the input files"] for when in ("before", "after"))
    if before != after:
        changed = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
        yield f"the run changed its input files: {changed}"


def _nothing_is_left(evidence: Evidence) -> Iterator[str]:
    yield from evidence.left()
    surplus = set(evidence.it.left) - {
        *("run.json", JOURNAL_NAME, "status.json", "session.lock", "artifacts", "artifacts.tar.gz", "checkpoints")
    }
    yield from (f"{name} was left in the session directory" for name in sorted(surplus))


def _check(name: str, promise: str, faults: Any) -> Check:
    return Check(name, promise, _TOPIC, whole_run, faults)


WHOLE_CHECKS = (
    _check("prepare-creates-nothing", "prepare writes no file and starts nothing", _prepare_creates_nothing),
    _check("prepared-holds-no-secret", "a prepared run holds names, and no value", _prepared_holds_no_secret),
    _check("report-has-its-keys", "the report is plain JSON with the keys that users read", _report_has_its_keys),
    _check("status-is-true", "status.json is true while the run goes on and afterwards", _status_is_true),
    _check("books-balance", "the times of a report add up to the time that the run took", _books_balance),
    _check("artifacts-are-verified", "what the report lists is there, byte for byte", _artifacts_are_verified),
    _check("artifacts-archive", "artifacts.tar.gz holds the artifacts when it is asked for", _artifacts_archive),
    _check("collect-repeats", "collect may be repeated, and changes nothing then", _collect_repeats),
    _check("journal-is-live", "an event is in the journal when it happens, not at the end", _journal_is_live),
    _check(
        "secret-is-in-no-file", "a secret is in no file and no stream, while it runs or later", _secret_is_in_no_file
    ),
    _check("secret-is-in-no-argv", "a secret is in no command line of this machine", _secret_is_in_no_argv),
    _check("caller-is-untouched", "environment, directory and signals stay the caller's", _caller_is_untouched),
    _check("inputs-are-untouched", "input files and manifest stay as they were", _inputs_are_untouched),
    _check("nothing-is-left", "when a run is over nothing of it is left, not even a daemon", _nothing_is_left),
)
