"""Runs one driver as a step of its own, with the real context, journal and table hand-over."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from osiris_core.cancellation import CancelToken
from osiris_core.driver import config_model
from osiris_core.journal import Journal, read_events
from osiris_core.paths import map_paths, path_fields, safe_relative
from osiris_core.redaction import Redactor
from osiris_core.step_context import StepContext
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
) -> DriverRun:
    """
    Run `driver` once and return what it did; whatever it raises is raised.

    Input paths of the configuration resolve against `directory`; artifacts, work files and the journal go
    into folders below it. `token` lets a test cancel the step from another thread.
    """
    redactor = Redactor(secrets)
    artifacts_dir = directory / "artifacts" / "step"
    with Journal(directory / "events.jsonl", "driver-harness") as journal:
        ctx = StepContext(
            step_id="step",
            attempt=1,
            origin=journal.origin("engine", redactor),
            token=token or CancelToken(),
            artifacts_dir=artifacts_dir,
            work_dir=directory / "work" / "step",
            environment=dict(environment)
            if environment
            else {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(directory)},
            memory_budget_bytes=memory_budget_bytes,
            threads=threads,
            redactor=redactor,
        )
        settings = _settings(driver, dict(config), directory, ctx)
        store = TableStore(directory / "spill", table_budget_bytes)
        outputs = store.keep(driver().run(step_id="step", config=settings, inputs=dict(inputs or {}), ctx=ctx) or {})
    return DriverRun(outputs, list(read_events(journal.path)), ctx.standard_metrics, artifacts_dir)


def _settings(driver: type[Any], config: dict[str, Any], directory: Path, ctx: StepContext) -> Any:
    model = config_model(driver)
    if model is None:
        return config
    model.model_validate(config)
    for name, role in path_fields(model):
        if name in config:
            place = directory if role.role == "input" else ctx.artifacts_dir
            config[name] = map_paths(config[name], partial(_placed, place))
    return model.model_validate(config)


def _placed(place: Path, path: str) -> str:
    return str(place / safe_relative(path))
