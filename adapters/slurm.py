"""The Slurm adapter: runs as batch jobs, job arrays, in pilots, or through srun."""

from __future__ import annotations

import secrets
import threading
from typing import TYPE_CHECKING, Any, ClassVar

from adapters.slurm_cluster.array import ArraySandbox, JobArray
from adapters.slurm_cluster.board import Board
from adapters.slurm_cluster.check import Partitions, missing_tools, problems
from adapters.slurm_cluster.config import SlurmConfig
from adapters.slurm_cluster.environment import set_up, worker_python
from adapters.slurm_cluster.gc import find_leftovers
from adapters.slurm_cluster.interactive import InteractiveSandbox
from adapters.slurm_cluster.many import chunks, prepare_all, run_all
from adapters.slurm_cluster.pilot import PilotSandbox
from adapters.slurm_cluster.pool import PilotPool
from adapters.slurm_cluster.sandbox import SlurmSandbox
from adapters.slurm_cluster.submission import submission
from adapters.slurm_cluster.submit import SubmitRate
from osiris_core.context import ExecutionContext
from osiris_core.errors import PreparationError
from remote.adapter import RemoteAdapter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from osiris_core.collection import Run
    from osiris_core.config import AdapterConfig
    from osiris_core.errors import Problem
    from osiris_core.leftovers import Leftover
    from osiris_core.manifest import Manifest
    from osiris_core.prepared import PreparedRun
    from osiris_core.report import RunReport
    from remote.sandbox import Sandbox

__all__ = ["SlurmAdapter", "SlurmConfig"]

MAX_AT_A_TIME = 200
"""How many runs are followed at a time; each has a thread here."""


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
        self._board = Board(self.config.poll_min_s, self.config.poll_max_s, self.config.forgotten_s)
        self._partitions = Partitions()
        self._rate = SubmitRate(self.config.max_submit_rate)
        self._pool: PilotPool | None = None
        self._making = threading.Lock()
        self._arrays: dict[str, JobArray] = {}
        self._sandboxes: dict[str, SlurmSandbox | InteractiveSandbox] = {}

    @classmethod
    def setup(cls, config: AdapterConfig, progress: Callable[[str], None]) -> str | None:
        """Make the workers' environment in the shared folder; says what was made, None when nothing was to be done."""
        assert isinstance(config, SlurmConfig)
        return set_up(config, progress)

    def leftovers(self, session_dirs: Iterable[Path]) -> list[Leftover]:
        if missing_tools(self.config):
            return []  # nothing was ever submitted from here
        return list(find_leftovers(session_dirs, [self.config.shared_dir] if self.config.shared_dir else []))

    @property
    def sees_workspaces(self) -> bool:
        return self.config.runs_in_workspace

    def shown_script(self, prepared: PreparedRun) -> tuple[str, list[str]]:
        return submission(self.config, worker_python(self.config), prepared.name)

    def unusable(self) -> str | None:
        missing = missing_tools(self.config)
        return f"{', '.join(missing)}: not in PATH" if missing else None

    def check(self, prepared: PreparedRun, context: ExecutionContext) -> None:
        found: list[Problem] = []
        try:
            super().check(prepared, context)
        except PreparationError as exc:
            found += exc.problems
        python = worker_python(self.config)
        found += problems(self.config, python, prepared.settings["timeout_s"], self._partitions)
        if found:
            raise PreparationError(found)

    def make_sandbox(self, run: Run, context: ExecutionContext, token: str) -> Sandbox:
        if self.config.label is not None:
            run.extra["queue"] = self.config.label
        made = self._sandboxes[context.session_dir] = self._sandbox(run, context, token)
        return made

    def _sandbox(self, run: Run, context: ExecutionContext, token: str) -> SlurmSandbox | InteractiveSandbox:
        python = worker_python(self.config)

        def warn(message: str) -> None:
            if run.host is not None:
                run.host.emit("log", level="warning", message=message)

        facts: dict[str, Any] = {
            "token": token,
            "session_id": context.session_id,
            "session_dir": context.session_dir,
            "name": run.prepared.name,
            "warn": warn,
        }
        if self.config.mode == "interactive":
            return InteractiveSandbox(
                self.config,
                self._board,
                python,
                token=token,
                name=run.prepared.name,
                book=run.clock,
                cancelled=lambda: run.cancel_reason is not None,
                warn=warn,
            )
        if self.config.mode == "pilot":
            needs_s = float(run.prepared.settings.get("timeout_s") or 0)
            return PilotSandbox(self._pilots(), needs_s, self.config, self._board, self._rate, python, **facts)
        if self.config.mode == "array":
            array = self._arrays.get(context.session_dir) or JobArray(
                self.config, self._rate, [context.session_dir], token
            )
            return ArraySandbox(array, self.config, self._board, self._rate, python, **facts)
        return SlurmSandbox(self.config, self._board, self._rate, python, **facts)

    def run_many(
        self,
        manifests: Sequence[str | Path | Mapping[str, object] | Manifest],
        contexts: Sequence[ExecutionContext] | None = None,
    ) -> list[RunReport]:
        """
        Run all of them and return their reports, in their order; one that fails is a report.

        In mode array they are the elements of one job array, in their order: beyond `array_size` of several, each of
        which is handed in when the one before it is over. In mode job each is a job, of which at most 200 are handed in
        at a time. In mode pilot the pilots take them one after another. Each context needs a session directory of its
        own.

        Raises:
            PreparationError: Some cannot start, for every reason given; nothing was started.
            KeyboardInterrupt: Ctrl-C; all were cancelled, and their reports written, first.
        """
        contexts = [ExecutionContext() for _ in manifests] if contexts is None else contexts
        runs = list(zip(prepare_all(self, manifests, contexts), contexts, strict=True))
        at_a_time = MAX_AT_A_TIME
        if self.config.mode == "pilot":  # a few more than there are places, so that none waits for us
            at_a_time = self.config.nodes * self.config.workers_per_node + 2
        reports: list[RunReport] = []
        for chunk in chunks(runs, self.config.array_size if self.config.mode == "array" else len(runs) or 1):
            self._gather([context.session_dir for _, context in chunk])
            reports += run_all(self, chunk, at_a_time, self.cancel, self._drop)
        return reports

    def _gather(self, session_dirs: list[str]) -> None:
        """The runs of these sessions become one array."""
        if self.config.mode == "array":
            array = JobArray(self.config, self._rate, session_dirs, secrets.token_hex(16))
            self._arrays |= dict.fromkeys(session_dirs, array)

    def release(self, run: Run) -> None:
        if run.session is not None:
            had_sandbox = self._of(run) is not None
            session_dir = str(run.session.layout.root)
            if had_sandbox:
                self._arrays.pop(session_dir, None)
            self._drop(session_dir)
            if (sandbox := self._sandboxes.pop(session_dir, None)) is not None and sandbox.node:
                run.extra["node"] = sandbox.node
        super().release(run)

    def _drop(self, session_dir: str) -> None:
        """A run that did not even come to have a sandbox is not waited for by the others of its array."""
        if (array := self._arrays.pop(session_dir, None)) is not None:
            array.leave()
            array.is_left()

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
