"""
Postprocesses a model's outputs, by whatever processor was asked for, in a child of this process: with a limit that ends
it, variables and a folder of its own, and a journal like any other run. A built-in one that only looks needs no child.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osiris_core.drivers import thread_call
from osiris_core.drivers.forked_call import Call, driver_of
from osiris_core.factory import AdapterFactory
from osiris_core.hidden_values import HIDDEN_FIELD, hidden_values, inherited_secrets
from osiris_core.models.one_step import registered, run_one_step
from osiris_core.models.postprocess_config import BasePostprocessorConfig
from osiris_core.models.registries import POSTPROCESSOR_CONFIGS, POSTPROCESSORS
from osiris_core.models.registry import UnknownPlugin
from osiris_core.models.results import PostprocessResult
from osiris_core.models.settings import configured
from osiris_core.models.subject import check_subject, session_dir
from osiris_core.models.verdict import last_verdict
from osiris_core.secrets import escape

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from osiris_core.adapter import ExecutionAdapter
    from osiris_core.models.one_step import OneStep


def postprocess(
    model_run: Any,
    processor: str | BasePostprocessorConfig | type[Any] | object = "noop",
    *,
    force: bool = False,
    stage: str = "postprocess",
    **settings: Any,
) -> PostprocessResult:
    """
    What a processor made of the outputs of `model_run`; a failure is a result, not an exception.

    `processor` is a name with settings, a configuration (settings go before its own), or a class or object with
    `process`. After a run that failed nothing is processed; with `force` it is, and still no success.

    Raises:
        ValueError: There is no such processor, `model_run` is None or has no `run_id`, or a setting does not fit.
        TypeError: `processor` is nothing of that.
    """
    check_subject(model_run)
    name, config, process, arguments = resolve_processor(processor, settings)
    facts = {"run_id": model_run.run_id, "processor": name}
    verdict = last_verdict(model_run) if stage == "postprocess" else None
    failed = verdict is not None and not verdict.success
    if verdict is not None and failed and not force:
        message = f"The model run did not succeed ({verdict.error}); its outputs were not processed"
        return PostprocessResult(success=False, message=message, error=message, failure_class="user_error", **facts)
    call = Call(lambda: process(model_run, **arguments))
    if _only_looks(process, config):
        done = _in_thread(model_run, call, config, stage)
    else:
        done = _in_child(model_run, call, config, stage, hidden_values(settings, config))
    result = _result(done, call, facts)
    if verdict is not None and failed and result:
        error = f"The model run did not succeed ({verdict.error}); what was made of its outputs is no success"
        result.update(success=False, error=error, failure_class="user_error")
    return result


def _only_looks(process: Callable[..., Any], config: BasePostprocessorConfig | None) -> bool:
    """Whether it needs no process of its own. What is derived from such a class is somebody else's, and does."""
    own = vars(type(getattr(process, "__self__", None)))
    return bool(own.get("only_looks")) and not (config is not None and (config.env_vars or config.working_dir))


def _in_thread(model_run: Any, call: Call, config: BasePostprocessorConfig | None, stage: str) -> OneStep:
    with registered(thread_call.driver_of(call)) as driver, AdapterFactory.create("local") as adapter:
        return _run(adapter, model_run, {"driver": driver}, config, stage)


def _in_child(
    model_run: Any, call: Call, config: BasePostprocessorConfig | None, stage: str, hidden: Mapping[str, Any]
) -> OneStep:
    folder = config.working_dir if config is not None and config.working_dir is not None else Path.cwd()
    settings = {
        "argv": ["process"],
        "workspace": escape(str(folder)),
        "inherit_env": True,
        "env": config.env_vars if config is not None else {},
        "log_output": False,
        HIDDEN_FIELD: hidden,
    }
    with registered(driver_of(call)) as driver, AdapterFactory.create("local") as adapter:
        return _run(adapter, model_run, {"driver": driver, "config": settings}, config, stage)


def _run(
    adapter: ExecutionAdapter,
    model_run: Any,
    step: Mapping[str, Any],
    config: BasePostprocessorConfig | None,
    stage: str,
) -> OneStep:
    return run_one_step(
        adapter,
        f"{model_run.run_id}: {stage}",
        session_dir(model_run, stage),
        step,
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
    if isinstance(value, dict):
        found = PostprocessResult({**facts, "success": True, "message": "Postprocessing completed", **value})
        found["success"] = bool(found["success"])
        if not found and found.error is None:
            found["error"] = found.message
        return found
    success = value if isinstance(value, bool) else True
    message = "Postprocessing completed" if success else "the processor said that it failed (it returned False)"
    return PostprocessResult(
        {**facts, "success": success, "message": message, "result": value, **({} if success else {"error": message})}
    )


def resolve_processor(
    processor: Any, settings: dict[str, Any]
) -> tuple[str, BasePostprocessorConfig | None, Callable[..., Any], dict[str, Any]]:
    """
    Its name, its configuration, what is called, and with what beside the model run.

    Raises:
        ValueError: There is no such processor, or a setting does not fit.
        TypeError: It is neither a name nor a configuration, nor a class or object with `process`.
    """
    if isinstance(processor, str):
        if processor in POSTPROCESSOR_CONFIGS.names():
            processor = configured(POSTPROCESSOR_CONFIGS.load(processor), processor, settings)
            settings = {}
        elif processor in POSTPROCESSORS.names():
            return processor, None, POSTPROCESSORS.load(processor)().process, settings
        else:
            known = sorted({*POSTPROCESSORS.names(), *POSTPROCESSOR_CONFIGS.names()})
            raise UnknownPlugin(POSTPROCESSORS.unknown(processor, known))
    if isinstance(processor, BasePostprocessorConfig):
        return _configured(processor, settings)
    process = getattr(processor() if isinstance(processor, type) else processor, "process", None)
    if not callable(process):
        found = type(processor).__name__
        raise TypeError(f"processor must be a BasePostprocessorConfig instance, got {found}")
    name = processor.__name__ if isinstance(processor, type) else type(processor).__name__
    return name, None, process, settings


def _configured(
    config: BasePostprocessorConfig, settings: dict[str, Any]
) -> tuple[str, BasePostprocessorConfig, Callable[..., Any], dict[str, Any]]:
    """A processor by its configuration: it gets that as `config` where it names it, else its own fields by name."""
    name = str(getattr(config, "type", type(config).__name__))
    own = {key: value for key, value in settings.items() if key in type(config).model_fields}
    further = {key: value for key, value in settings.items() if key not in own}
    if own:
        written = {key: getattr(config, key) for key in config.model_fields_set}
        config = configured(type(config), name, {**written, **own})
    process = config.get_postprocessor_class()().process
    if "config" in inspect.signature(process).parameters:
        return name, config, process, {"config": config, **further}
    shared = {*BasePostprocessorConfig.model_fields, "type"}
    fields = {key: getattr(config, key) for key in type(config).model_fields if key not in shared}
    return name, config, process, {**fields, **further}
