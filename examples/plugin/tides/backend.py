"""A run backend: the model's command at a lower priority, so that an office machine stays usable."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from osiris_core.backends import BaseBackendConfig
from osiris_core.secrets import substitute


class NiceConfig(BaseBackendConfig):
    """Settings of the run backend `nice`."""

    type: Literal["nice"] = Field(default="nice", description="Selects this backend.")
    command: str = Field(
        min_length=1, description="The program and its arguments; no shell sees them.", examples=["python3 model.py"]
    )
    niceness: int = Field(default=10, ge=0, le=19, description="How far the command steps back for others.")

    def get_backend_class(self) -> type[Any]:
        return NiceRunBackend


class NiceRunBackend:
    """Runs a model's command with `nice`."""

    def run(self, model_run: Any, config: NiceConfig, workspace_dir: str | None = None) -> bool:
        """
        Whether the command ended with 0.

        Raises:
            TimeoutError: It took longer than `config.timeout`; it, and what it started, was ended.
        """
        workspace = Path(workspace_dir or model_run.generate())
        command = ["nice", "-n", str(config.niceness), *shlex.split(config.command)]
        # What is secret stands in `env_vars` by its name, and gets its value here, at the last moment.
        environment = {**os.environ, **substitute(config.env_vars, os.environ)}
        process = subprocess.Popen(command, cwd=workspace, env=environment, start_new_session=True)
        try:
            return process.wait(timeout=config.timeout) == 0
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"Command execution timed out after {config.timeout} seconds") from None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
