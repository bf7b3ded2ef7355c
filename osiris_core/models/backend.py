"""One model run by an adapter: its manifest, its phases, and what comes home into its workspace."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from osiris_core.drivers.forked_call import Call, driver_of
from osiris_core.errors import CollectError, OsirisError, PreparationError, Problem, SessionBusy, classify
from osiris_core.factory import AdapterFactory
from osiris_core.hidden_values import inherited_secrets, redactor_of
from osiris_core.models import log as model_log
from osiris_core.models.exclusion import alone_in, alone_in_workspace, in_turn
from osiris_core.models.homecoming import artifacts_of, under_way
from osiris_core.models.model_run import CommandModel
from osiris_core.models.one_step import OneStep, registered, run_one_step
from osiris_core.models.result import ModelArtifact, ModelPhase, ModelRunResult
from osiris_core.models.subject import as_workspace, default_workspace, expected_outputs, model_command, session_dir
from osiris_core.models.verdict import attempts_so_far, keep, look_for_outputs
from osiris_core.models.workspace import bring_into_workspace, tree_of
from osiris_core.secrets import escape

if TYPE_CHECKING:
    from collections.abc import Callable

    from osiris_core.config import BaseBackendConfig


class NothingToRun(Exception):
    """The model has no command and no `config.run`; that is no failure."""


@dataclass
class ModelBackendRun:
    """One run of one model by one adapter. Call `execute` once."""

    adapter: str
    model_run: Any
    config: BaseBackendConfig
    workspace_dir: str | os.PathLike[str] | None = None
    timeout_s: float | None = None
    phase: ModelPhase = "generate"
    timings: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    refused: Exception | None = None
    reported: str | None = None
    attempt: int | None = None

    def execute(self) -> ModelRunResult:
        """What came of it; only Ctrl-C is raised."""
        self.started_at, self._started_s = datetime.now(UTC), monotonic()
        self.session_dir = session_dir(self.model_run)
        configured_s: float | None = self.config.timeout  # a subclass may know none
        self.limit_s = configured_s if self.timeout_s is None else self.timeout_s
        self.workspace = as_workspace(default_workspace(self.model_run))
        try:
            self._check_command()
            named = self.config.working_dir if isinstance(self.config.working_dir, Path) else self.workspace_dir
            with alone_in_workspace(self.model_run, self.workspace_dir) as lock, alone_in(named or self.workspace):
                self._find_workspace(named)
                expected, in_place = expected_outputs(self.model_run), self.config.runs_in_workspace
                with alone_in(self.workspace), under_way(lock, self.workspace, expected, in_place=in_place):
                    self.phase = "prepare"
                    result = self._run()
        except NothingToRun as exc:
            self.warnings.append(str(exc))
            result = self._result(success=True, status="completed")
        except SessionBusy as exc:
            self.refused = exc
            result = self._result(success=False, status="failed", error=str(exc), failure_class=str(classify(exc)))
        except Exception as exc:  # noqa: BLE001 - `generate` may raise anything; a run that fails is a result
            words = str(exc) if isinstance(exc, OsirisError) else f"{type(exc).__name__}: {exc}"
            words = redactor_of(self.config).text(words)
            result = self._result(success=False, status="failed", error=words, failure_class=str(classify(exc)))
        keep(self.session_dir, result, self.reported)
        model_log.log_end(result)
        return result

    def _check_command(self) -> None:
        """Before inputs are generated for nothing."""
        own = getattr(self.model_run, "config", None)
        if not isinstance(own, CommandModel):
            return
        self.phase = "prepare"  # what a configuration says against it belongs there
        if self.config.command_step(own.command) is None:
            hint = "give one to it or to the backend, or an object with `run` as its `config`"
            raise PreparationError([Problem("the model run has no command", key="command", hint=hint)])
        self.phase = "generate"

    def _find_workspace(self, named: str | os.PathLike[str] | None) -> None:
        """`working_dir` goes before `workspace_dir`, before what `generate` returns, before the usual place."""
        generated = None
        if self.workspace_dir is None:
            started_s = monotonic()
            generated = self.model_run.generate()
            self.timings["generate_ms"] = round((monotonic() - started_s) * 1000, 3)
        chosen = named or generated
        if isinstance(chosen, (str, os.PathLike)):
            self.workspace = as_workspace(chosen)
        if not self.workspace.is_dir():
            raise PreparationError([Problem(f"Working directory does not exist: {self.workspace}", key="workspace")])

    # The step.

    def _run(self) -> ModelRunResult:
        command = self.config.command_step(model_command(self.model_run))
        settings = {
            "env": self.config.env_vars,
            "keep_changes": True,
            "log_output": bool(getattr(self.config, "stream_output", False)),
            "keep_output": bool(getattr(self.config, "capture_output", True)),
            **self._place(),
        }
        if command is not None:
            escaped = {name: _escaped(value) for name, value in command.items()}
            return self._finished(self._through({"driver": "command", "config": {**escaped, **settings}}))
        call = Call(in_turn(self._callable()))
        with registered(driver_of(call)) as driver:
            done = self._through({"driver": driver, "config": {"argv": ["config.run"], **settings}})
        result = self._finished(done)
        if not result.success or not call.outcome.returned or call.outcome.value is True:
            return result
        if call.outcome.value is False:
            words = "config.run said that the run failed (it returned False)"
            return replace(
                result, success=False, status="failed", phase="execute", error=words, failure_class="user_error"
            )
        warning = f"config.run returned {type(call.outcome.value).__name__}, not a bool; that counts as success"
        return replace(result, warnings=(*result.warnings, warning))

    def _place(self) -> dict[str, Any]:
        if not self.config.runs_in_workspace:
            return tree_of(self.workspace)
        return {
            "workspace": escape(str(self.workspace)),
            "inherit_env": bool(getattr(self.config, "inherit_env", False)),
        }

    def _callable(self) -> Callable[[], Any]:
        run = getattr(getattr(self.model_run, "config", None), "run", None)
        if not callable(run):
            raise NothingToRun("the model has no command and its config no run method; there was nothing to execute")
        if self.adapter != "local":
            message = f"config.run is Python of this process, and adapter '{self.adapter}' runs elsewhere"
            raise PreparationError([Problem(message, key="command", hint="give a command, or use backend local")])
        return lambda: run(self.model_run)

    def _through(self, step: dict[str, Any]) -> OneStep:
        inherited = inherited_secrets() if step["config"].get("inherit_env") else {}
        adapter = AdapterFactory.create(self.adapter, self.config.for_model_run())
        with adapter, model_log.followed(self.session_dir, on=step["config"]["log_output"]):
            return run_one_step(
                adapter,
                str(self.model_run.run_id),
                self.session_dir,
                step,
                timeout_s=self.limit_s,
                environment=inherited,
            )

    # What came of it.

    def _finished(self, done: OneStep) -> ModelRunResult:
        self.phase, self.refused = done.phase, done.refused
        if done.report is not None:
            self.reported, self.attempt = done.report.status, int(done.report["attempt"])
        self.timings.update(done.timings)
        artifacts: tuple[ModelArtifact, ...] = ()
        error, status, failure_class = done.error, done.status, done.failure_class
        expected = expected_outputs(self.model_run)
        missing: tuple[str, ...] = ()
        if done.report is not None:
            artifacts = artifacts_of(done.report)
            try:
                if not self.config.runs_in_workspace:
                    bring_into_workspace(done.report, self.workspace, artifacts)
                made = {self.workspace / artifact.path for artifact in artifacts}
                missing, unmet = look_for_outputs(self.workspace, expected, made)
                if error is None and unmet is not None:
                    self.phase, error, status, failure_class = "collect", unmet, "failed", "user_error"
            except CollectError as exc:
                if error is None:
                    self.phase, error, status, failure_class = "collect", str(exc), "failed", str(exc.failure_class)
        return self._result(
            success=error is None and status == "completed",
            status=status,
            error=error,
            failure_class=failure_class,
            return_code=0 if done.status == "completed" else done.details.get("exit_code"),
            signal=done.details.get("signal"),
            artifacts=artifacts,
            expected_outputs=expected,
            missing_outputs=missing,
            **self._logs(done),
        )

    def _logs(self, done: OneStep) -> dict[str, str]:
        if done.report is None:
            return {}
        found = {"session_dir": done.report.session_dir}
        for name in ("stdout", "stderr"):
            if any(item["path"] == f"run/{name}.log" for item in done.report.artifacts):
                found[f"{name}_log"] = str(Path(done.report.session_dir, "artifacts", "run", f"{name}.log"))
        return found

    def _result(self, **facts: Any) -> ModelRunResult:
        wall_ms = round((monotonic() - self._started_s) * 1000, 3)
        if self.attempt is None and not isinstance(self.refused, SessionBusy):
            self.attempt = attempts_so_far(self.model_run)
        return ModelRunResult(
            run_id=str(self.model_run.run_id),
            phase=self.phase,
            backend=self.adapter,
            workspace=str(self.workspace),
            started_at=self.started_at,
            finished_at=datetime.now(UTC),
            attempt=self.attempt,
            timeout_s=self.limit_s,
            timings={**self.timings, "wall_ms": wall_ms},
            warnings=tuple(self.warnings),
            **facts,
        )


def _escaped(value: str | list[str]) -> str | list[str]:
    """A command's own `${NAME}` is its shell's."""
    return escape(value) if isinstance(value, str) else [escape(word) for word in value]
