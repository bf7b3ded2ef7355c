"""The settings of a model run's command, for configurations of places where any command may run."""

from __future__ import annotations

import shlex
from typing import Any

from pydantic import Field, field_validator, model_validator

from osiris_core.config import BaseBackendConfig
from osiris_core.errors import Problem


class CommandSettings(BaseBackendConfig):
    """What configurations add that take the command of a model run. A subclass adds the `type`, its adapter's name."""

    command: str | None = Field(
        default=None,
        description="What runs the model, in its workspace. Without it the model's own command, or its `config.run`.",
        examples=["python run_model.py"],
    )
    shell: bool = Field(
        default=True,
        description="Whether `command` is a line for /bin/sh. false: it is split into words, and no shell sees it.",
    )
    capture_output: bool = Field(
        default=True,
        description="Whether what the command prints is kept in files. false: it is passed on to the caller's own "
        "output as it comes, masked, and not kept.",
    )
    stream_output: bool = Field(
        default=False,
        description="Whether every line is logged as it arrives, and followed as an event. Without it the end of the "
        "output is logged when the command is over.",
    )

    @field_validator("command")
    @classmethod
    def _command_says_something(cls, command: str | None) -> str | None:
        if command is not None and not command.strip():
            raise ValueError("the command is empty; leave it out to run the model's own")
        return command

    @model_validator(mode="after")
    def _command_can_be_split(self) -> CommandSettings:
        if self.command is not None and not self.shell:
            try:
                shlex.split(self.command)
            except ValueError as exc:
                raise ValueError(f"the command cannot be split into words: {exc}") from exc
        if self.stream_output and not self.capture_output:
            raise ValueError("stream_output logs what is captured; with capture_output: false there is nothing to log")
        return self

    def model_run_problems(self) -> list[Problem]:
        if self.capture_output or self.runs_in_workspace:
            return []
        name = str(getattr(self, "type", type(self).__name__))
        message = "output can be passed on to this process's own where the command runs on this machine only"
        return [Problem(message, key=f"{name}.capture_output", hint="leave it out: output is kept, and comes home")]

    def command_step(self, model_command: str | None) -> dict[str, Any] | None:
        """The `argv` or `shell` of the step that runs a model; None when there is no command."""
        if self.command is not None and not self.shell:
            return {"argv": shlex.split(self.command)}
        return super().command_step(model_command)

    def get_backend_class(self) -> type[Any]:
        from osiris_core.models.run_backend import run_backend_class

        return run_backend_class(str(getattr(self, "type", "")))

    @classmethod
    def model_run_fields(cls) -> dict[str, str]:
        own = "the steps of a manifest have commands of their own"
        kept = "the output of a manifest's commands is always kept"
        return {
            **super().model_run_fields(),
            "command": own,
            "shell": own,
            "capture_output": kept,
            "stream_output": "`log_output` of a `command` step says so",
        }
