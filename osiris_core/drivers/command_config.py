"""The configuration of the `command` driver."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from osiris_core.paths import InputPath, safe_relative, stays_inside

TableFormat = Literal["csv", "parquet", "arrow"]
OutputFormat = Literal["csv", "parquet", "arrow", "json"]

STEP_TOKEN = "OSIRIS_STEP_TOKEN"  # noqa: S105 - the name of a variable that marks processes, no secret
RESERVED = re.compile(rf"{STEP_TOKEN}|OSIRIS_STEP_ID|OSIRIS_ARTIFACTS_DIR|OSIRIS_WORK_DIR|OSIRIS_INPUT_.*|PWD")
_FORMAT_BY_SUFFIX: dict[str, OutputFormat] = {
    ".csv": "csv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".json": "json",
}


def _whole_number_as_text(value: Any) -> Any:
    # YAML reads `sleep, 5` as a number. A float is refused: 1.10 would arrive as 1.1.
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _no_nul(value: str) -> str:
    if "\0" in value:
        raise ValueError("contains a NUL character, which no program can be given")
    return value


ExitCode = Annotated[int, Field(ge=0, le=255)]
Text = Annotated[str, BeforeValidator(_whole_number_as_text)]


class OutputFile(BaseModel):
    """A file that the command writes and that becomes an output of the step."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    path: str = Field(description="Where the command writes it: a path relative to the working directory.")
    format: OutputFormat | None = Field(
        default=None,
        description="csv, parquet, arrow (IPC file or stream) or json (a JSON value); without it, told by the suffix.",
    )

    @model_validator(mode="after")
    def _path_is_safe_and_format_known(self) -> OutputFile:
        safe_relative(self.path)
        if self.format is None and PurePosixPath(self.path).suffix.lower() not in _FORMAT_BY_SUFFIX:
            raise ValueError(f"cannot tell the format of {self.path!r} by its suffix; set format")
        return self

    @property
    def resolved_format(self) -> OutputFormat:
        return self.format or _FORMAT_BY_SUFFIX[PurePosixPath(self.path).suffix.lower()]


class CommandConfig(BaseModel):
    """Exactly one of `argv` and `shell`; everything else is optional."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    argv: list[Text] | None = Field(
        default=None, min_length=1, description="The program and its arguments; no shell sees them."
    )
    shell: str | None = Field(default=None, description="A line for /bin/sh -c, passed on as it is.")
    files: list[InputPath] | dict[str, InputPath] = Field(
        default_factory=list,
        description="Files copied into the working directory before: a list (under their own names) or a mapping "
        "from the name there. The originals are never touched.",
    )
    env: dict[str, Text] = Field(
        default_factory=dict, description="Variables added to the declared environment; nothing else travels."
    )
    input_format: TableFormat = Field(
        default="csv",
        description="How input tables are written to inputs/NAME.csv|parquet|arrow; JSON inputs go to "
        "inputs/NAME.json. The absolute path is in OSIRIS_INPUT_NAME.",
    )
    outputs: dict[str, OutputFile] = Field(
        default_factory=dict, description="Files read back as the step's outputs after the command succeeded."
    )
    artifacts: list[str] = Field(
        default_factory=list,
        description="Paths or globs in the working directory kept as artifacts, also after a failure. The command may "
        "as well write to OSIRIS_ARTIFACTS_DIR.",
    )
    working_dir: str | None = Field(
        default=None,
        description="Subfolder in which the command starts, made if it is not there. All other paths stay relative to "
        "the working directory itself.",
    )
    workspace: str | None = Field(
        default=None,
        description="An existing folder of the machine that the engine is on, in which the command runs, instead of a "
        "private one. It stays as the command leaves it.",
    )
    folders: list[str] = Field(
        default_factory=list, description="Folders made in the working directory before, where they are not there."
    )
    links: dict[str, str] = Field(
        default_factory=dict,
        description="Symbolic links made in the working directory before: the name of each, and what it leads to, "
        "relative to it and in the working directory too.",
    )
    keep_changes: bool = Field(
        default=False,
        description="Keep every file that the command makes or changes in the working directory as an artifact, below "
        "`workspace/`.",
    )
    inherit_env: bool = Field(
        default=False,
        description="Add the whole environment of the process that the engine is in. Only `local` takes it: elsewhere "
        "that is not the caller's.",
    )
    success_exit_codes: list[ExitCode] = Field(default=[0], min_length=1, description="Exit codes that mean success.")
    stdin: str | None = Field(default=None, description="Text on standard input; without it, /dev/null.")
    log_output: bool = Field(
        default=True, description="Whether output is also followed as log events, beside stdout.log and stderr.log."
    )
    keep_output: bool = Field(
        default=True,
        description="Whether output is kept as stdout.log and stderr.log. false: it is passed on to the output of the "
        "process that the engine is in, masked.",
    )

    @model_validator(mode="after")
    def _one_command(self) -> CommandConfig:
        if (self.argv is None) == (self.shell is None):
            raise ValueError("give exactly one of argv (a list) and shell (a line for /bin/sh)")
        if not (self.argv[0] if self.argv else self.shell or "").strip():
            raise ValueError("the command is empty")
        for text in self.argv or [self.shell or ""]:
            _no_nul(text)
        return self

    @field_validator("env")
    @classmethod
    def _env_can_be_set(cls, env: dict[str, str]) -> dict[str, str]:
        for name, value in env.items():
            if not name or "=" in name or "\0" in name:
                raise ValueError(f"{name!r} is no name of an environment variable")
            if RESERVED.fullmatch(name):
                raise ValueError(f"{name} is set by the driver itself")
            _no_nul(value)
        return env

    @field_validator("files")
    @classmethod
    def _names_are_safe(cls, files: list[str] | dict[str, str]) -> list[str] | dict[str, str]:
        names = list(files) if isinstance(files, dict) else [PurePosixPath(path).name for path in files]
        for name in names:
            safe_relative(name)
        if len(set(names)) < len(names):
            raise ValueError("two files have one name; give a mapping {name in the working directory: file}")
        return files

    @field_validator("artifacts", "folders")
    @classmethod
    def _patterns_are_safe(cls, patterns: list[str]) -> list[str]:
        for pattern in patterns:
            safe_relative(pattern)
        return patterns

    @field_validator("links")
    @classmethod
    def _links_stay_inside(cls, links: dict[str, str]) -> dict[str, str]:
        for name, to in links.items():
            if not stays_inside(str(safe_relative(name)), to):
                raise ValueError(f"link {name!r} leads out of the working directory")
        return links

    @field_validator("workspace")
    @classmethod
    def _workspace_is_absolute(cls, workspace: str | None) -> str | None:
        if workspace is not None and not PurePosixPath(workspace).is_absolute():
            raise ValueError(f"{workspace!r} must be an absolute path")
        return workspace

    @field_validator("working_dir")
    @classmethod
    def _working_dir_is_safe(cls, working_dir: str | None) -> str | None:
        if working_dir is not None:
            safe_relative(working_dir)
        return working_dir
