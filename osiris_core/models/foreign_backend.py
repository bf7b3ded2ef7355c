"""
Somebody else's run backend, called as it is inside one step: with phases, events, a limit and a report like any run.

It runs in this process, because it may hold connections and change the model run that it is given. So a limit cannot
kill it: when it does not end in time, its thread is left behind, and the run is over.
"""

from __future__ import annotations

import inspect
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar

from osiris_core.drivers.command_changes import Snapshot
from osiris_core.errors import SessionBusy, StepError
from osiris_core.factory import AdapterFactory
from osiris_core.hidden_values import HIDDEN_FIELD, hidden_values, inherited_secrets
from osiris_core.models import log as model_log
from osiris_core.models.exclusion import alone_in, alone_in_workspace, in_turn
from osiris_core.models.homecoming import forget
from osiris_core.models.one_step import OneStep, registered, run_one_step
from osiris_core.models.result import ModelRunResult
from osiris_core.models.subject import as_workspace, default_workspace, expected_outputs, session_dir
from osiris_core.models.verdict import attempts_so_far, keep, look_for_outputs

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping

    from osiris_core.adapter import ExecutionAdapter
    from osiris_core.config import BaseBackendConfig
    from osiris_core.step_context import StepContext


@dataclass
class ForeignCall:
    """One call of a run backend, and what came of it; `before` is the folder that is `watched`, as it was then."""

    function: Callable[[], Any]
    watched: Path | None = None
    before: Snapshot | None = None
    value: Any = None
    raised: BaseException | None = None


class ForeignBackendDriver:
    """Calls a run backend in the step's thread. Use `type(...)` with a `call`, as `execute_foreign` does."""

    call: ClassVar[ForeignCall]

    def run(self, step_id: str, config: Mapping[str, Any], inputs: Mapping[str, Any], ctx: StepContext) -> None:  # noqa: ARG002
        self.call.before = Snapshot(self.call.watched) if self.call.watched is not None else None
        try:
            self.call.value = self.call.function()
        except BaseException as exc:
            self.call.raised = exc
            raise
        if not self.call.value:
            raise StepError(
                f"the run backend said that the run failed (it returned {self.call.value!r})", step_id=step_id
            )


def execute_foreign(
    backend_class: type[Any],
    model_run: Any,
    config: BaseBackendConfig | None,
    workspace_dir: str | os.PathLike[str] | None,
    *,
    settings: Mapping[str, Any],
    timeout_s: float | None,
) -> ModelRunResult:
    """What came of `backend_class().run(...)`; what it raises is in `exception` of the result."""
    started_at, started_s = datetime.now(UTC), monotonic()
    limit_s = _limit(config, settings) if timeout_s is None else timeout_s
    arguments = arguments_for(backend_class.run, config, workspace_dir, settings)
    workspace = as_workspace(workspace_dir or default_workspace(model_run))
    expected = expected_outputs(model_run)
    call = ForeignCall(lambda: backend_class().run(model_run, **arguments), workspace if expected else None)
    driver = type("ForeignBackendDriver", (ForeignBackendDriver,), {"call": call})
    with registered(driver) as name, AdapterFactory.create("local") as adapter:
        step = {"driver": name, "config": {HIDDEN_FIELD: hidden_values(settings, config)}}
        done = _alone(model_run, adapter, call, step, limit_s, (workspace, getattr(config, "working_dir", None)))
    error, status, failure_class, phase = done.error, done.status, done.failure_class, done.phase
    made = call.before.changes().files if call.before is not None else ()
    missing, unmet = look_for_outputs(workspace, expected, {workspace / name for name in made})
    if error is None and unmet is not None:
        phase, error, status, failure_class = "collect", unmet, "failed", "user_error"
    timed_out_itself = isinstance(call.raised, TimeoutError)
    result = ModelRunResult(
        success=error is None and status == "completed",
        run_id=str(model_run.run_id),
        status="timeout" if timed_out_itself else status,
        phase=phase,
        backend=backend_class.__name__,
        workspace=str(workspace),
        started_at=started_at,
        finished_at=datetime.now(UTC),
        failure_class="timeout" if timed_out_itself else failure_class,
        error=error,
        timeout_s=limit_s,
        timings={**done.timings, "wall_ms": round((monotonic() - started_s) * 1000, 3)},
        expected_outputs=expected,
        missing_outputs=missing,
        session_dir=done.report.session_dir if done.report is not None else "",
        attempt=_attempt(model_run, done),
        exception=call.raised,
    )
    keep(session_dir(model_run), result, done.report.status if done.report is not None else None)
    model_log.log_end(result)
    return result


def _attempt(model_run: Any, done: OneStep) -> int | None:
    if done.report is not None:
        return int(done.report["attempt"])
    return None if isinstance(done.refused, SessionBusy) else attempts_so_far(model_run)


def _alone(
    model_run: Any,
    adapter: ExecutionAdapter,
    call: ForeignCall,
    step: Mapping[str, Any],
    limit_s: float | None,
    folders: Iterable[Any],
) -> OneStep:
    try:
        with ExitStack() as stack:
            forget(stack.enter_context(alone_in_workspace(model_run)))
            for folder in folders:
                if isinstance(folder, Path):
                    stack.enter_context(alone_in(folder))
            call.function = in_turn(call.function)
            return run_one_step(
                adapter,
                str(model_run.run_id),
                session_dir(model_run),
                step,
                timeout_s=limit_s,
                environment=inherited_secrets(),
            )
    except (SessionBusy, OSError) as exc:
        return OneStep("prepare", refused=exc)


def arguments_for(
    run: Callable[..., Any],
    config: BaseBackendConfig | None,
    workspace_dir: str | os.PathLike[str] | None,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """
    What a backend's `run` takes beside the model run: `config` and `workspace_dir` where it names them, or where it has
    a configuration and takes anything; and every setting.
    """
    parameters = inspect.signature(run).parameters.values()
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    named = {parameter.name for parameter in parameters}
    given = dict(settings)
    if config is not None and (takes_all or "config" in named):
        given["config"] = config
    if "workspace_dir" in named or (takes_all and config is not None):
        given["workspace_dir"] = workspace_dir
    return given


def _limit(config: BaseBackendConfig | None, settings: Mapping[str, Any]) -> float | None:
    limit = config.timeout if config is not None else settings.get("timeout")
    return float(limit) if isinstance(limit, (int, float)) and limit > 0 else None
