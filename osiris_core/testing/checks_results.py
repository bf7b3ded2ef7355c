"""Checks of what comes home: many runs at once, large and many files, odd names, published files, other adapters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from osiris_core.errors import ExecutionError
from osiris_core.factory import AdapterFactory
from osiris_core.testing.check import PYTHON, Check
from osiris_core.testing.evidence import ended
from osiris_core.testing.parity_scenario import step
from osiris_core.testing.trial import Background, context, manifest, shell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from osiris_core.adapter import ExecutionAdapter
    from osiris_core.testing.bench import Bench
    from osiris_core.testing.evidence import Evidence

_AT_ONCE = "runs side by side"
_FILES = "what comes home"
_RESUME = "resume"
AT_ONCE_LIMIT_S = 200.0
BIG_BYTES = 30_000_000
MANY = 300
ODD_FOLDER = "ses sion 'of\" $(id) ☃ #1 %s"
ODD_VALUE = "two\nlines, 'quotes\" $HOME `id` \\ ☃"


# Side by side.


def runs_at_once(bench: Bench, evidence: Evidence) -> None:
    """Many small runs of one adapter, all started together."""
    names = [f"run-{number:02}" for number in range(bench.runs_at_once)]
    with bench.make() as adapter:
        running = {
            name: Background(
                adapter,
                manifest(shell("says", f"echo {name} > mine.txt; echo {name}", artifacts=["mine.txt"])),
                context(evidence, name),
            )
            for name in names
        }
        for name in names:
            evidence.outcome(name, adapter, evidence.folder / name, running[name].join(AT_ONCE_LIMIT_S).report)


def _all_complete(evidence: Evidence) -> Iterator[str]:
    for outcome in evidence.outcomes.values():
        yield from ended(outcome, "completed")
    yield from evidence.left()


def _none_is_mixed_up(evidence: Evidence) -> Iterator[str]:
    for name, outcome in evidence.outcomes.items():
        path = outcome.session_dir / "artifacts/says/mine.txt"
        content = path.read_text() if path.is_file() else None
        printed = [event["message"] for event in outcome.named("log", "says")]
        sessions = {event["session_id"] for event in outcome.events} | {outcome.report.get("session_id")}
        if content != f"{name}\n" or printed != [name] or sessions != {name}:
            yield f"{name} has the file {content!r}, printed {printed}, and its events and report are of {sessions}"


# Files.


def heavy_run(bench: Bench, evidence: Evidence) -> None:
    """A large file of random bytes, an empty one, and many."""
    line = (
        f"head -c {BIG_BYTES} /dev/urandom > big.bin; sha256sum big.bin | cut -c1-64; : > empty; mkdir many; "
        f"for i in $(seq {MANY}); do echo $i > many/$i; done"
    )
    there = context(evidence)
    with bench.make() as adapter:
        report = adapter.run(manifest(shell("writes", line, artifacts=["big.bin", "empty", "many/*"])), there)
        evidence.outcome("it", adapter, Path(there.session_dir), report)


def _large_and_many_files(evidence: Evidence) -> Iterator[str]:
    outcome = evidence.it
    yield from ended(outcome, "completed")
    said = [event["message"] for event in outcome.named("log", "writes")]
    listed = {item["path"]: item["sha256"] for item in outcome.report["artifacts"]}
    found = {name: item for name, item in outcome.tree.items() if item[0] == "file"}
    if [listed.get("writes/big.bin"), found.get("writes/big.bin", ("",))[-1]] != said * 2:
        yield f"{BIG_BYTES} random bytes came home as others: {found.get('writes/big.bin')}, the step had {said}"
    if found.get("writes/empty", ("", "", ""))[2] != "0":
        yield "the empty file is not there, or not empty"
    folder = outcome.session_dir / "artifacts/writes/many"
    contents = {path.name: path.read_text() for path in folder.iterdir()} if folder.is_dir() else {}
    if contents != {str(number): f"{number}\n" for number in range(1, MANY + 1)}:
        yield f"of {MANY} files {len(contents)} came home, or with other bytes"
    yield from evidence.left()


def odd_run(bench: Bench, evidence: Evidence) -> None:
    """A session directory and values with all that a shell or a URL would make something of."""
    there = context(evidence, ODD_FOLDER, environment={"ODD": ODD_VALUE}, public_environment=frozenset({"ODD"}))
    line = 'printf %s "$ODD" > value.txt'
    with bench.make() as adapter:
        report = adapter.run(manifest(shell("writes", line, artifacts=["value.txt"])), there)
        evidence.outcome("it", adapter, Path(there.session_dir), report)
    evidence.facts["beside"] = sorted(path.name for path in evidence.folder.iterdir())


def _odd_places(evidence: Evidence) -> Iterator[str]:
    yield from ended(evidence.it, "completed")
    path = evidence.it.session_dir / "artifacts/writes/value.txt"
    value = path.read_text(encoding="utf-8") if path.is_file() else None
    if value != ODD_VALUE:
        yield f"a value arrived as {value!r}, not as {ODD_VALUE!r}"
    if evidence.facts["beside"] != [ODD_FOLDER]:
        yield f"beside the session directory there are {evidence.facts['beside']}"
    yield from evidence.left()


def published_runs(bench: Bench, evidence: Evidence) -> None:
    """Two runs with declared output files: one that completes, and one that fails after it wrote them."""
    for name, last in (("completed", "true"), ("failed", "exit 1")):
        steps = (
            shell("makes", "printf 'n\\n1\\n2\\n' > t.csv", outputs={"df": {"path": "t.csv"}}),
            step("writes", "filesystem.csv_writer", {"path": "deep/er/n ☃.csv"}, {"df": "makes"}),
            shell("last", last, needs=("writes",)),
        )
        with bench.make() as adapter:
            report = adapter.run(
                manifest(*steps), context(evidence, name, publish_dir=str(evidence.folder / "out" / name))
            )
            evidence.outcome(name, adapter, evidence.folder / name, report)


def _outputs_are_published(evidence: Evidence) -> Iterator[str]:
    out = evidence.folder / "out"
    for name, outcome in evidence.outcomes.items():
        yield from ended(outcome, name)
    path = out / "completed/deep/er/n ☃.csv"
    if not path.is_file() or path.read_bytes() != b"n\n1\n2\n":
        yield f"the declared output is not at {path}, or has other bytes"
    if [str(path)] != evidence.outcomes["completed"].report["published"]:
        yield f"the report says that these were published: {evidence.outcomes['completed'].report['published']}"
    if published := [str(path) for path in (out / "failed").rglob("*") if path.is_file()]:
        yield f"a run that failed published {published}"


# Resume.


def resumed_runs(bench: Bench, evidence: Evidence) -> None:
    """Runs that failed and are gone on with: from `local`, on `local`, and after what was kept had been damaged."""
    for name in ("from local", "on local", "damaged"):
        there = context(evidence, name, checkpoint="always")
        local = AdapterFactory.create("local")
        first, second = {
            "from local": (local, bench.make()),
            "on local": (bench.make(), local),
            "damaged": (bench.make(), bench.make()),
        }[name]
        with first, second:
            _run(first, "exit 3", there)
            if name == "damaged":
                for path in (evidence.folder / name / "checkpoints").rglob("*"):
                    if path.is_file():
                        path.write_bytes(path.read_bytes()[::-1])
            there = context(evidence, name, checkpoint="always", resume=True)
            evidence.outcome(name, second, evidence.folder / name, _run(second, 'cat "$OSIRIS_INPUT_T" > t.txt', there))
            evidence.facts[name] = _statuses(evidence, name)


def _run(adapter: ExecutionAdapter, line: str, there: Any) -> Any:
    good = shell("good", "printf 'n\\n1\\n2\\n' > t.csv", outputs={"t": {"path": "t.csv"}}, artifacts=["t.csv"])
    then = step("then", "command", {"shell": line, "artifacts": ["t.txt"]}, {"t": "good.t"})
    try:
        return adapter.run(manifest(good, then), there)
    except ExecutionError as exc:
        raise AssertionError(f"a run that fails is a report, and this one raised {exc!r}") from exc


def _statuses(evidence: Evidence, name: str) -> list[str]:
    return [record["status"] for record in evidence.outcomes[name].report["steps"]]


def _resumed(name: str, wanted: list[str]) -> Any:
    def faults(evidence: Evidence) -> Iterator[str]:
        outcome = evidence.outcomes[name]
        yield from ended(outcome, "completed")
        if evidence.facts[name] != wanted:
            yield f"its steps are {evidence.facts[name]}, not {wanted}"
        path = outcome.session_dir / "artifacts/then/t.txt"
        if (got := path.read_bytes() if path.is_file() else None) != b"n\n1\n2\n":
            yield f"the step that read what was taken over got something else: {got!r}"
        copy = outcome.session_dir / "artifacts/good/t.csv"
        if not copy.is_file() or copy.read_bytes() != b"n\n1\n2\n":
            yield "an artifact of the first attempt is not there any more, or has other bytes"
        yield from evidence.left()

    return faults


RESULT_CHECKS = (
    Check(
        "many-at-once",
        "many runs at once all complete, and leave nothing",
        _AT_ONCE,
        runs_at_once,
        _all_complete,
        limit_s=AT_ONCE_LIMIT_S,
    ),
    Check(
        "none-is-mixed-up",
        "runs side by side keep their files, their output and their events apart",
        _AT_ONCE,
        runs_at_once,
        _none_is_mixed_up,
        limit_s=AT_ONCE_LIMIT_S,
    ),
    Check(
        "large-and-many-files",
        f"{BIG_BYTES // 1_000_000} MB of random bytes, an empty file and {MANY} others come home as they are",
        _FILES,
        heavy_run,
        _large_and_many_files,
    ),
    Check(
        "odd-places",
        "blanks, quotes, newlines and what a shell would run, in the session's path and in values, are nothing special",
        _FILES,
        odd_run,
        _odd_places,
    ),
    Check(
        "outputs-are-published",
        "declared outputs of a run that completed are published, and of one that failed they are not",
        _FILES,
        published_runs,
        _outputs_are_published,
        tags=frozenset({PYTHON}),
    ),
    Check(
        "resumes-from-local",
        "a run that failed on `local` is gone on with here, and takes over what was finished there",
        _RESUME,
        resumed_runs,
        _resumed("from local", ["reused", "completed"]),
    ),
    Check(
        "resumes-on-local",
        "a run that failed here is gone on with on `local`, which takes over what was finished here",
        _RESUME,
        resumed_runs,
        _resumed("on local", ["reused", "completed"]),
    ),
    Check(
        "damage-is-not-resumed",
        "what was kept is verified before it is believed: a damaged output is made anew",
        _RESUME,
        resumed_runs,
        _resumed("damaged", ["completed", "completed"]),
    ),
)
