"""
Postprocesses a model's outputs, by whatever processor was asked for, in a child of this process: with a limit that ends
it, variables and a folder of its own, and a journal like any other run. A built-in one that only looks needs no child.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osiris_core.drivers import thread_call
from osiris_core.drivers.forked_call import Call, driver_of
from osiris_core.errors import SessionBusy, classify
from osiris_core.factory import AdapterFactory
from osiris_core.hidden_values import HIDDEN_FIELD, hidden_values, inherited_secrets
from osiris_core.models.exclusion import alone_in_workspace, in_turn
from osiris_core.models.one_step import registered, run_one_step
from osiris_core.models.processor import Processor, resolve_processor
from osiris_core.models.results import PostprocessResult
from osiris_core.models.subject import check_subject, session_dir
from osiris_core.models.verdict import last_verdict
from osiris_core.secrets import escape

if TYPE_CHECKING:
    from collections.abc import Mapping

    from osiris_core.models.one_step import OneStep
    from osiris_core.models.postprocess_config import BasePostprocessorConfig

_stage: ContextVar[str] = ContextVar("stage", default="postprocess")
"""What is at work here: the sessions of a chain's steps are named after the chain's own."""


def postprocess(
    model_run: Any,
    processor: str | BasePostprocessorConfig | type[Any] | object = "noop",
    *,
    force: bool = False,
    **settings: Any,
) -> PostprocessResult:
    """
    What a processor made of the outputs of `model_run`; a failure is a result, not an exception.

    `processor` is a name with settings, a configuration (settings go before its own), or a class or object with
    `process`. Nobody runs the model meanwhile. After a run that failed nothing is processed; with `force` it is, and
    still no success. A processor that has a setting `force` of its own is given it too.

    Raises:
        ValueError: There is no such processor, `model_run` is None or has no `run_id`, or a setting does not fit.
        TypeError: `processor` is nothing of that.
    """
    check_subject(model_run)
    found = resolve_processor(processor, settings)
    if force and found.has_setting("force"):
        found = resolve_processor(processor, {**settings, "force": force})
    try:
        with alone_in_workspace(model_run):
            return _after_the_run(model_run, found, settings, force=force)
    except (SessionBusy, OSError) as exc:
        facts = {"run_id": model_run.run_id, "processor": found.name, "failure_class": str(classify(exc))}
        return PostprocessResult(success=False, message=f"Postprocessing error: {exc}", error=str(exc), **facts)


def process_step(model_run: Any, config: BasePostprocessorConfig, step: str, workspace: Any) -> PostprocessResult:
    """What one step of a chain made of the outputs, inside the chain's own turn: it has asked what there is to ask."""
    processor = resolve_processor(config, {})
    if workspace is not None and processor.names("workspace"):
        processor = replace(processor, arguments={"workspace": workspace, **processor.arguments})
    return _processed(model_run, processor, {}, f"{_stage.get()}.{step}")


def _after_the_run(
    model_run: Any, processor: Processor, settings: Mapping[str, Any], *, force: bool
) -> PostprocessResult:
    verdict = last_verdict(model_run)
    if verdict is None or verdict.success:
        return _processed(model_run, processor, settings, "postprocess")
    if not force:
        message = f"The model run did not succeed ({verdict.error}); its outputs were not processed"
        facts = {"run_id": model_run.run_id, "processor": processor.name, "failure_class": "user_error"}
        return PostprocessResult(success=False, message=message, error=message, **facts)
    result = _processed(model_run, processor, settings, "postprocess")
    if result:
        error = f"The model run did not succeed ({verdict.error}); what was made of its outputs is no success"
        result.update(success=False, error=error, failure_class="user_error")
    return result


def _processed(model_run: Any, processor: Processor, settings: Mapping[str, Any], stage: str) -> PostprocessResult:
    def call() -> Any:
        before = _stage.set(stage)
        try:
            return processor.process(model_run, **processor.arguments)
        finally:
            _stage.reset(before)

    called = Call(in_turn(call))
    if processor.only_looks:
        done = _run(model_run, stage, thread_call.driver_of(called), processor.config)
    else:
        hidden = hidden_values(settings, processor.config)
        done = _run(model_run, stage, driver_of(called), processor.config, _of_a_child(processor.config, hidden))
    return _result(done, called, {"run_id": model_run.run_id, "processor": processor.name})


def _of_a_child(config: BasePostprocessorConfig | None, hidden: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a step that is a process of its own."""
    folder = config.working_dir if config is not None and config.working_dir is not None else Path.cwd()
    return {
        "argv": ["process"],
        "workspace": escape(str(folder)),
        "inherit_env": True,
        "env": config.env_vars if config is not None else {},
        "log_output": False,
        HIDDEN_FIELD: hidden,
    }


def _run(
    model_run: Any,
    stage: str,
    driver: type[Any],
    config: BasePostprocessorConfig | None,
    settings: Mapping[str, Any] | None = None,
) -> OneStep:
    with registered(driver) as name, AdapterFactory.create("local") as adapter:
        return run_one_step(
            adapter,
            f"{model_run.run_id}: {stage}",
            session_dir(model_run, stage),
            {"driver": name, **({} if settings is None else {"config": settings})},
            timeout_s=float(config.timeout) if config is not None else None,
            environment=inherited_secrets(),
        )


def _result(done: OneStep, call: Call, facts: Mapping[str, Any]) -> PostprocessResult:
    if done.status != "completed" or not call.outcome.returned:
        error = done.error or "the processor left without a result"
        return PostprocessResult(
            success=False,
            message=f"Postprocessing error: {error}",
            error=error,
            failure_class=done.failure_class or "user_error",
            raised=True,
            **facts,
        )
    value = call.outcome.value
    said = value if isinstance(value, dict) else {"success": value is not False, "result": value}
    success = bool(said.get("success", True))
    failed = "the processor said that it failed" + (" (it returned False)" if value is False else "")
    message = "Postprocessing completed" if success else str(said.get("error") or failed)
    found = PostprocessResult({**facts, "success": success, "message": message, **said})
    found["success"] = success
    if not found and found.error is None:
        found["error"] = found.message
    return found
