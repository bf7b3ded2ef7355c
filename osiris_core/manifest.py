"""The manifest of a pipeline: a DAG of steps, each run by a named driver."""

from __future__ import annotations

import re
from collections.abc import Mapping  # noqa: TC003 - pydantic reads the annotations at run time
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, field_validator

from osiris_core.documents import Document, read_document
from osiris_core.errors import FailureClass, ManifestError, Problem
from osiris_core.suggestion import did_you_mean

STEP_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,127}")
Scalar = str | int | float | bool | None


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class RetryPolicy(_Model):
    """When and how a failed step is tried again."""

    attempts: int = Field(default=3, ge=1, le=100, description="Tries in all, the first included.")
    backoff_s: float = Field(default=1.0, ge=0, description="Wait before the second try; doubles each time.")
    max_backoff_s: float = Field(default=60.0, ge=0, description="The longest wait between two tries.")
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

    @field_validator("id")
    @classmethod
    def _id_is_plain(cls, value: str) -> str:
        if not STEP_ID.fullmatch(value) or ".." in value or value.endswith("."):
            raise ValueError("a step id has letters, digits, '_', '-' and single dots, at most 128 characters")
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


class Manifest(_Model):
    """
    A pipeline in the native format.

    Also says where it came from: `base_dir` is the folder that relative input paths start at, `file` the
    file that problems are reported in.
    """

    pipeline: Pipeline | str = Field(default=Pipeline(), description="A name, or a name with a description.")
    params: dict[str, Param | Scalar] = Field(default={}, description="Parameters with their defaults.")
    steps: Annotated[list[Step], Field(min_length=1, description="The steps, in any order.")]

    _document: Document | None = PrivateAttr(default=None)
    _base_dir: Path = PrivateAttr(default_factory=Path.cwd)
    _compiled: bool = PrivateAttr(default=False)
    _cfg_files: list[str] = PrivateAttr(default_factory=list)

    @property
    def name(self) -> str:
        return self.pipeline if isinstance(self.pipeline, str) else self.pipeline.name

    @property
    def base_dir(self) -> Path:
        """The folder that relative input paths start at."""
        return self._base_dir

    @property
    def file(self) -> str | None:
        """The file this manifest was read from, or None for a dict."""
        return self._document.file if self._document else None

    @property
    def compiled(self) -> bool:
        """Whether this is a compiled Osiris manifest."""
        return self._compiled

    @property
    def cfg_files(self) -> list[str]:
        """The configuration files of a compiled manifest."""
        return self._cfg_files

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
    """
    if isinstance(source, Manifest):
        if base_dir is None:
            return source
        copy = source.model_copy()
        copy._base_dir = Path(base_dir).resolve()
        return copy
    document = read_document(Path(source)) if isinstance(source, (str, Path)) else Document(dict(source), "", None)
    if not isinstance(document.data, dict):
        raise ManifestError([Problem("a manifest is a mapping with 'steps'", file=document.file, line=1)])
    if _is_compiled(document.data):
        from osiris_core.osiris_manifest import translate_manifest

        native, folder = translate_manifest(document), Path.cwd()
    else:
        native = document.data
        folder = Path(document.file).parent if document.file else Path.cwd()
    manifest = _validate(native, document)
    manifest._document = document
    manifest._base_dir = Path(base_dir if base_dir is not None else folder).resolve()
    if native is not document.data:
        manifest._compiled = True
        manifest._cfg_files = [
            str(Path(document.file or "").parent / step["cfg_path"]) for step in document.data["steps"]
        ]
    return manifest


def _is_compiled(data: dict[str, Any]) -> bool:
    steps = data.get("steps")
    return isinstance(steps, list) and any(isinstance(step, dict) and "cfg_path" in step for step in steps)


def _validate(data: dict[str, Any], document: Document) -> Manifest:
    try:
        return Manifest.model_validate(data)
    except ValidationError as exc:
        raise ManifestError(list(_problems(exc, data, document))) from None


def _problems(error: ValidationError, data: dict[str, Any], document: Document) -> list[Problem]:
    found: dict[tuple[str, str], Problem] = {}
    for item in error.errors(include_url=False):
        path = [part for part in item["loc"] if not _is_union_member(part)]
        step_id, rest = None, path
        if path[:1] == ["steps"] and len(path) > 1 and isinstance(path[1], int):
            step = data["steps"][path[1]]
            step_id = str(step["id"]) if isinstance(step, dict) and "id" in step else f"#{path[1] + 1}"
            rest = path[2:]
        key = ".".join(str(part) for part in rest)
        hint = None
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = "there is no such key"
            hint = did_you_mean(str(path[-1]), _known_keys(path))
        elif item["type"] == "missing":
            message = "is missing"
        problem = Problem(
            message, step_id=step_id, key=key or None, file=document.file, line=document.line_of(path), hint=hint
        )
        found.setdefault((str(step_id), key), problem)
    # A member of a union that was not meant complains about the whole value beside the one that was.
    keys = list(found)
    return [
        problem
        for (step, key), problem in found.items()
        if not any(step == other and further.startswith(f"{key}.") for other, further in keys)
    ]


_UNION_MEMBERS = {"Pipeline", "Param", "InputReference", "str", "int", "float", "bool"}


def _is_union_member(part: str | int) -> bool:
    """pydantic names the tried member of a union in its path; the file has no such key."""
    return isinstance(part, str) and (part in _UNION_MEMBERS or "[" in part)


def _known_keys(path: list[str | int]) -> list[str]:
    parents: dict[str, type[BaseModel]] = {"retry": RetryPolicy, "pipeline": Pipeline}
    if len(path) == 1:
        return list(Manifest.model_fields)
    if path[0] == "steps" and len(path) == 3:
        return list(Step.model_fields)
    for part in reversed(path[:-1]):
        if part in parents:
            return list(parents[str(part)].model_fields)
        if part == "inputs":
            return list(InputReference.model_fields)
    return list(Param.model_fields)
