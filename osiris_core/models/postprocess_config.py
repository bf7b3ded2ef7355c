"""Configurations of postprocessors: strict and frozen, selected by `type`, from Python, a mapping or a file."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import ConfigDict, Field, SerializeAsAny, field_validator

from osiris_core.config import BoundedSettings
from osiris_core.errors import ConfigError
from osiris_core.host_paths import AnyPath, HostPath
from osiris_core.models.registries import POSTPROCESSOR_CONFIGS
from osiris_core.models.settings import SettingsError, configured

if TYPE_CHECKING:
    import os

ArchiveFormat = Literal["tar", "tar.gz", "tar.zst", "zip"]
FailurePolicy = Literal["fail_fast", "continue"]


class BasePostprocessorConfig(BoundedSettings):
    """
    What every configuration of a postprocessor has. A subclass adds `type`, its name, and its own fields.

    `timeout` ends the processor and all that it started; `env_vars` and `working_dir` are those of its process.
    """

    @abstractmethod
    def get_postprocessor_class(self) -> type[Any]:
        """The class whose `process(model_run, ...)` does the work."""


class NoopPostprocessorConfig(BasePostprocessorConfig):
    """Looks whether there are outputs, and changes nothing."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"type": "noop", "validate_outputs": True, "timeout": 3600},
            ]
        }
    )

    type: Literal["noop"] = Field(default="noop", description="Selects this postprocessor.")
    validate_outputs: bool = Field(default=True, description="Whether the folder of the outputs must be there.")
    output_dir: Annotated[AnyPath | None, HostPath()] = Field(
        default=None, description="The folder to look at, instead of the workspace.", examples=["results"]
    )

    def get_postprocessor_class(self) -> Any:
        from osiris_core.models.postprocessors.noop import NoopPostprocessor

        return NoopPostprocessor


class ArchivePostprocessorConfig(BasePostprocessorConfig):
    """Packs the workspace into one file, with the sha256 of everything in it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"type": "archive", "format": "zip", "patterns": ["outputs/**/*"]},
            ]
        }
    )

    type: Literal["archive"] = Field(default="archive", description="Selects this postprocessor.")
    format: ArchiveFormat = Field(default="tar.gz", description="tar, tar.gz, tar.zst or zip.")
    archive: Annotated[AnyPath | None, HostPath()] = Field(
        default=None,
        description="The file to write; beside the workspace, under its name, without it.",
        examples=["results/north-sea.tar.gz"],
    )
    patterns: tuple[str, ...] = Field(
        default=("**/*",),
        min_length=1,
        description="Which files, as globs in the workspace: `*` stays in its folder, `**/` is any number of folders. "
        "That none is there is a failure.",
        examples=[["outputs/**/*"]],
    )

    def get_postprocessor_class(self) -> Any:
        from osiris_core.models.postprocessors.archive import ArchivePostprocessor

        return ArchivePostprocessor


class ReportPostprocessorConfig(BasePostprocessorConfig):
    """Lists every file of the workspace with size, time and sha256."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"type": "report", "checksums": True},
            ]
        }
    )

    type: Literal["report"] = Field(default="report", description="Selects this postprocessor.")
    report: Annotated[AnyPath | None, HostPath()] = Field(
        default=None,
        description="A JSON file to write it to as well; relative to the working directory.",
        examples=["report.json"],
    )
    checksums: bool = Field(default=True, description="Whether files are read for their sha256.")

    def get_postprocessor_class(self) -> Any:
        from osiris_core.models.postprocessors.report import ReportPostprocessor

        return ReportPostprocessor


class ChainPostprocessorConfig(BasePostprocessorConfig):
    """Several postprocessors, one after another, each in a process of its own."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"type": "chain", "steps": [{"type": "noop"}, {"type": "report"}], "failure_policy": "continue"},
            ]
        }
    )

    type: Literal["chain"] = Field(default="chain", description="Selects this postprocessor.")
    steps: tuple[SerializeAsAny[BasePostprocessorConfig], ...] = Field(
        min_length=1,
        description="Configurations of postprocessors, each with its `type`.",
        examples=[[{"type": "noop"}, {"type": "report"}]],
        # What else a step has depends on its type, also on those that plugins bring.
        json_schema_extra={
            "items": {"type": "object", "required": ["type"], "properties": {"type": {"type": "string"}}}
        },
    )
    failure_policy: FailurePolicy = Field(
        default="fail_fast", description="After a failure: fail_fast tries no further one, continue tries them all."
    )

    @field_validator("steps", mode="before")
    @classmethod
    def _by_type(cls, steps: Any) -> Any:
        if not isinstance(steps, (list, tuple)):
            return steps
        return tuple(
            processor_config_of(step, f"steps.{index}") if isinstance(step, Mapping) else step
            for index, step in enumerate(steps)
        )

    def get_postprocessor_class(self) -> Any:
        from osiris_core.models.postprocessors.chain import ChainPostprocessor

        return ChainPostprocessor


def processor_config_of(data: Mapping[str, Any], name: str = "processor") -> BasePostprocessorConfig:
    """
    The configuration that a mapping with `type` stands for. `data` is not changed.

    Raises:
        ValueError: It has no `type`, nothing is of that type, or it does not fit, for every reason.
    """
    model, dropped = _model_of(data)
    found: BasePostprocessorConfig = configured(
        model, name, {key: value for key, value in data.items() if key not in dropped}
    )
    return found


def _model_of(data: Mapping[str, Any]) -> tuple[type[Any], tuple[str, ...]]:
    """The class that `type` names, and the keys that are none of its own. Raises ValueError where there is none."""
    kind = data.get("type")
    if not isinstance(kind, str) or not kind:
        raise ValueError("a processor configuration needs a 'type'")
    if kind not in POSTPROCESSOR_CONFIGS.names():
        known = ", ".join(POSTPROCESSOR_CONFIGS.names())
        raise ValueError(f"Unknown processor type: '{kind}'. Available types: {known}")
    model = POSTPROCESSOR_CONFIGS.load(kind)
    return model, () if "type" in model.model_fields else ("type",)


def load_processor_config(source: str | os.PathLike[str] | Mapping[str, Any]) -> BasePostprocessorConfig:
    """
    The postprocessor's configuration in a YAML or JSON file, or a mapping, which is not changed.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no mapping, has no `type`, nothing is of that type, or it does not fit.
    """
    if isinstance(source, Mapping):
        return processor_config_of(source)
    from osiris_core.configuration_file import load_as, read_configuration
    from osiris_core.errors import ManifestError

    try:
        model, dropped = _model_of(read_configuration(Path(source)))
        config: BasePostprocessorConfig = load_as(model, Path(source), drop=dropped)
        return config
    except ConfigError as exc:
        raise SettingsError(exc.problems) from exc
    except ManifestError as exc:
        raise ValueError(f"{exc} (a processor configuration is a mapping with a 'type')") from exc


def validate_postprocessor_config(
    file: str | os.PathLike[str], processor_type: str | None = None
) -> tuple[bool, str, BasePostprocessorConfig | None]:
    """Whether the file holds a configuration, of that type if one is named; what is wrong; and it. Never raises."""
    try:
        config = load_processor_config(file)
    except Exception as exc:  # noqa: BLE001 - that is what it is for
        return False, str(exc), None
    kind = getattr(config, "type", None)
    if processor_type is not None and kind != processor_type:
        return False, f"Processor type '{kind}' does not match expected type '{processor_type}'", None
    return True, f"{type(config).__name__} is valid", config
