"""The Slurm adapter: runs as batch jobs, job arrays, in pilots, or through srun."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, ClassVar

from adapters.slurm_cluster.board import Board
from adapters.slurm_cluster.check import missing_tools, problems
from adapters.slurm_cluster.config import SlurmConfig
from adapters.slurm_cluster.environment import worker_python
from adapters.slurm_cluster.pilot import PilotSandbox
from adapters.slurm_cluster.pool import PilotPool
from adapters.slurm_cluster.sandbox import SlurmSandbox
from adapters.slurm_cluster.submit import SubmitRate
from osiris_core.errors import PreparationError
from remote.adapter import RemoteAdapter

if TYPE_CHECKING:
    from osiris_core.collection import Run
    from osiris_core.config import AdapterConfig
    from osiris_core.context import ExecutionContext
    from osiris_core.errors import Problem
    from osiris_core.prepared import PreparedRun
    from remote.sandbox import Sandbox

__all__ = ["SlurmAdapter", "SlurmConfig"]


class SlurmAdapter(RemoteAdapter):
    """
    Runs manifests on a Slurm cluster. A job goes on when this process is gone; nothing of it is left when its run was
    collected.
    """

    name = "slurm"
    Config: ClassVar[type[AdapterConfig]] = SlurmConfig
    example: ClassVar[str] = """\
type: slurm
shared_dir: /scratch/me/osiris
partition: main
time_limit: 0:30:00
mem: 4G
"""
    config: SlurmConfig

    def __init__(self, config: AdapterConfig | None = None) -> None:
        super().__init__(config)
        self._board = Board(self.config.poll_min_s, self.config.poll_max_s)
        self._rate = SubmitRate(self.config.max_submit_rate)
        self._pool: PilotPool | None = None
        self._making = threading.Lock()

    def unusable(self) -> str | None:
        missing = missing_tools(self.config)
        return f"{', '.join(missing)}: not in PATH" if missing else None

    def check(self, prepared: PreparedRun, context: ExecutionContext) -> None:
        found: list[Problem] = []
        try:
            super().check(prepared, context)
        except PreparationError as exc:
            found += exc.problems
        found += problems(self.config, worker_python(self.config))
        if found:
            raise PreparationError(found)

    def make_sandbox(self, run: Run, context: ExecutionContext, token: str) -> Sandbox:
        if self.config.label is not None:
            run.extra["queue"] = self.config.label
        python = worker_python(self.config)
        facts = {
            "token": token,
            "session_id": context.session_id,
            "session_dir": context.session_dir,
            "name": run.prepared.name,
        }
        if self.config.mode == "pilot":
            needs_s = float(run.prepared.settings.get("timeout_s") or 0)
            return PilotSandbox(self._pilots(), needs_s, self.config, self._board, self._rate, python, **facts)
        return SlurmSandbox(self.config, self._board, self._rate, python, **facts)

    def close(self) -> None:
        """As the contract has it; the pilots of this adapter are gone on return too."""
        try:
            super().close()
        finally:
            with self._making:
                pool, self._pool = self._pool, None
            if pool is not None:
                pool.close()

    def _pilots(self) -> PilotPool:
        with self._making:
            if self._pool is None:
                self._pool = PilotPool(self.config, self._board, self._rate, worker_python(self.config))
            return self._pool
