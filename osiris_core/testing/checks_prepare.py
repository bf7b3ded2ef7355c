"""Checks of what `prepare` gives: it covers what decides a result, is broken by a change, and can be run elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osiris_core.errors import PreparationError
from osiris_core.prepared import PreparedRun
from osiris_core.testing.check import Check
from osiris_core.testing.evidence import ended
from osiris_core.testing.trial import SECRET, SECRET_NAME, context, manifest, shell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from osiris_core.testing.bench import Bench
    from osiris_core.testing.evidence import Evidence

_TOPIC = "prepare"
WRONG = """\
pipeline: wrong
steps:
  - id: a
    driver: comand
    config: {shell: "true"}
  - id: b
    driver: command
    config: {shel: "true"}
  - id: c
    driver: command
    config: {shell: "cat missing.txt", files: [missing.txt]}
  - id: d
    driver: command
    config: {shell: "echo ${CONFORMANCE_NOT_SET}"}
  - id: e
    driver: command
    needs: [nobody]
    config: {shell: "true"}
"""
WRONG_AT = {"comand": 4, "shel": 8, "missing.txt": 11, "CONFORMANCE_NOT_SET": 14, "nobody": 17}
"""A word of each problem, and its line."""


# What it covers.


def prepared_ways(bench: Bench, evidence: Evidence) -> None:
    """The same manifest, and others that differ in one thing; and one with mistakes in it. Nothing is run."""
    inputs = evidence.folder / "in"
    inputs.mkdir()
    (inputs / "notes.txt").write_bytes(b"one")
    prints: dict[str, str] = {}
    with bench.make() as adapter:

        def fingerprint(label: str, line: str = "cat notes.txt", timeout_s: float | None = None, **more: Any) -> None:
            what = manifest({**shell("a", line, files=["notes.txt"]), "timeout_s": timeout_s})
            there = context(evidence, label.replace(" ", "-"), base_dir=str(inputs), **more)
            prints[label] = adapter.prepare(what, there).fingerprint

        fingerprint("as it is")
        fingerprint("once more")
        fingerprint("another configuration", "cat ./notes.txt")
        fingerprint("another time limit", timeout_s=60)
        fingerprint("another variable", environment={"CONFORMANCE_MORE": "1"})
        fingerprint("another failure policy", on_failure="continue")
        (inputs / "notes.txt").write_bytes(b"another")
        fingerprint("another input file")
        evidence.facts["fingerprints"] = prints
        (inputs / "wrong.yaml").write_text(WRONG, encoding="utf-8")
        evidence.facts["problems"] = []
        try:
            adapter.prepare(inputs / "wrong.yaml", context(evidence, "wrong"))
        except PreparationError as exc:
            evidence.facts["problems"] = exc.problems
    evidence.facts["made"] = sorted(path.name for path in evidence.folder.iterdir())


def _fingerprint_covers_all(evidence: Evidence) -> Iterator[str]:
    prints = dict(evidence.facts["fingerprints"])
    first = prints.pop("as it is")
    if prints.pop("once more") != first:
        yield "preparing the same twice gives two fingerprints"
    yield from (f"the fingerprint does not tell {label}" for label, found in prints.items() if found == first)


def _every_problem_at_once(evidence: Evidence) -> Iterator[str]:
    problems = evidence.facts["problems"]
    for word, line in WRONG_AT.items():
        lines = {(Path(item.file or "").name, item.line) for item in problems if word in str(item)}
        if not lines:
            yield f"nothing is said of {word!r}, in: {'; '.join(map(str, problems)) or 'nothing'}"
        elif not lines & {("wrong.yaml", line), ("wrong.yaml", line + 1)}:
            yield f"{word!r} stands in line {line} of wrong.yaml, and was said to be at {sorted(lines, key=str)}"
    if evidence.facts["made"] != ["in"]:
        yield f"preparing alone made {evidence.facts['made']}"


# What breaks it.


def sealed_runs(bench: Bench, evidence: Evidence) -> None:
    """Three runs, each with something else changed between `prepare` and `execute`."""
    changes: dict[str, Callable[[Path, PreparedRun], object]] = {
        "input": lambda folder, _: (folder / "notes.txt").write_bytes(b"another"),
        "manifest": lambda folder, _: (folder / "manifest.json").write_text(json.dumps(manifest(shell("b", "true")))),
        "prepared": lambda _, prepared: prepared.configs["a"].update({"shell": "echo tampered"}),
    }
    with bench.make() as adapter:
        for name, change in changes.items():
            inputs = evidence.folder / f"in-{name}"
            inputs.mkdir()
            (inputs / "notes.txt").write_bytes(b"one")
            what = manifest(shell("a", "cat notes.txt > out.txt", files=["notes.txt"], artifacts=["out.txt"]))
            (inputs / "manifest.json").write_text(json.dumps(what), encoding="utf-8")
            there = context(evidence, name)
            prepared = adapter.prepare(inputs / "manifest.json", there)
            change(inputs, prepared)
            raised: dict[str, Any] | None = None
            try:
                adapter.execute(prepared, there)
            except Exception as exc:  # noqa: BLE001 - whatever it is, it is taken down
                raised = {"type": type(exc).__name__, "message": str(exc)}
            outcome = evidence.outcome(name, adapter, Path(there.session_dir), adapter.collect(prepared, there))
            outcome.raised = raised


def _seal(name: str) -> Callable[[Evidence], Iterator[str]]:
    def faults(evidence: Evidence) -> Iterator[str]:
        outcome = evidence.outcomes[name]
        raised = (outcome.raised or {}).get("type")
        if raised != "SealBroken":
            yield f"the {name} was changed after prepare, and execute raised {raised or 'nothing'}"
        started = [event["step_id"] for event in outcome.named("step.start")]
        if started or outcome.tree:
            yield f"the {name} was changed after prepare, and steps were run: {started} left {sorted(outcome.tree)}"
        yield from ended(outcome, "failed")
        yield from evidence.left()

    return faults


# Where it can be run.


def restored_run(bench: Bench, evidence: Evidence) -> None:
    """What one adapter prepared goes to another one as JSON text; first without its secret, then with it."""
    evidence.secrets.append(SECRET)
    there = context(evidence, environment={SECRET_NAME: SECRET})
    with bench.make() as adapter:
        prepared = adapter.prepare(manifest(shell("a", f'printf %s "${SECRET_NAME}" | wc -c')), there)
        text = json.dumps(prepared.to_json())
    with bench.make() as adapter:
        try:
            adapter.execute(PreparedRun.from_json(json.loads(text)), context(evidence))
        except PreparationError as exc:
            evidence.facts["missing"] = str(exc)
        evidence.facts["left without a value"] = Path(there.session_dir).exists()
    with bench.make() as adapter:
        prepared = PreparedRun.from_json(json.loads(text))
        adapter.execute(prepared, there)
        evidence.outcome("it", adapter, Path(there.session_dir), adapter.collect(prepared, there))


def _runs_from_json(evidence: Evidence) -> Iterator[str]:
    yield from ended(evidence.it, "completed")
    lines = [event["message"].strip() for event in evidence.it.named("log", "a")]
    if str(len(SECRET.encode())) not in lines:
        yield f"its step did not get the value that it was declared: {lines}"
    yield from evidence.left()
    yield from evidence.leaks()


def _needs_its_values(evidence: Evidence) -> Iterator[str]:
    if SECRET_NAME not in evidence.facts.get("missing", ""):
        yield f"a restored run without a value was not refused by its name: {evidence.facts.get('missing', 'it ran')}"
    if evidence.facts["left without a value"]:
        yield "a run that was refused made its session directory"


PREPARE_CHECKS = (
    Check(
        "fingerprint-covers-all",
        "one fingerprint for one run, another when anything that decides it differs",
        _TOPIC,
        prepared_ways,
        _fingerprint_covers_all,
    ),
    Check(
        "every-problem-at-once",
        "prepare says all that is wrong with a manifest, each with its file and line, and makes nothing",
        _TOPIC,
        prepared_ways,
        _every_problem_at_once,
    ),
    *(
        Check(
            f"seal-of-{name}",
            f"a run whose {words} changed since prepare is refused, and nothing of it is run",
            _TOPIC,
            sealed_runs,
            _seal(name),
        )
        for name, words in (("input", "input file"), ("manifest", "manifest"), ("prepared", "prepared configuration"))
    ),
    Check(
        "runs-from-json",
        "a prepared run goes to another adapter as JSON, and runs there with the values of that place",
        _TOPIC,
        restored_run,
        _runs_from_json,
    ),
    Check(
        "needs-its-values",
        "a restored run without a value of its secret is refused by name, and touches nothing",
        _TOPIC,
        restored_run,
        _needs_its_values,
    ),
)
