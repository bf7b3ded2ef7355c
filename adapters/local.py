"""The local adapter: the engine in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import ConfigDict, Field

from osiris_core.adapter import ExecutionAdapter
from osiris_core.command_settings import CommandSettings
from osiris_core.debugging import debugged_drivers
from osiris_core.driver import DriverRegistry
from osiris_core.engines_here import EnginesHere

if TYPE_CHECKING:
    from collections.abc import Mapping

    from osiris_core.collection import Run
    from osiris_core.config import AdapterConfig
    from osiris_core.context import ExecutionContext
    from osiris_core.records import RunSummary


_CRASH = "the engine is in the caller's process, which would end with it"
_ORPHAN = "a command outlives a kill -9 of its controller, which is the only one that knows it"
KNOWN_GAPS = {
    **dict.fromkeys(("segfault", "abort", "exit", "killed"), _CRASH),
    "holds-the-lock": "the engine is in the caller's process: who holds its interpreter's lock stops it too",
    "stubborn": "a thread that does not stop cannot be ended: it is left behind",
    "children-of-a-driver": "the children of a Python driver cannot be told from those of the caller",
    "long-line": "what Python drivers print goes where the caller's prints go",
    "orphan-is-cancelled": _ORPHAN,
    "orphan-is-removed": _ORPHAN,
}


class LocalConfig(CommandSettings):
    """Settings of the local adapter."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "local",
                    "command": "python3 run_model.py",
                    "timeout": 7200,
                    "env_vars": {"OMP_NUM_THREADS": "4"},
                },
            ]
        }
    )

    type: Literal["local"] = Field(default="local", description="Selects this adapter.")
    inherit_env: bool = Field(
        default=True,
        description="Whether a model run sees the environment of the caller, with `env_vars` on top. The steps of a "
        "manifest never do.",
    )

    @property
    def runs_in_workspace(self) -> bool:
        return True


class LocalAdapter(ExecutionAdapter):
    """
    Runs steps in threads of this process.

    `known_gaps` has what that means. Besides, Python drivers see the caller's `os.environ` and working directory (their
    own are in `ctx`), and a memory limit binds the engine's tables and DuckDB only.
    """

    name = "local"
    runs_here = True
    Config: ClassVar[type[AdapterConfig]] = LocalConfig

    def __init__(self, config: AdapterConfig | None = None) -> None:
        super().__init__(config)
        self._engines = EnginesHere()

    @property
    def known_gaps(self) -> Mapping[str, str]:
        return KNOWN_GAPS

    def start(self, run: Run, context: ExecutionContext) -> RunSummary:
        step = context.debug_step
        return self._engines.run(run, context, debugged_drivers(step) if step else DriverRegistry.get)

    def stop(self, reason: str) -> None:
        self._engines.cancel(reason)
