"""The local adapter: the engine in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from osiris_core.adapter import ExecutionAdapter
from osiris_core.config import AdapterConfig
from osiris_core.engine_run import EngineRun

if TYPE_CHECKING:
    from osiris_core.collection import Run
    from osiris_core.context import ExecutionContext
    from osiris_core.records import RunSummary


class LocalConfig(AdapterConfig):
    """Settings of the local adapter."""

    type: Literal["local"] = Field(default="local", description="Selects this adapter.")


class LocalAdapter(ExecutionAdapter):
    """
    Runs steps in threads of this process.

    Named gaps: Python drivers see the caller's `os.environ` and working directory (their own are in `ctx`), a step
    that does not stop leaves its thread behind, and a memory limit binds the engine's tables and DuckDB only.
    """

    name = "local"
    Config: ClassVar[type[AdapterConfig]] = LocalConfig

    _engine_run: EngineRun | None = None

    def start(self, run: Run, context: ExecutionContext) -> RunSummary:
        assert run.session is not None
        self._engine_run = EngineRun(run.prepared, run.session, run.redactor, resume=context.resume)
        if self._cancel_reason is not None:
            self._engine_run.cancel(self._cancel_reason)
        try:
            return self._engine_run.run()
        finally:
            run.summary = self._engine_run.summary
            self._engine_run = None

    def stop(self, reason: str) -> None:
        engine_run = self._engine_run  # once: the run may end meanwhile
        if engine_run is not None:
            engine_run.cancel(reason)
