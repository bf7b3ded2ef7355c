"""Pipelines: generate, run, postprocess, by whatever pipeline backend was asked for; here is the local one."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal

from osiris_core.drivers.command_workspace import KEPT_FOLDER
from osiris_core.errors import SessionBusy
from osiris_core.hidden_values import redactor_of
from osiris_core.models.exclusion import alone_in, alone_in_workspace
from osiris_core.models.execution import check_complete, execute_model, resolve
from osiris_core.models.model_run import ModelRun
from osiris_core.models.pipeline_state import PipelineState, asked_for, change_times, folder_digest, named_files
from osiris_core.models.postprocess import postprocess
from osiris_core.models.processor import resolve_processor
from osiris_core.models.registries import PIPELINES
from osiris_core.models.results import PipelineResult, PostprocessResult
from osiris_core.models.subject import as_workspace, check_subject, default_workspace, session_dir
from osiris_core.models.verdict import attempts_so_far, last_verdict

if TYPE_CHECKING:
    from osiris_core.config import BaseBackendConfig
    from osiris_core.models.postprocess_config import BasePostprocessorConfig

log = logging.getLogger("osiris.pipeline")

STAGES = ("generate", "run", "postprocess")


def run_pipeline(model_run: Any, pipeline_backend: str = "local", **settings: Any) -> PipelineResult:
    """
    What a pipeline backend, called with `settings`, made of the model run.

    Raises:
        ValueError: There is no such pipeline backend, or `model_run` is None or has no `run_id`.
        Exception: What a pipeline backend of somebody else's raises.
    """
    check_subject(model_run)
    result = PIPELINES.load(pipeline_backend)().execute(model_run, **settings)
    return result if isinstance(result, PipelineResult) else PipelineResult(result)


class LocalPipelineBackend:
    """Goes through the stages one after another, from this process."""

    def execute(
        self,
        model_run: Any,
        run_backend: str | BaseBackendConfig = "local",
        processor: str | BasePostprocessorConfig | type[Any] = "noop",
        run_kwargs: Mapping[str, Any] | None = None,
        process_kwargs: Mapping[str, Any] | None = None,
        cleanup_on_failure: bool = False,
        validate_stages: bool = True,
        *,
        backend_config: BaseBackendConfig | None = None,
        processor_config: BasePostprocessorConfig | None = None,
        force: bool = False,
        postprocess_failure: Literal["fail", "warn"] = "fail",
        timeout_s: float | None = None,
    ) -> PipelineResult:
        """
        Generate, run, postprocess; a failure is a result, not an exception. Nobody else works on the model run, or in
        its workspace, meanwhile.

        A stage that succeeded before, was asked for as now and left files that are still there is not repeated, unless
        with `force`. With `cleanup_on_failure` the workspace is removed when the run failed. With
        `postprocess_failure="warn"` a processor that says that it failed does not make the pipeline fail. `timeout_s`
        is how long the run may take, before what its configuration says; any positive number will do.

        Raises:
            ValueError: `model_run` is None or has no `run_id`; or a name or setting fits nothing. Nothing was done.
            TypeError: A backend or processor is of another kind. Nothing was done.
        """
        settings = dict(run_kwargs) if isinstance(run_kwargs, Mapping) else {}
        if (limit_s := settings.pop("timeout_s", None)) is not None:
            timeout_s = limit_s
        check_subject(model_run, timeout_s)
        for name, value in (("run_backend", run_backend), ("processor", processor)):
            if isinstance(value, str) and not value.strip():
                raise ValueError(f"{name} must be a non-empty string")
        if postprocess_failure not in ("fail", "warn"):
            raise ValueError(f"postprocess_failure is 'fail' or 'warn', got {postprocess_failure!r}")
        for name, given in (("run_kwargs", run_kwargs), ("process_kwargs", process_kwargs)):
            if given is not None and not isinstance(given, Mapping):
                raise TypeError(f"{name} is a mapping of settings, got {type(given).__name__}")
        run = LocalPipelineRun(
            model_run,
            backend_config if backend_config is not None else run_backend,
            settings,
            processor_config if processor_config is not None else processor,
            dict(process_kwargs or {}),
            cleanup_on_failure=cleanup_on_failure,
            validate_stages=validate_stages,
            warn_only=postprocess_failure == "warn",
            force=force,
            timeout_s=timeout_s,
        )
        return run.execute()


class StageFailed(Exception):
    """A stage did not succeed; `message` is what the pipeline says of it."""

    def __init__(self, message: str, error: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.error = error or message


class LocalPipelineRun:
    """One pass through the stages. Everything that was asked for is resolved before anything is done."""

    def __init__(
        self,
        model_run: Any,
        backend: str | BaseBackendConfig,
        run_settings: dict[str, Any],
        processor: Any,
        process_settings: dict[str, Any],
        *,
        cleanup_on_failure: bool,
        validate_stages: bool,
        warn_only: bool,
        force: bool,
        timeout_s: float | None,
    ) -> None:
        config, backend_class, own = resolve(backend, run_settings)
        check_complete(config)
        found = resolve_processor(processor, process_settings)
        self._model_run = model_run
        self._backend, self._run_settings = (config, {}) if config is not None else (backend, own)
        self._processor = processor if found.config is None else found.config
        self._process_settings = found.further
        self._takes_workspace = found.names("workspace") and "workspace" not in found.arguments
        self._cleans_up, self._validates, self._warns = cleanup_on_failure, validate_stages, warn_only
        self._force, self._timeout_s = force, timeout_s
        self._redactor = redactor_of(own, config, process_settings, found.config)
        self._asked = {
            "generate": asked_for(model_run, getattr(model_run, "config", None), *_places(model_run)),
            "run": asked_for(self._backend, self._run_settings, backend_class),
            "postprocess": asked_for(self._processor, self._process_settings, found.process),
        }
        backend_name = backend if isinstance(backend, str) else str(getattr(backend, "type", backend_class.__name__))
        self._result = PipelineResult(
            success=False,
            run_id=model_run.run_id,
            stages_completed=[],
            run_backend=backend_name,
            backend=backend_name,
            processor=found.name,
            staging_dir=None,
            timings={},
            skipped=[],
        )

    def execute(self) -> PipelineResult:
        """The stages in their order, up to the first that does not succeed."""
        with ExitStack() as self._alone:
            try:
                self._alone.enter_context(alone_in_workspace(self._model_run))
            except (SessionBusy, OSError) as exc:
                return self._fail("generate", StageFailed(f"The workspace cannot be had: {exc}", str(exc)))
            return self._stages()

    def _stages(self) -> PipelineResult:
        self._state = PipelineState(self._model_run, force=self._force)
        for stage, work in zip(STAGES, (self._generate, self._run, self._postprocess), strict=True):
            started_s = monotonic()
            try:
                work()
            except StageFailed as exc:
                self._state.failed()
                return self._fail(stage, exc, cleaned_up=stage == "run" and self._cleans_up and self._clean_up())
            finally:
                self._result["timings"][f"{stage}_ms"] = round((monotonic() - started_s) * 1000, 3)
            self._result["stages_completed"].append(stage)
        self._result["success"] = True
        self._result["message"] = "Pipeline completed successfully"
        return self._result

    def _fail(self, stage: str, failure: StageFailed, *, cleaned_up: bool = False) -> PipelineResult:
        said = {"message": self._masked(failure.message), "error": self._masked(failure.error)}
        self._result.update(stage=stage, **said, cleaned_up=cleaned_up)
        log.error("%s: %s (stage %s)", self._model_run.run_id, said["message"], stage)
        return self._result

    def _masked(self, said: Any) -> Any:
        """The same without secret values of what was asked for, for whoever reads it from a file or a log."""
        return self._redactor.texts(said)

    def _generate(self) -> None:
        if (before := self._state.enter("generate", self._asked["generate"])) is not None:
            self._result["staging_dir"] = before["staging_dir"]
            self._result["skipped"].append("generate")
            self._take(before["staging_dir"])
            return
        times = change_times(default_workspace(self._model_run))
        try:
            generated = self._model_run.generate()
        except Exception as exc:
            raise StageFailed(f"Input file generation failed: {exc}", str(exc)) from exc
        usable = isinstance(generated, (str, Path))
        folder = as_workspace(generated if usable else default_workspace(self._model_run))
        self._result["staging_dir"] = str(folder)
        if self._validates and not folder.is_dir():
            raise StageFailed(f"Output directory not found after generation: {folder}")
        self._take(folder)
        inputs = [path for path, time_ns in change_times(folder).items() if times.get(path) != time_ns]
        self._state.succeeded("generate", {"staging_dir": str(folder)}, [folder], inputs)

    def _take(self, folder: str | Path) -> None:
        """The workspace is ours until the end, also where the inputs were made in another than usual."""
        try:
            self._alone.enter_context(alone_in(folder))
        except SessionBusy as exc:
            raise StageFailed(f"The workspace cannot be had: {exc}", str(exc)) from exc

    def _run(self) -> None:
        last, attempt = last_verdict(self._model_run), self._state.said_of("run").get("attempt")
        # Somebody may have run it by itself since: that is another run, also where it succeeded.
        holds = (last is None or last.success) and attempt == attempts_so_far(self._model_run)
        if self._state.enter("run", self._asked["run"], holds=holds) is not None:
            self._result["run_success"] = True
            self._result["skipped"].append("run")
            return
        try:
            execute = self._model_run.execute if isinstance(self._model_run, ModelRun) else self._execute_other
            limit = {} if self._timeout_s is None else {"timeout_s": self._timeout_s}
            result = execute(self._backend, self._result["staging_dir"], **limit, **self._run_settings)
        except Exception as exc:
            self._result["run_success"] = False
            raise StageFailed(f"Model run error: {exc}", str(exc)) from exc
        finally:
            self._state.has_run()
        self._result["run_success"] = result.success
        if not result.success:
            if result.exception is not None:
                raise StageFailed(f"Model run error: {result.exception}", str(result.exception))
            raise StageFailed("Model run failed", result.error)
        left = [Path(result.workspace, artifact.path) for artifact in result.artifacts]
        self._state.succeeded("run", {"attempt": result.attempt}, left)

    def _execute_other(self, backend: Any, workspace: str, **settings: Any) -> Any:
        return execute_model(self._model_run, backend, workspace, **settings)

    def _postprocess(self) -> None:
        if (before := self._state.enter("postprocess", self._asked["postprocess"])) is not None:
            self._result["postprocess_results"] = PostprocessResult(before["results"])
            self._result["skipped"].append("postprocess")
            return
        work = self._model_run.postprocess if isinstance(self._model_run, ModelRun) else self._postprocess_other
        try:
            place = {"workspace": self._result["staging_dir"]} if self._takes_workspace else {}
            results = work(self._processor, **{**place, **self._process_settings})
        except Exception as exc:
            raise StageFailed(f"Postprocessing error: {exc}", str(exc)) from exc
        self._result["postprocess_results"] = results
        if results:
            self._state.succeeded("postprocess", {"results": self._masked(dict(results))}, named_files(results))
            return
        if not self._warns or results.get("raised"):
            raise StageFailed(results.message or "Postprocessing failed", results.error)
        log.warning("%s: postprocessing failed: %s", self._model_run.run_id, results.error)
        self._result["warnings"] = [f"postprocessing failed: {results.error}"]

    def _postprocess_other(self, processor: Any, **settings: Any) -> PostprocessResult:
        return postprocess(self._model_run, processor, **settings)

    def _clean_up(self) -> bool:
        """Remove the workspace, and what is kept of it among the artifacts; whether that could be done."""
        folder = Path(self._result["staging_dir"])
        shared = {Path(self._model_run.output_dir).absolute(), Path.cwd(), *Path.cwd().parents, Path.home()}
        if folder in shared:
            log.warning("%s: %s was not removed: more than this run lives in it", self._model_run.run_id, folder)
            return False
        try:
            shutil.rmtree(folder)
            shutil.rmtree(session_dir(self._model_run) / "artifacts" / "run" / KEPT_FOLDER, ignore_errors=True)
        except OSError as exc:
            log.warning("%s: %s cannot be removed: %s", self._model_run.run_id, folder, exc)
            return False
        return True


def _places(model_run: Any) -> list[Any]:
    """Where inputs come from and go to."""
    template = getattr(model_run, "template", None)
    files = folder_digest(template) if isinstance(template, Path) and template.is_dir() else None
    return [files, str(default_workspace(model_run))]
