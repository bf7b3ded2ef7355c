"""One try of one step: fill in its configuration, call its driver, take over what it returns and leaves."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from osiris_core.artifacts import find_artifacts
from osiris_core.driver import DriverRegistry, config_model
from osiris_core.errors import ConfigError, Problem, StepError
from osiris_core.paths import map_paths, path_fields, safe_relative
from osiris_core.run_pool import RunPool
from osiris_core.secrets import substitute
from osiris_core.step_context import StepContext
from osiris_core.tables import is_table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from osiris_core.cancellation import CancelToken
    from osiris_core.journal import Origin
    from osiris_core.plan import StepPlan
    from osiris_core.records import ArtifactRecord
    from osiris_core.redaction import Redactor
    from osiris_core.secrets import SecretValues
    from osiris_core.tables import TableStore


@dataclass(frozen=True)
class Place:
    """
    Where a run happens, as the engine sees it. `locate` turns a step's input path into the file that is here.

    `environment` is what every step gets: declared variables with their values, and PATH, HOME, LANG, LC_ALL, TZ.
    """

    session_id: str
    artifacts_dir: Path
    work_dir: Path
    checkpoints_dir: Path
    environment: dict[str, str]
    locate: Callable[[str, str], str]
    run_key: str = ""


@dataclass(frozen=True)
class Share:
    """What one step may use of the run's memory and processors."""

    memory_budget_bytes: int
    threads: int


@dataclass
class AttemptResult:
    """What a driver gave, taken over, and what was counted."""

    outputs: dict[str, Any] = field(default_factory=dict)
    artifacts: list[ArtifactRecord] = field(default_factory=list)
    rows_read: int = 0
    rows_written: int = 0
    memory_usage_mb: float = 0.0
    took_s: float = 0.0


class StepRunner:
    """Runs attempts; holds what all attempts of a run share. Thread-safe."""

    def __init__(
        self,
        place: Place,
        share: Share,
        store: TableStore,
        origin: Origin,
        values: SecretValues,
        connections: Mapping[str, Mapping[str, Any]],
        redactor: Redactor,
        find_driver: Callable[[str], type[Any]] = DriverRegistry.get,
        *,
        keep_work_dirs: bool = False,
    ) -> None:
        self._keep_work_dirs = keep_work_dirs
        self._find_driver = find_driver
        self._place = place
        self._artifacts_dir = str(place.artifacts_dir)
        self._work_dir = str(place.work_dir)
        self._share = share
        self._store = store
        self._origin = origin
        self._values = values
        self._connections = connections
        self._redactor = redactor
        self._left: dict[str, list[ArtifactRecord]] = {}
        self.pool = RunPool()

    def left_artifacts(self, step_id: str) -> list[ArtifactRecord]:
        """What the last try of a step left, for one that fails after all."""
        return self._left.get(step_id, [])

    def run(self, step: StepPlan, number: int, inputs: Mapping[str, Any], token: CancelToken) -> AttemptResult:
        """
        One try. Whatever the driver raises is raised; the outputs are then nobody's.

        The files the step left are recorded also after a failure: `left_artifacts` then has them. On return the
        work directory is gone, and nothing that the driver left running can publish anything more.
        """
        started_s = monotonic()
        self._left.pop(step.id, None)
        ctx = self._context(step, number, token)
        result = AttemptResult()
        try:
            driver_class = self._find_driver(step.driver)
            config = self.settings(step, driver_class)
            returned = driver_class().run(step_id=step.id, config=config, inputs=inputs, ctx=ctx)
            result.outputs = self._keep(step, returned, ctx)
            result.artifacts = self._left[step.id] = self._record_artifacts(step.id, token)
            self._count(result, inputs, ctx)
        except BaseException:
            # What goes wrong here must not hide why the step failed.
            with suppress(Exception):
                for value in result.outputs.values():
                    self._store.release(value)
                if step.id not in self._left:
                    self._left[step.id] = self._record_artifacts(step.id, token)
            raise
        finally:
            token.fence()
            if not self._keep_work_dirs:
                ctx.remove_work_dir()
        result.took_s = monotonic() - started_s
        return result

    def _context(self, step: StepPlan, number: int, token: CancelToken) -> StepContext:
        return StepContext(
            step_id=step.id,
            attempt=number,
            origin=self._origin,
            token=token,
            artifacts_dir=f"{self._artifacts_dir}/{step.id}",
            work_dir=f"{self._work_dir}/{step.id}.{number}",
            environment=self._place.environment,
            memory_budget_bytes=self._share.memory_budget_bytes,
            threads=self._share.threads,
            redactor=self._redactor,
            run_key=self._place.run_key,
            pool=self.pool,
        )

    def settings(self, step: StepPlan, driver_class: type[Any]) -> Any:
        """
        The step's configuration with every value and path in it, as its driver takes it.

        Raises:
            ConfigError: It does not fit the driver's model (a value changed since prepare).
        """
        if not step.config:
            model = config_model(driver_class)
            return {} if model is None else _validated(model, {}, step.id)
        raw = dict(step.config)
        reference = raw.get("connection")
        if isinstance(reference, str):
            raw["connection"] = self._connections.get(reference, {})
        config = substitute(raw, self._values)
        model = config_model(driver_class)
        if model is None:
            if "connection" in config:
                config["resolved_connection"] = config["connection"]  # the name that Osiris drivers know
            return config
        for name, role in path_fields(model):
            if role.role == "input":
                value = map_paths(step.config.get(name), lambda path: self._place.locate(step.id, path))
            else:
                folder = self._place.artifacts_dir / step.id
                if config.get(name):
                    folder.mkdir(parents=True, exist_ok=True)
                value = map_paths(config.get(name), partial(_placed, folder))
            if value is not None:
                config[name] = value
        return _validated(model, config, step.id)

    def _keep(self, step: StepPlan, returned: Any, ctx: StepContext) -> dict[str, Any]:
        if returned is None:
            return {}
        if not hasattr(returned, "items"):
            raise StepError(
                f"driver '{step.driver}' returned a {type(returned).__name__}; a driver returns a mapping of names "
                "to tables or JSON values, or None",
                step_id=step.id,
            )
        return self._store.keep(returned, own_dir=ctx.made_work_dir)

    def _record_artifacts(self, step_id: str, token: CancelToken) -> list[ArtifactRecord]:
        try:
            with os.scandir(f"{self._artifacts_dir}/{step_id}") as entries:  # every step comes here, most left nothing
                if next(entries, None) is None and not os.path.islink(f"{self._artifacts_dir}/{step_id}"):  # noqa: PTH114
                    return []
        except FileNotFoundError:
            return []
        except OSError:
            pass  # told below

        def left_out(path: str, reason: str) -> None:
            message = f"not an artifact: {path}: {reason}"
            token.publish(lambda: self._origin.emit("log", step_id, level="warning", message=message))

        records = []
        for record in find_artifacts(self._place.artifacts_dir / step_id, step_id, left_out):
            token.publish(partial(self._origin.emit, "artifact", step_id, **_described(record)))
            records.append(record)
        return records

    def _count(self, result: AttemptResult, inputs: Mapping[str, Any], ctx: StepContext) -> None:
        tables_in = [value for value in inputs.values() if is_table(value)]
        rows_in = sum(table.num_rows for table in tables_in)
        rows_out = sum(value.num_rows for value in result.outputs.values() if is_table(value))
        told = ctx.standard_metrics
        result.rows_read = int(told.get("rows_read", rows_in if tables_in else rows_out))
        result.rows_written = int(told.get("rows_written", rows_out))
        own_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
        result.memory_usage_mb = round(float(told.get("memory_usage_mb", own_mb)), 1)


def _described(record: ArtifactRecord) -> dict[str, Any]:
    return {"path": record.path, "size_bytes": record.size_bytes, "sha256": record.sha256}


def _placed(folder: Path, path: str) -> str:
    return str(folder / safe_relative(path))


def _validated(model: type[Any], config: dict[str, Any], step_id: str) -> Any:
    from pydantic import ValidationError

    try:
        return model.model_validate(config)
    except ValidationError as exc:
        from osiris_core.pydantic_words import findings

        raise ConfigError(
            Problem(found.message, step_id=step_id, key=f"config.{found.key}".rstrip("."), hint=found.hint)
            for found in findings(exc, config, model)
        ) from None
