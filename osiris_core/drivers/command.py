"""The driver that runs a program or a shell line."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from osiris_core.drivers.command_changes import Snapshot
from osiris_core.drivers.command_config import CommandConfig
from osiris_core.drivers.command_failure import KILLED, cannot_start, ended_badly
from osiris_core.drivers.command_process import CommandProcess, Finished
from osiris_core.drivers.command_workspace import Workspace
from osiris_core.errors import StepError
from osiris_core.memory_evidence import oom_kills

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from osiris_core.step_context import StepContext


class CommandDriver:
    """
    Runs a program (`argv`) or a shell line (`shell`) in a private working directory.

    Input tables are there as inputs/NAME.csv (or parquet, arrow) and their paths in OSIRIS_INPUT_NAME; files
    declared in `outputs` become outputs of the step. What it prints is followed as log events and kept as
    stdout.log and stderr.log. Files written to OSIRIS_ARTIFACTS_DIR, or named in `artifacts`, are kept too.
    With `workspace` it runs in a folder that is there, and leaves in it what it leaves. It sees the declared
    environment only, unless `inherit_env` says otherwise. When it ends, is cancelled or times out, every process that
    it started ends with it.
    """

    Config = CommandConfig
    version: ClassVar[str] = "1"
    deterministic: ClassVar[bool] = False
    needs_network: ClassVar[bool] = False
    owners_change: ClassVar[bool] = False
    """Whether the files of a workspace belong to somebody else while the command runs."""
    example: ClassVar[str] = """\
id: simulate
driver: command
inputs: {grid: prepare.df}
config:
  argv: [python3, model.py]
  files: [model.py]
  env: {STEPS: "100"}
  outputs:
    df: {path: result.csv, format: csv}
  artifacts: ["plots/*.png"]
"""

    @classmethod
    def output_names(cls, config: Any) -> frozenset[str]:
        return frozenset(config.outputs)

    def run(
        self, step_id: str, config: CommandConfig, inputs: Mapping[str, Any], ctx: StepContext
    ) -> dict[str, Any] | None:
        """
        Run the command to its end and return its declared outputs.

        Raises:
            StepError: It could not start, ended with another code than declared, was killed, or did not write what
                was declared.
            RunCancelled, RunTimeout: The step was stopped; no process of it is left.
        """
        ctx.raise_if_cancelled()
        workspace = Workspace(ctx, config.workspace)
        workspace.add_folders(config.folders)
        workspace.add_files(config.files)
        workspace.add_links(config.links)
        variables = workspace.add_inputs(inputs, config)
        cwd = workspace.start_dir(config.working_dir)
        before = Snapshot(workspace.root, owners_change=self.owners_change) if config.keep_changes else None
        environment = {
            **ctx.environment,
            **(os.environ if config.inherit_env else {}),
            **config.env,
            **variables,
            "OSIRIS_STEP_ID": step_id,
            "OSIRIS_ARTIFACTS_DIR": str(ctx.artifacts_dir),
            "OSIRIS_WORK_DIR": str(cwd),
            "PWD": str(cwd),
        }
        argv = config.argv or ["/bin/sh", "-c", config.shell or ""]
        finished = self.execute(config, argv, cwd, environment, ctx)
        ctx.metric("memory_usage_mb", round(finished.peak_rss_bytes / (1 << 20), 3))
        problems = workspace.keep_artifacts(config.artifacts, ctx.artifacts_dir) if config.artifacts else []
        if before is not None:
            workspace.keep_changes(before, ctx.artifacts_dir, tell=config.workspace is None)
        succeeded = finished.exit_code in config.success_exit_codes
        if not succeeded or ctx.cancelled:
            for problem in problems:
                ctx.log(problem, level="warning")
        ctx.raise_if_cancelled()
        if not succeeded:
            raise self.failure(finished, ctx)
        if problems:
            raise StepError("; ".join(problems), step_id=step_id)
        return workspace.outputs(config) or None

    def execute(
        self, config: CommandConfig, argv: Sequence[str], cwd: Path, environment: Mapping[str, str], ctx: StepContext
    ) -> Finished:
        """
        Run `argv` to its end, wherever this driver's commands run; no process of it is left.

        Raises:
            StepError: It cannot start.
        """
        process = self.process(ctx, config)
        kills_before = oom_kills()
        try:
            finished = process.run(argv, cwd, environment, config.stdin)
            if finished.exit_code not in KILLED:
                return finished
            return replace(finished, oom_kills=_risen(kills_before, oom_kills()))
        except OSError as exc:
            if process.started:
                raise
            raise cannot_start(exc, argv, cwd, environment, ctx) from exc

    def failure(self, finished: Finished, ctx: StepContext) -> StepError:
        """The error of a command that ended otherwise than it should."""
        return ended_badly(finished, finished.oom_kills, ctx)

    def process(self, ctx: StepContext, config: CommandConfig) -> CommandProcess:
        """What runs the command on this machine."""
        return CommandProcess(ctx, follow=config.log_output, keep=config.keep_output)


def _risen(before: int | None, after: int | None) -> int | None:
    return after - before if before is not None and after is not None else None
