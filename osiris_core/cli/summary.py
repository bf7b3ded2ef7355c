"""A report as text: what came of a run, in as many lines as a screen has, and what to do next."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osiris_core.cli import formatting
from osiris_core.models.subject import lock_file_of

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_STEPS, MAX_ARTIFACTS, MAX_TRACEBACK_LINES = 40, 20, 12
_BAD = ("failed", "timeout", "cancelled")
_OWN_ERRORS = frozenset(
    {
        *("StepError", "ConfigError", "RunCancelled", "RunTimeout", "SealBroken", "CollectError"),
        *(
            "NeverPlaced",
            "NotAttached",
            "SandboxError",
            "ImageError",
            "EngineUnreachable",
            "NotThere",
            "WorkerLost",
            "ProtocolError",
            "RpcError",
        ),
    }
)


def headline(report: Mapping[str, Any]) -> str:
    """`completed  orders  3 steps  3,000 rows written  0.42 s`."""
    steps = report.get("steps") or []
    parts = [str(report.get("status", "unknown")), str(report.get("pipeline") or "")]
    if steps:
        done = sum(step["status"] in ("completed", "reused") for step in steps)
        counted = formatting.count(len(steps), "steps")
        parts.append(counted if done == len(steps) else f"{done} of {counted}")
    if "metrics" in report:
        parts.append(f"{formatting.count(report['metrics']['rows_written'])} written")
    if "timings" in report:
        parts.append(formatting.duration(report["timings"]["wall_ms"] / 1000))
    return "  ".join(part for part in parts if part)


def run_summary(report: Mapping[str, Any], *, optioned: bool = False) -> str:
    """What `osiris run` prints at its end; `optioned`: it was given options that nobody wrote down."""
    lines = [headline(report), "", *step_lines(report, MAX_STEPS)]
    if report.get("error"):
        lines += ["", *failure_lines(report, MAX_TRACEBACK_LINES)]
    lines += artifact_lines(report, MAX_ARTIFACTS)
    lines += ["", f"session    {report['session_dir']}"]
    if report["status"] != "completed":
        session_dir = shlex.quote(str(report["session_dir"]))
        more = "  (and the same --param, --connections, …)" if optioned else ""
        lines.append(f"more       osiris runs show {session_dir}")
        if not lock_file_of(Path(report["session_dir"])).exists():  # a model run begins anew
            from osiris_core.earlier_run import EarlierRun

            lines.append(f"go on      {EarlierRun.read(report['session_dir']).again}{more}")
    return "\n".join(lines)


def step_lines(report: Mapping[str, Any], limit: int) -> list[str]:
    """A table of the steps; of more than `limit`, those that ended badly first."""
    steps = list(report.get("steps") or [])
    shown = steps
    if len(steps) > limit:
        ranked = sorted(range(len(steps)), key=lambda index: (steps[index]["status"] not in _BAD, index))
        shown = [steps[index] for index in sorted(ranked[:limit])]
    rows = [
        (
            step["step_id"],
            step["status"] + (f" ({step['reason'].replace('_', ' ')})" if step["status"] == "skipped" else ""),
            f"{step['rows_read']:,}",
            f"{step['rows_written']:,}",
            formatting.duration(step["execution_time_ms"] / 1000) if step["attempts"] else "",
            str(step["attempts"]) if step["attempts"] > 1 else "",
            "thread left behind" if step["abandoned"] else "",
        )
        for step in shown
    ]
    lines = formatting.table(("step", "status", "rows read", "written", "time", "tries", ""), rows)
    return lines + ([f"… and {len(steps) - limit} more steps"] if len(steps) > limit else [])


def failure_lines(report: Mapping[str, Any], traceback_lines: int | None) -> list[str]:
    """The first failure: step, class, message, and the end of the traceback where it shows the user's own code."""
    error = report["error"]
    failed = next((step for step in report.get("steps") or [] if step["status"] in _BAD), None)
    place = f"step '{failed['step_id']}': " if failed else ""
    said = [str(error[name]) for name in ("failure_class", "type", "message") if error.get(name)]
    lines = [f"{place}{': '.join(said)}"]
    last_output = str((error.get("details") or {}).get("last_output") or "")
    if last_output:  # of an engine that crashed: with the stack, as far as Python could still tell it
        return [*lines, "  its last output:", *(f"    {line}" for line in last_output.rstrip().splitlines())]
    traceback = str(error.get("traceback") or "").rstrip().splitlines()
    # Our own drivers say all there is to know in the message; a traceback helps where the code is the user's.
    if traceback_lines is None or error["type"] not in _OWN_ERRORS:
        shown = traceback if traceback_lines is None else traceback[-traceback_lines:]
        lines += [f"  {line}" for line in shown]
    return lines


def artifact_lines(report: Mapping[str, Any], limit: int | None) -> list[str]:
    """The artifacts with their sizes, and the published files; nothing where there are none."""
    lines: list[str] = []
    artifacts = list(report.get("artifacts") or [])
    if artifacts:
        total = formatting.size(sum(item["size_bytes"] for item in artifacts))
        lines += ["", f"{formatting.count(len(artifacts), 'artifacts')}, {total}"]
        lines += [f"  {item['path']}  {formatting.size(item['size_bytes'])}" for item in artifacts[:limit]]
        if limit is not None and len(artifacts) > limit:
            lines.append(f"  … and {len(artifacts) - limit} more")
    if published := list(report.get("published") or []):
        lines += ["", "published", *(f"  {path}" for path in published[:limit])]
        if limit is not None and len(published) > limit:
            lines.append(f"  … and {len(published) - limit} more")
    return lines


def timing_lines(report: Mapping[str, Any]) -> list[str]:
    """The parts of the wall time; they add up to it."""
    timings = dict(report.get("timings") or {})
    wall_ms = timings.pop("wall_ms", None)
    if wall_ms is None:
        return []
    rows = [(name.removesuffix("_ms"), f"{value:,.1f} ms") for name, value in timings.items()]
    return formatting.table(("time", ""), [*rows, ("wall", f"{wall_ms:,.1f} ms")])
