"""The base of every adapter's configuration."""

from __future__ import annotations

from abc import abstractmethod
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, field_validator

from osiris_core.errors import Problem
from osiris_core.host_paths import HostPath
from osiris_core.redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

MIN_TIMEOUT_S = 60
MAX_TIMEOUT_S = 86_400
DEFAULT_TIMEOUT_S = 3600


class AdapterConfig(BaseModel):
    """Strict and frozen: an unknown key is refused, and every key is read by something."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    allow_sql_files: bool = Field(
        default=False,
        description="Let `duckdb.processor` steps of compiled Osiris manifests read and write files.",
    )
    code: Annotated[tuple[str, ...], HostPath()] = Field(
        default=(),
        description="Modules (.py), packages and folders of modules with your own drivers; they travel with the run.",
        examples=[["drivers.py"]],
    )
    compress_artifacts: bool = Field(
        default=False,
        description="Also keep all artifacts as one archive, `artifacts.tar.gz`, in the session directory.",
    )


def _existing_folder(path: Path) -> Path:
    found = path.expanduser()
    if not found.exists():
        raise ValueError(f"Working directory does not exist: {path}")
    if not found.is_dir():
        raise ValueError(f"Working directory is not a directory: {path}")
    return found.absolute()


# Dumped as text, so that `json.dump(config.model_dump())` works.
ExistingFolder = Annotated[Path, AfterValidator(_existing_folder), PlainSerializer(str)]


def named_variables(variables: dict[str, str]) -> dict[str, str]:
    """
    `variables`, whose names a process can have.

    Raises:
        ValueError: Some cannot be set; it names them all, and shows no value.
    """
    problems = []
    for name, value in variables.items():
        if not name.strip():
            problems.append("Environment variable keys cannot be empty")
        elif "=" in name or "\0" in name:
            problems.append(f"{name!r} is no name of an environment variable")
        elif "\0" in value:
            problems.append(f"the value of {name} contains a NUL character")
    if problems:
        raise ValueError("; ".join(problems))
    return variables


class BoundedSettings(BaseModel):
    """A limit, variables and a folder, by the same rules wherever something is run with them."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    timeout: int = Field(
        default=DEFAULT_TIMEOUT_S,
        ge=MIN_TIMEOUT_S,
        le=MAX_TIMEOUT_S,
        description="How many seconds it may take.",
        examples=[7200],
    )
    env_vars: dict[str, str] = Field(
        default_factory=dict,
        description="Variables that it sees: a public value, or ${NAME} for the secret value of a variable here. A "
        "value under a secret's name (API_TOKEN) is secret too.",
        examples=[{"OMP_NUM_THREADS": "4", "MODEL_DEBUG": "true"}],
    )
    working_dir: Annotated[ExistingFolder | None, HostPath()] = Field(
        default=None, description="The folder in which it runs. It must exist.", examples=["."]
    )

    @field_validator("env_vars")
    @classmethod
    def _variables_have_names(cls, variables: dict[str, str]) -> dict[str, str]:
        return named_variables(variables)

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """
        The configuration in a YAML or JSON file.

        Raises:
            FileNotFoundError: There is no such file.
            ConfigError: It does not fit, for every reason given, each with its line.
        """
        from osiris_core.configuration_file import load_as

        return load_as(cls, path)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """A configuration is soon logged: a literal value under a secret's name is not shown."""
        for name, value in super().__repr_args__():
            yield name, Redactor().value(value) if name == "env_vars" else value

    def validate(self) -> bool:  # type: ignore[override]
        """
        True: every rule holds now, also those about files and folders.

        Raises:
            ValidationError: Some do not.
        """
        type(self).model_validate(self.model_dump(exclude_unset=True))
        return True


class BaseBackendConfig(BoundedSettings, AdapterConfig):
    """
    What every configuration of a run backend has; one and the same serves manifests and model runs.

    A subclass says by `get_backend_class` who runs a model with it, and may name the fields that mean something for
    model runs only.
    """

    timeout: int = Field(
        default=DEFAULT_TIMEOUT_S,
        ge=MIN_TIMEOUT_S,
        le=MAX_TIMEOUT_S,
        description="How many seconds a run may take. For a manifest it counts when it is written here, and the run "
        "has no limit of its own.",
        examples=[7200],
    )
    env_vars: dict[str, str] = Field(
        default_factory=dict,
        description="Variables declared for every run: a public value, or ${NAME} for the secret value of a variable "
        "here. A value under a secret's name (API_TOKEN) is secret too. What a run declares itself wins.",
        examples=[{"OMP_NUM_THREADS": "4", "MODEL_DEBUG": "true"}],
    )
    working_dir: Annotated[ExistingFolder | None, HostPath()] = Field(
        default=None,
        description="The folder in which a model's command runs, instead of its workspace. It must exist.",
        examples=["."],
    )

    @abstractmethod
    def get_backend_class(self) -> type[Any]:
        """The class whose `run(model_run, config, workspace_dir=None)` runs a model with this configuration."""

    @property
    def runs_in_workspace(self) -> bool:
        """Whether a model's command sees its workspace itself, not a copy."""
        return False

    def model_run_problems(self) -> list[Problem]:
        """What is missing here for a model run, though a manifest can do without it."""
        return []

    def command_step(self, model_command: str | None) -> dict[str, Any] | None:
        """The `argv` or `shell` of the step that runs a model; None when there is no command."""
        command = getattr(self, "command", None) or model_command
        return None if command is None else {"shell": command}

    @classmethod
    def model_run_fields(cls) -> dict[str, str]:
        """The fields that mean something for model runs only, each with the reason."""
        return {"working_dir": "each step of a manifest has a directory of its own"}

    def manifest_problems(self) -> list[Problem]:
        """What is set here that a manifest would ignore, one problem a field."""
        name = str(getattr(self, "type", type(self).__name__))
        return [
            Problem(f"it is for model runs: {reason}", key=f"{name}.{field}", hint="leave it out for a manifest")
            for field, reason in self.model_run_fields().items()
            if field in self.model_fields_set and getattr(self, field) != _default(type(self), field)
        ]

    def for_model_run(self) -> Self:
        """The same as it is for an adapter that gets a model run as a manifest: what is in that is not in here."""
        return self.model_copy(update=_plain_values(type(self)))

    @property
    def manifest_timeout_s(self) -> float | None:
        """The limit of a manifest that has none of its own: what was written, never the default."""
        return self.timeout if "timeout" in self.model_fields_set else None


@lru_cache(maxsize=64)
def _plain_values(model: type[BaseBackendConfig]) -> dict[str, Any]:
    return {name: _default(model, name) for name in ("timeout", "env_vars", *model.model_run_fields())}


def _default(model: type[BaseModel], name: str) -> Any:
    if (factory := model.model_fields[name].default_factory) in (dict, list):
        return factory()  # pydantic would look at its signature each time
    return model.model_fields[name].get_default(call_default_factory=True, validated_data={})
