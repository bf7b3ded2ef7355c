"""Runs one driver as a step of its own, with the real context, journal and table hand-over."""

from __future__ import annotations

from dataclasses import dataclass, field
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from osiris_core.attempt import Place, Share, StepRunner
from osiris_core.cancellation import CancelToken
from osiris_core.driver import config_model
from osiris_core.journal import JOURNAL_NAME, Journal, read_events
from osiris_core.lifting import lift, marked_secret_fields
from osiris_core.paths import with_path_defaults
from osiris_core.plan import StepPlan
from osiris_core.redaction import Redactor
from osiris_core.secrets import SecretValues
from osiris_core.tables import TableStore

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass
class DriverRun:
    """What a driver did: its outputs (tables already handed over), events, metrics and artifact files."""

    outputs: dict[str, Any] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    artifacts_dir: Path | None = None


def run_driver(
    driver: type[Any],
    config: Mapping[str, Any],
    directory: Path,
    inputs: Mapping[str, Any] | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    secrets: tuple[str, ...] = (),
    token: CancelToken | None = None,
    memory_budget_bytes: int = 256 << 20,
    table_budget_bytes: int = 256 << 20,
    threads: int = 2,
    run_key: str | None = None,
) -> DriverRun:
    """
    Run `driver` once and return what it did; whatever it raises is raised.

    Input paths of the configuration resolve against `directory`; artifacts, work files and the journal go
    into folders below it. `token` lets a test cancel the step from another thread; two calls with one `run_key` are
    two tries of one step.
    """
    model = config_model(driver)
    values = {f"given-{number}": value for number, value in enumerate(secrets)}
    marked = marked_secret_fields(model) if model is not None else frozenset()
    settings = lift(with_path_defaults(model, config) if model else dict(config), "@step.config", marked, values)
    redactor = Redactor(values.values())
    if environment is None:
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(directory)}
    place = Place(
        session_id="driver-harness",
        artifacts_dir=directory / "artifacts",
        work_dir=directory / "work",
        checkpoints_dir=directory / "checkpoints",
        environment=dict(environment),
        locate=lambda _, path: str(directory / path),
        run_key=run_key or token_hex(16),
    )
    store = TableStore(directory / "spill", table_budget_bytes)
    with Journal(directory / JOURNAL_NAME, place.session_id) as journal:
        origin = journal.origin("engine", redactor)
        share = Share(memory_budget_bytes, threads)
        given = SecretValues(values)
        runner = StepRunner(place, share, store, origin, given, {}, redactor, lambda _: driver, keep_work_dirs=True)
        step = StepPlan("step", driver.__name__, settings)
        try:
            result = runner.run(step, 1, dict(inputs or {}), token or CancelToken())
        finally:
            runner.pool.close()
    return DriverRun(
        outputs=result.outputs,
        events=list(read_events(journal.path)),
        metrics={
            "rows_read": result.rows_read,
            "rows_written": result.rows_written,
            "memory_usage_mb": result.memory_usage_mb,
        },
        artifacts_dir=place.artifacts_dir / "step",
    )
