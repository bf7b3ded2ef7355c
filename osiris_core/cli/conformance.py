"""`osiris conformance`: whether an adapter keeps what every adapter promises."""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from osiris_core.cli import exits, formatting, stdout
from osiris_core.cli.command import Command
from osiris_core.cli.options import RunOptions, complete_adapters, json_option
from osiris_core.cli.request import configured_adapter
from osiris_core.errors import OsirisError, PreparationError, Problem
from osiris_core.suggestion import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from osiris_core.adapter import ExecutionAdapter
    from osiris_core.testing.candidate import Candidate
    from osiris_core.testing.check import Check, Verdict


@click.command(cls=Command)
@click.argument("adapter", shell_complete=complete_adapters)
@click.option("--config", metavar="FILE", help="The adapter's configuration, YAML or JSON.")
@click.option(
    "--report",
    "reports",
    metavar="FILE",
    multiple=True,
    help="Write a report: .json for programs, .html or .md for people. Can be given several times.",
)
@click.option("--only", metavar="NAME", multiple=True, help="Only this check. Can be given several times.")
@click.option("--list", "only_list", is_flag=True, help="Only list the checks, and which are gaps of ADAPTER.")
@click.option(
    "--at-once", type=click.IntRange(min=1), default=50, show_default=True, help="How many runs side by side."
)
@click.option("--work-dir", metavar="D", help="Run in this folder, and leave it. [default: a temporary one]")
@json_option
def conformance(
    adapter: str,
    config: str | None,
    reports: tuple[str, ...],
    only: tuple[str, ...],
    only_list: bool,
    at_once: int,
    work_dir: str | None,
    as_json: bool,
) -> int:
    """
    Check that ADAPTER keeps what every adapter promises, by running things on it and looking at what they leave.

    Exit codes: 0 all checks hold but for named gaps, 1 some do not, 2 bad input.
    """
    from osiris_core.testing.candidate import Candidate
    from osiris_core.testing.conformance_page import WRITERS, verdict_of
    from osiris_core.testing.conformance_report import report_of

    problems: list[Problem] = []
    found = _adapter(adapter, config, problems, needs_place=not only_list)
    checks = _checks(only, problems)
    _check_folders(reports, work_dir, problems)
    if problems or found is None:
        raise PreparationError(problems)
    candidate = Candidate.of(found)
    if only_list:
        _list(candidate, checks, as_json=as_json)
        return exits.COMPLETED
    started_s, started_at = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    verdicts = _verdicts(candidate, checks, work_dir, at_once)
    report = report_of(candidate, verdicts, started_at, time.monotonic() - started_s)
    for name in reports:
        path = Path(name)
        path.write_text(WRITERS[path.suffix.lower()](report), encoding="utf-8", errors="backslashreplace")
        stdout.say(f"osiris: the report is in {path}")
    if as_json:
        stdout.write_json(report)
    else:
        failed = [verdict.check.name for verdict in verdicts if verdict.state == "fails"]
        stdout.write_result("\n".join([f"{candidate.name}: {verdict_of(report)}", *(f"  {name}" for name in failed)]))
    return exits.FAILED if report["counts"]["fails"] else exits.COMPLETED


def _adapter(name: str, config: str | None, problems: list[Problem], *, needs_place: bool) -> ExecutionAdapter | None:
    from osiris_core.testing.checks import CHECKS, unknown_gaps

    try:
        adapter = configured_adapter(RunOptions(manifest="", adapter=name, config=config))
    except PreparationError as exc:
        problems += exc.problems
        return None
    except OsirisError as exc:
        problems.append(Problem(str(exc)))
        return None
    unknown = unknown_gaps(getattr(adapter, "known_gaps", {}), CHECKS)
    problems += [Problem(f"adapter '{name}' names a gap '{gap}', and there is no such check") for gap in unknown]
    reason = adapter.unusable() if needs_place and hasattr(adapter, "unusable") else None
    if reason is not None:
        problems.append(Problem(f"nothing can be run by adapter '{name}': {reason}"))
    return adapter


def _checks(only: Sequence[str], problems: list[Problem]) -> list[Check]:
    from osiris_core.testing.checks import CHECKS

    known = [check.name for check in CHECKS]
    for name in only:
        if name not in known:
            hint = did_you_mean(name, known) or "see --list"
            problems.append(Problem(f"there is no check '{name}'", key="--only", hint=hint))
    return [check for check in CHECKS if not only or check.name in only]


def _check_folders(reports: Sequence[str], work_dir: str | None, problems: list[Problem]) -> None:
    from osiris_core.testing.conformance_page import WRITERS

    for file in reports:
        if Path(file).suffix.lower() not in WRITERS:
            message, hint = f"it cannot be told what kind of report {file} is", f"end it with {', '.join(WRITERS)}"
            problems.append(Problem(message, key="--report", hint=hint))
        elif not Path(file).absolute().parent.is_dir():
            problems.append(Problem(f"there is no folder {Path(file).absolute().parent}", key="--report"))
    if (
        work_dir is not None
        and Path(work_dir).exists()
        and (not Path(work_dir).is_dir() or any(Path(work_dir).iterdir()))
    ):
        problems.append(Problem(f"{work_dir} is there", key="--work-dir", hint="name a new or empty folder"))


def _verdicts(candidate: Candidate, checks: Sequence[Check], work_dir: str | None, at_once: int) -> list[Verdict]:
    """Run them one after another; what came of each is said at once."""
    from osiris_core.testing.bench import Bench
    from osiris_core.testing.parity_stage import Stage

    verdicts = []
    with ExitStack() as stack:
        if work_dir is None:
            made = tempfile.TemporaryDirectory(prefix="osiris-conformance-", ignore_cleanup_errors=True)
            work_dir = stack.enter_context(made)
        folder = Path(work_dir).resolve()
        (folder / "runs").mkdir(parents=True)
        bench = Bench(candidate, folder / "runs", Stage(folder / "shared"), runs_at_once=at_once)
        for number, check in enumerate(checks, 1):
            verdict = bench.verdict(check)
            verdicts.append(verdict)
            stdout.say(
                f"{number:>3}/{len(checks)}  {verdict.state:5}  {check.name}  {formatting.duration(verdict.took_s)}"
            )
            for note in verdict.notes:
                stdout.say("\n".join(f"         {line}" for line in note.splitlines()))
    return verdicts


def _list(candidate: Candidate, checks: Sequence[Check], *, as_json: bool) -> None:
    gaps = {check.name: check.gap(candidate.known_gaps) for check in checks}
    if as_json:
        described: list[dict[str, Any]] = [
            {"name": check.name, "promise": check.promise, "topic": check.topic, "gap": gaps[check.name]}
            for check in checks
        ]
        stdout.write_json({"adapter": candidate.name, "checks": described})
        return
    rows = [
        (check.name, check.promise + (f" (gap: {gaps[check.name]})" if gaps[check.name] else "")) for check in checks
    ]
    stdout.write_result("\n".join(formatting.table(("check", "promise"), rows)))
