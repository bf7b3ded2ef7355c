"""The third phase, the same for every adapter: verify and publish what came home, and say what the run came to."""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from osiris_core.archive import pack
from osiris_core.artifacts import check_artifacts, publish
from osiris_core.driver import DriverRegistry, config_model
from osiris_core.errors import ExecutionError, FailureClass, OsirisError
from osiris_core.failure import describe_failure
from osiris_core.paths import map_paths, path_fields, safe_relative
from osiris_core.redaction import Redactor
from osiris_core.report import RunReport
from osiris_core.secrets import substitute
from osiris_core.session import Session, overwrite_json, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from osiris_core.aftermath import Aftermath
    from osiris_core.journal import Origin
    from osiris_core.prepared import PreparedRun
    from osiris_core.records import RunSummary

PHASES = ("prepare", "queue", "start", "transfer", "steps", "collect")
"""What a run's wall time is made of."""
SOMETIMES = ("earlier", "unattended")
"""And what else, where there was any: targets of a chain that it failed on before; steps over, and nobody waiting."""

SYNC_FROM_MS = 50.0
"""A run whose steps took less is sooner run again than its journal is forced to the disk."""


@dataclass
class Run:
    """
    One run from `prepare` to the end of `collect`: its session, its clock, and what came of it.

    `attached`: another controller, which is dead, started it; `told` is what the journal said then, `extra` what was
    known of its place. `told_end`: the journal has the host's last event already. `is_home`: what it left is here, as
    far as it can be had. `left_behind`: why its place may still be there, and the run in it.
    """

    prepared: PreparedRun
    session: Session | None = None
    host: Origin | None = None
    redactor: Redactor = field(default_factory=Redactor)
    summary: RunSummary | None = None
    error: dict[str, Any] | None = None
    report: RunReport | None = None
    spent_ms: dict[str, float] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    cancel_reason: str | None = None
    attached: bool = False
    told_end: bool = False
    is_home: bool = False
    left_behind: str | None = None
    told: Aftermath | None = None
    steps_end_ts: str = ""
    executed: threading.Event = field(default_factory=threading.Event)
    collecting: threading.RLock = field(default_factory=threading.RLock)

    def fail(self, error: BaseException) -> None:
        """The run did not complete, because of this; what was said first stays."""
        if self.error is None:
            self.error = describe_failure(error, self.redactor, failure_class_of(error))

    def tell_start(self, adapter: str) -> None:
        """The first event of a run."""
        assert self.host is not None
        self.host.emit(
            "run.start",
            pipeline=self.prepared.name,
            adapter=adapter,
            fingerprint=self.prepared.fingerprint,
            steps=len(self.prepared.manifest["steps"]),
            secret_names=self.prepared.secret_names,
        )

    @contextmanager
    def clock(self, name: str) -> Iterator[None]:
        """Book the time of the block under one of `PHASES`."""
        started_s = monotonic()
        try:
            yield
        finally:
            self.spent_ms[name] = self.spent_ms.get(name, 0.0) + (monotonic() - started_s) * 1000


def failure_class_of(error: BaseException) -> FailureClass | None:
    """An error of the phases themselves that nobody classified is ours, not the user's."""
    if isinstance(error, KeyboardInterrupt):
        return FailureClass.CANCELLED
    return None if isinstance(error, (OsirisError, OSError, MemoryError)) else FailureClass.ADAPTER_BUG


def collect_run(run: Run, adapter: str, *, publish_dir: str | None, compress: bool) -> RunReport:
    """
    Verify artifacts, publish the declared outputs of a completed run, end the journal, write `status.json`.

    What fails here makes the run a failed one, and is no exception: the report is all the more wanted then. The
    session is closed on return in every case.

    Raises:
        KeyboardInterrupt: Ctrl-C; the report was written all the same.
    """
    assert run.session is not None
    session = run.session
    interrupt: KeyboardInterrupt | None = None
    published: list[str] = []
    try:
        with run.clock("collect"):
            artifacts = run.summary.artifacts if run.summary else []
            if not session.is_ours:
                message = f"{session.layout.root} is another run's by now: nothing more was written there"
                run.fail(ExecutionError(message, failure_class=FailureClass.INFRA_LOST))
                report = run.report = RunReport(_report(run, adapter, published))
                return report
            try:
                check_artifacts(session.layout.artifacts_dir, artifacts)
                if publish_dir is not None and run.error is None:
                    published = _publish(run, Path(publish_dir))
                if compress and session.layout.artifacts_dir.is_dir():
                    names = [record.path for record in artifacts]
                    pack(session.layout.artifacts_dir, session.layout.root / "artifacts.tar.gz", names)
            except (Exception, KeyboardInterrupt) as exc:  # noqa: BLE001 - the report is to be written in any case
                run.fail(exc)
                interrupt = exc if isinstance(exc, KeyboardInterrupt) else None
            try:
                if run.host is not None and not run.told_end:
                    event = "run.error" if run.error else "run.complete"
                    run.host.emit(event, status=_status(run), artifacts=len(artifacts), error=run.error)
                    if run.spent_ms.get("steps", 0.0) >= SYNC_FROM_MS:
                        session.journal.sync()
            except (OSError, ValueError) as exc:  # a full disk: the report is still to be tried
                run.fail(exc)
        try:
            report = RunReport(_report(run, adapter, published))
            write_json(session.layout.status_file, report.to_json())
        except OSError as exc:
            run.fail(exc)
            report = RunReport(_report(run, adapter, published))
            with suppress(OSError):
                short = {name: report[name] for name in ("status", "session_id", "attempt", "pipeline")}
                error = {"type": type(exc).__name__, "message": str(exc)[:160], "failure_class": "resource_denied"}
                overwrite_json(session.layout.status_file, {**short, "error": error})
    finally:
        session.close()
    run.report = report
    if interrupt is not None:
        raise interrupt
    return report


def _status(run: Run) -> str:
    if run.error is None:
        return "completed" if run.summary is not None and run.summary.status == "completed" else "failed"
    if run.summary is not None and run.summary.status != "completed":
        return run.summary.status
    failure_class = str(run.error["failure_class"])
    return failure_class if failure_class in ("cancelled", "timeout") else "failed"


def _report(run: Run, adapter: str, published: list[str]) -> dict[str, Any]:
    assert run.session is not None
    prepared, summary = run.prepared, run.summary
    phases = [*PHASES[:-1], *(name for name in SOMETIMES if name in run.spent_ms), PHASES[-1]]
    timings = {f"{name}_ms": round(run.spent_ms.get(name, 0.0), 3) for name in phases}
    wall_ms = round(sum(timings.values()), 3)
    steps = [record.to_json() for record in summary.steps] if summary else []
    return {
        "status": _status(run),
        "pipeline": prepared.name,
        "session_id": run.session.session_id,
        "session_dir": str(run.session.layout.root),
        "attempt": run.session.attempt,
        "environment": adapter,
        "fingerprint": prepared.fingerprint,
        "artifacts": [record.to_json() for record in summary.artifacts] if summary else [],
        "metrics": {
            "rows_read": summary.rows_read if summary else 0,
            "rows_written": summary.rows_written if summary else 0,
            "execution_time_ms": timings["steps_ms"],
            "memory_usage_mb": max((step["memory_usage_mb"] for step in steps), default=0.0),
        },
        "steps": steps,
        "error": run.error,
        "timings": {**timings, "wall_ms": wall_ms},
        "overhead_ms": round(wall_ms - timings["steps_ms"], 3),
        "published": published,
        "input_files": [
            {"path": file.path, "size_bytes": file.size_bytes, "sha256": file.sha256} for file in prepared.input_files
        ],
        "secret_names": prepared.secret_names,
        **run.extra,
    }


def declared_outputs(prepared: PreparedRun) -> list[tuple[str, str]]:
    """The files that steps say they write, as (step id, path relative to the step's artifacts)."""
    found: list[tuple[str, str]] = []
    for step in prepared.steps:
        model = config_model(DriverRegistry.get(step.driver))
        for name, role in path_fields(model) if model else ():
            if role.role == "output":
                paths = (str(substitute(path, prepared.secrets)) for path in paths_in(step.config.get(name)))
                found.extend((step.id, str(safe_relative(path))) for path in paths)
    return found


def paths_in(value: Any) -> list[str]:
    """Every path in the value of a path field."""
    found: list[str] = []
    map_paths(value, lambda text: found.append(text) or text)  # type: ignore[func-returns-value]
    return found


def _publish(run: Run, publish_dir: Path) -> list[str]:
    assert run.session is not None
    wanted = declared_outputs(run.prepared)
    return [str(path) for path in publish(run.session.layout.artifacts_dir, wanted, publish_dir)]
