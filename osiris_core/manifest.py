"""The manifest of a pipeline: a DAG of steps, each run by a named driver."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
)

from osiris_core.errors import FailureClass, ManifestError, Problem
from osiris_core.working_directory import working_directory

if TYPE_CHECKING:
    from osiris_core.documents import Document

STEP_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,127}")
PARAM_NAME = r"[^\W\d][\w\-]*"
"""What a parameter may be called, in any language's letters."""
Scalar = str | int | float | bool | None


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)


class RetryPolicy(_Model):
    """When and how a failed step is tried again."""

    attempts: int = Field(default=3, ge=1, le=100, description="Tries in all, the first included.")
    backoff_s: float = Field(default=1.0, ge=0, description="Wait before the second try; doubles each time.")
    max_backoff_s: float = Field(default=60.0, ge=0, description="The longest wait, without its random part.")
    jitter_s: float = Field(default=1.0, ge=0, description="A random part of at most this is added to each wait.")
    on: list[FailureClass] = Field(
        default=[FailureClass.INFRA_LOST, FailureClass.TIMEOUT, FailureClass.RESOURCE_DENIED, FailureClass.PREEMPTED],
        description="The failure classes that are worth another try.",
    )


class InputReference(_Model):
    """One output of an earlier step."""

    from_step: str = Field(description="The step that gives it.")
    key: str | None = Field(default=None, description="The output's name; may be left out when there is only one.")
    optional: bool = Field(default=False, description="Leave the input out when the step gave no such output.")


class Step(_Model):
    """One step: a driver, its configuration, and what it takes from other steps."""

    id: str = Field(description="Unique name: letters, digits, `_`, `-` and `.`.", examples=["extract-orders"])
    driver: str = Field(description="The driver's name.", examples=["duckdb.processor"])
    config: dict[str, Any] = Field(default={}, description="The driver's configuration.")
    inputs: dict[str, str | InputReference] = Field(
        default={},
        description="Input name to `step` or `step.output`; the longest matching step id wins.",
        examples=[{"orders": "extract-orders"}],
    )
    needs: list[str] = Field(default=[], description="Steps that must complete first, without giving data.")
    retry: RetryPolicy | None = Field(default=None, description="Try again after a failure; not at all by default.")
    timeout_s: float | None = Field(default=None, gt=0, description="The longest one try may take.")

    @field_validator("config", mode="before")
    @classmethod
    def _config_is_json(cls, value: Any) -> Any:
        return _as_json(value)

    @field_validator("id")
    @classmethod
    def _id_is_plain(cls, value: str) -> str:
        if not STEP_ID.fullmatch(value) or ".." in value or value.endswith("."):
            raise ValueError(
                "an id has ASCII letters, digits, '_', '-' and single dots inside, at most 128 characters, "
                "and starts with a letter, a digit or '_'"
            )
        return value


class Pipeline(_Model):
    """What the pipeline is called."""

    name: str = Field(default="pipeline", min_length=1, description="Shown in lists of runs.")
    description: str = Field(default="", description="For people.")


class Param(_Model):
    """A value that `--param NAME=VALUE` may change; used in configurations as `${params.NAME}`."""

    default: Scalar | list[Scalar] = Field(default=None, description="Taken when none is given.")
    description: str = Field(default="", description="For people.")
    type: Literal["string", "integer", "number", "boolean"] | None = Field(
        default=None, description="What a given value must be; the default's type when left out."
    )
    required: bool = Field(default=False, description="There is no default: a value must be given.")


def _no_bare_list(value: Any) -> Any:
    if isinstance(value, list):
        raise ValueError(f"a list of values is written {{default: {json.dumps(value, default=str)}}}")
    return value


def _check_param_name(name: str) -> str:
    if not re.fullmatch(PARAM_NAME, name):
        raise ValueError(f"{name!r} is no name of a parameter: letters, digits, _ and -, the first one a letter or _")
    return name


ParamName = Annotated[str, AfterValidator(_check_param_name)]
ParamEntry = Annotated[Param | Scalar, BeforeValidator(_no_bare_list)]


class Manifest(_Model):
    """
    A pipeline in the native format.

    Also says where it came from: `base_dir` is the folder that relative input paths start at, `file` the
    file that problems are reported in.
    """

    pipeline: Pipeline | str = Field(default=Pipeline(), description="A name, or a name with a description.")
    params: dict[ParamName, ParamEntry] = Field(default={}, description="Parameters with their defaults.")
    steps: Annotated[list[Step], Field(min_length=1, description="The steps, in any order.")]

    _document: Any = PrivateAttr(default=None)  # a `documents.Document`
    _base_dir: Path = PrivateAttr(default_factory=working_directory)
    _compiled: bool = PrivateAttr(default=False)
    _source_files: list[Path] = PrivateAttr(default_factory=list)

    @property
    def name(self) -> str:
        return self.pipeline if isinstance(self.pipeline, str) else self.pipeline.name

    @property
    def base_dir(self) -> Path:
        """The folder that relative input paths start at."""
        return self._base_dir

    @property
    def file(self) -> str | None:
        """The file this manifest was read from, as it was named; None for a dict."""
        return self._document.file if self._document else None

    @property
    def compiled(self) -> bool:
        """Whether this is a compiled Osiris manifest."""
        return self._compiled

    @property
    def source_files(self) -> list[Path]:
        """The files it was made of, as absolute paths: its own, then the configuration files of a compiled one."""
        return self._source_files

    def line_of(self, *path: str | int) -> int | None:
        """The line of a value in `file`."""
        return self._document.line_of(path) if self._document else None

    def __getitem__(self, key: str) -> Any:
        """The manifest as the plain mapping it is written as (`manifest["steps"]`)."""
        return self.model_dump(mode="json")[key]


def load_manifest(source: str | Path | Mapping[str, Any] | Manifest, *, base_dir: str | Path | None = None) -> Manifest:
    """
    A manifest from a YAML or JSON file, or from a dict of the same shape; native or compiled by Osiris.

    Relative input paths start at `base_dir`; by default at the file's folder for a native manifest, and at the
    working directory for a dict or a compiled one (as Osiris has it).

    Raises:
        ManifestError: With every problem found, each with its line where there is a file.
        PreparationError: The working directory, which they start at, was removed.
    """
    if isinstance(source, Manifest):
        if base_dir is None:
            return source
        copy = source.model_copy()
        copy._base_dir = Path(base_dir).resolve()
        return copy
    from osiris_core.documents import Document, read_document  # not where steps are run: it imports a YAML reader

    document = read_document(Path(source)) if isinstance(source, (str, Path)) else Document(dict(source), "", None)
    if not isinstance(document.data, dict):
        what = "the file is empty" if document.data is None else f"this is a {type(document.data).__name__}"
        raise ManifestError([Problem(f"a manifest is a mapping with 'steps'; {what}", file=document.file, line=1)])
    problems: list[Problem] = []
    if _is_compiled(document.data):
        from osiris_core.osiris_manifest import translate_manifest

        native, problems = translate_manifest(document)
        folder = working_directory()
    else:
        native = document.data
        folder = Path(document.file).parent if document.file else working_directory()
    manifest = _validate(native, document, problems)
    manifest._document = document
    manifest._base_dir = Path(base_dir if base_dir is not None else folder).resolve()
    if document.file:
        manifest._source_files = [Path(document.file).absolute()]
    if native is not document.data:
        manifest._compiled = True
        cfg_folder = Path(document.file or "").absolute().parent
        manifest._source_files += [cfg_folder / step["cfg_path"] for step in document.data["steps"]]
    return manifest


def _is_compiled(data: dict[str, Any]) -> bool:
    steps = data.get("steps")
    return isinstance(steps, list) and any(isinstance(step, dict) and "cfg_path" in step for step in steps)


def _validate(data: dict[str, Any], document: Document, problems: list[Problem]) -> Manifest:
    """The manifest, or a ManifestError with `problems` and all that is found here."""
    from osiris_core.manifest_problems import validation_problems, value_problems, wiring_problems

    found = [*problems, *value_problems(data, document)]
    manifest = None
    try:
        manifest = Manifest.model_validate(data)
    except ValidationError as exc:
        known = {(problem.step_id, problem.key) for problem in found}
        validated = validation_problems(exc, data, document)
        found.extend(problem for problem in validated if (problem.step_id, problem.key) not in known)
    if manifest is None or found:
        found.extend(wiring_problems(data, document))
        raise ManifestError(found)
    return manifest


def _as_json(value: Any) -> Any:
    """A configuration of a dict manifest as JSON has it: paths become texts, tuples lists."""
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _as_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_json(item) for item in value]
    return value
