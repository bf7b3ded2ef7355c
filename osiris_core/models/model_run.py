"""A plain model run: a workspace, a folder of templates, a command. Any object like `subject.Subject` does as well."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator
from pydantic.json_schema import SkipJsonSchema  # noqa: TC002 - pydantic reads the annotation

from osiris_core.drivers.command_changes import OURS
from osiris_core.errors import PreparationError, Problem
from osiris_core.host_paths import AnyPath, HostPath
from osiris_core.models.subject import as_workspace
from osiris_core.paths import safe_relative

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from typing import Self

    from osiris_core.config import BaseBackendConfig
    from osiris_core.models.postprocess_config import BasePostprocessorConfig
    from osiris_core.models.result import ModelRunResult
    from osiris_core.models.results import PipelineResult, PostprocessResult

LAYOUT = ("datasets", "outputs")
"""Folders that every workspace has; and a file INPUT, where no template brings one."""


class CommandModel:
    """The `config` of a model run that is nothing but a command."""

    def __init__(self, command: str | None) -> None:
        self.command = command

    def run(self, model_run: Any) -> bool:  # noqa: ARG002 - the protocol's
        """Run the command in the present directory; for backends of others that ask for it."""
        if self.command is None:
            raise ValueError("the model run has no command: give one to it or to the backend")
        return subprocess.run(["/bin/sh", "-c", self.command], check=False).returncode == 0


class ModelRun(BaseModel):
    """
    A model run with a workspace, `<output_dir>/<run_id>`.

    `last_result` is what the last `run` or `execute` came to.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        arbitrary_types_allowed=True,
        json_schema_extra={
            "examples": [
                {
                    "run_id": "north-sea",
                    "parameters": {"grid": "coarse"},
                    "command": "cp INPUT outputs/result.txt",
                    "expected_outputs": ["outputs/result.txt"],
                }
            ]
        },
    )

    NOT_DESCRIBED: ClassVar[frozenset[str]] = frozenset({"_last_result"})
    """What does not count when it is asked whether another model run is the same."""

    run_id: str = Field(
        default="run", min_length=1, description="Names the run and its workspace.", examples=["north-sea"]
    )
    output_dir: AnyPath = Field(
        default=Path("simulations"),
        description="The folder in which workspaces are; it starts at the current directory.",
    )
    run_id_subdir: bool = Field(
        default=True, description="Whether the workspace is a folder of this name in `output_dir`, or `output_dir`."
    )
    delete_existing: bool = Field(
        default=False, description="Whether `generate` empties a workspace that is there. Nothing else ever does."
    )
    template: Annotated[AnyPath | None, HostPath()] = Field(
        default=None,
        description="A folder whose files become the workspace's, rendered by Jinja2 with `parameters`.",
        examples=["templates/north-sea"],
    )
    parameters: dict[str, Any] = Field(
        default_factory=dict, description="What templates may name.", examples=[{"grid": "coarse", "hours": 24}]
    )
    command: str | None = Field(
        default=None,
        description="What runs the model, for /bin/sh, where the backend's configuration names nothing.",
        examples=["./model INPUT"],
    )
    expected_outputs: tuple[str, ...] = Field(
        default=(),
        description="Paths or globs in the workspace that a good run leaves; without them the run failed.",
        examples=[["outputs/*.nc"]],
    )
    config: SkipJsonSchema[Any] = Field(
        default=None,
        exclude=True,
        description="An object whose `run(model_run)` runs the model in a child of this process. Given in Python only.",
    )
    _last_result: ModelRunResult | None = PrivateAttr(default=None)

    @field_validator("run_id")
    @classmethod
    def _is_one_name(cls, run_id: str) -> str:
        if len(safe_relative(run_id).parts) > 1 or run_id.startswith("."):
            raise ValueError(f"{run_id!r} is no plain name of a folder")
        return run_id

    @field_validator("command")
    @classmethod
    def _command_says_something(cls, command: str | None) -> str | None:
        if command is not None and not command.strip():
            raise ValueError("the command is empty; leave it out")
        return command

    @field_validator("config")
    @classmethod
    def _config_is_object(cls, config: Any) -> Any:
        if isinstance(config, (str, bytes, int, float, list, tuple, dict)):
            raise ValueError(f"it is an object with a `run` method, given in Python; got {type(config).__name__}")
        return config

    @field_validator("expected_outputs")
    @classmethod
    def _outputs_are_inside(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            safe_relative(pattern)
        return patterns

    def model_post_init(self, _: Any) -> None:
        if self.config is None:
            object.__setattr__(self, "config", CommandModel(self.command))
            self.model_fields_set.discard("config")

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A model run of its own, with other values where `update` has some (unchecked); it has not run yet."""
        copied = super().model_copy(update=update, deep=deep)
        copied._last_result = None
        if copied.config is None or isinstance(copied.config, CommandModel):
            object.__setattr__(copied, "config", CommandModel(copied.command))
        return copied

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Self:
        """
        The model run in a YAML or JSON file.

        Raises:
            FileNotFoundError: There is no such file.
            ConfigError: It does not fit, for every reason given, each with its line.
        """
        from osiris_core.configuration_file import load_as

        return load_as(cls, Path(path))

    @property
    def staging_dir(self) -> Path:
        """The workspace; it need not be there."""
        return as_workspace(self.output_dir / self.run_id if self.run_id_subdir else self.output_dir)

    @property
    def last_result(self) -> ModelRunResult | None:
        """What the last run came to; None before the first."""
        return self._last_result

    def generate(self) -> str:
        """
        Write the inputs into the workspace and return it: the template, or a file INPUT with the parameters; and empty
        folders datasets and outputs.

        Raises:
            PreparationError: A template is wrong, for every reason; nothing was written or deleted.
            SessionBusy: Somebody is at work in the workspace; it was not touched.
        """
        from osiris_core.models.exclusion import alone_in

        with alone_in(self.staging_dir):
            return self._generate()

    def _generate(self) -> str:
        workspace = self.staging_dir
        if self.template is not None:
            from osiris_core.models.template import render_folder

            if not self.template.is_dir():
                raise PreparationError([Problem(f"there is no folder {self.template}", key="template")])
            values = {
                "run_id": self.run_id,
                "workspace": str(workspace),
                "parameters": self.parameters,
                **self.parameters,
            }
            template = self.template
            self._render(lambda target: render_folder(template, target, values))
        else:
            self._render(self._write_input)
        for name in LAYOUT:
            (workspace / name).mkdir(exist_ok=True)
        return str(workspace)

    def _render(self, write: Any) -> None:
        workspace = self.staging_dir
        if not (self.delete_existing and workspace.exists()):
            workspace.mkdir(parents=True, exist_ok=True)
            write(workspace)
            return
        workspace = workspace.resolve()  # a link to it stays one
        if workspace in (Path.cwd(), *Path.cwd().parents, Path.home().resolve()):
            message = f"delete_existing would delete {workspace}, in which more than this run lives"
            raise PreparationError([Problem(message, key="delete_existing", hint="set output_dir or run_id_subdir")])
        beside = workspace.with_name(f".{workspace.name}.new")
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        try:
            write(beside)  # what is there is deleted when the new inputs are whole
            if (workspace / OURS).exists():  # sessions of this run and others, where it has no folder of its own
                (workspace / OURS).rename(beside / OURS)
            shutil.rmtree(workspace)
            beside.rename(workspace)
        finally:
            shutil.rmtree(beside, ignore_errors=True)

    def _write_input(self, workspace: Path) -> None:
        lines = [f"run_id = {self.run_id}", *(f"{name} = {value}" for name, value in self.parameters.items())]
        (workspace / "INPUT").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def run(
        self,
        backend: str | BaseBackendConfig,
        workspace_dir: str | os.PathLike[str] | None = None,
        *,
        timeout_s: float | None = None,
        **settings: Any,
    ) -> bool:
        """
        Whether the model ran as it should; `last_result` says more. See `execution.execute_model`.

        Raises:
            ValueError: There is no such backend, or a setting does not fit.
            TypeError: `backend` is neither a name nor a configuration.
            TimeoutError: It took too long; no process of it is left.
        """
        from osiris_core.models.execution import truth_of

        return truth_of(self.execute(backend, workspace_dir, timeout_s=timeout_s, **settings))

    def execute(
        self,
        backend: str | BaseBackendConfig,
        workspace_dir: str | os.PathLike[str] | None = None,
        *,
        timeout_s: float | None = None,
        **settings: Any,
    ) -> ModelRunResult:
        """What came of a run; a failure is a result, not an exception. See `execution.execute_model`."""
        from osiris_core.models.execution import execute_model

        self._last_result = execute_model(self, backend, workspace_dir, timeout_s=timeout_s, **settings)
        return self._last_result

    def postprocess(
        self, processor: str | BasePostprocessorConfig | type[Any] = "noop", *, force: bool = False, **settings: Any
    ) -> PostprocessResult:
        """What a postprocessor made of the outputs. See `postprocess.postprocess`."""
        from osiris_core.models.postprocess import postprocess

        return postprocess(self, processor, force=force, **settings)

    def pipeline(self, pipeline_backend: str = "local", **settings: Any) -> PipelineResult:
        """What generate, run and postprocess came to, by a pipeline backend. See `pipeline.run_pipeline`."""
        from osiris_core.models.pipeline import run_pipeline

        return run_pipeline(self, pipeline_backend, **settings)
