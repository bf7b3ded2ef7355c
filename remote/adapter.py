"""The phases of every adapter whose engine runs elsewhere, written once over a `Sandbox`."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from osiris_core.adapter import ExecutionAdapter
from osiris_core.earlier_run import EarlierRun
from osiris_core.errors import ExecutionError, NeverPlaced, NotAttached, PreparationError, Problem
from osiris_core.interrupts import Sheltered
from osiris_core.user_code import driver_places
from remote.adopted_run import AdoptedRun
from remote.config import RemoteConfig
from remote.remote_run import RemoteRun
from remote.sandbox import SandboxError, check_site

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from osiris_core.collection import Run
    from osiris_core.config import AdapterConfig
    from osiris_core.context import ExecutionContext
    from osiris_core.prepared import PreparedRun
    from osiris_core.records import RunSummary
    from remote.sandbox import Sandbox


class RemoteAdapter(ExecutionAdapter):
    """A subclass implements `make_sandbox`, and may extend `check`."""

    Config: ClassVar[type[AdapterConfig]] = RemoteConfig

    def __init__(self, config: AdapterConfig | None = None) -> None:
        super().__init__(config)
        self._remote_runs: dict[str, RemoteRun] = {}

    @abstractmethod
    def make_sandbox(self, run: Run, context: ExecutionContext, token: str) -> Sandbox:
        """A sandbox for this run, not yet started. `token` marks everything that is made for it."""

    def check(self, prepared: PreparedRun, context: ExecutionContext) -> None:
        super().check(prepared, context)
        problems = [
            Problem(f"it is of this machine, and adapter '{self.name}' runs elsewhere", step.id, f"config.{key}")
            for step in prepared.steps
            if step.driver == "command"
            for key in (("inherit_env",) if self.sees_workspaces else ("workspace", "inherit_env"))
            if step.config.get(key)
        ]
        if problems:
            raise PreparationError(problems)
        driver_places(step["driver"] for step in prepared.manifest["steps"])

    @property
    def sees_workspaces(self) -> bool:
        """Whether folders of this machine are, under the same path, where steps run."""
        return False

    @property
    def outlives_controller(self) -> bool:
        return True

    def start(self, run: Run, context: ExecutionContext) -> RunSummary:
        assert isinstance(self.config, RemoteConfig)
        remote_run = RemoteRun(run, context, self.config, self.make_sandbox)
        return self._see_through(run, context, remote_run, remote_run.drive)

    def take_over(self, run: Run, context: ExecutionContext) -> RunSummary:
        assert isinstance(self.config, RemoteConfig)
        assert run.session is not None
        recorded = run.session.recorded
        earlier = EarlierRun(run.session.layout, recorded)
        if earlier.token is None:
            died = "the run never reached its place: its controller died before"
            raise NeverPlaced(f"{died} (run it again: {earlier.again})")
        try:
            remote_run = AdoptedRun(run, context, self.config, self.make_sandbox, earlier.token)
        except SandboxError as exc:
            raise NotAttached(f"the place of the run cannot be asked now, and may go on: {exc}") from exc
        return self._see_through(run, context, remote_run, lambda: remote_run.take_over(recorded.get("native_id")))

    def abandon(self, run: Run, context: ExecutionContext, recorded: Mapping[str, Any]) -> None:
        assert run.session is not None
        token = EarlierRun(run.session.layout, dict(recorded)).token
        if token is None:
            return
        try:
            sandbox = self.make_sandbox(run, context, token)
            check_site(sandbox, recorded)
            sandbox.adopt(recorded.get("native_id"))
            sandbox.stop()
        finally:
            self.release(run)

    def _see_through(
        self, run: Run, context: ExecutionContext, remote_run: RemoteRun, work: Callable[[], RunSummary]
    ) -> RunSummary:
        self._remote_runs[context.session_dir] = remote_run
        if run.cancel_reason is not None:  # it may have come in between
            remote_run.cancel(run.cancel_reason)

        def look_for_a_cancel() -> None:
            assert run.session is not None
            if (reason := run.session.why_to_stop()) is not None:
                remote_run.cancel(reason)

        try:
            return Sheltered(work, lambda: remote_run.cancel("interrupted"), look_for_a_cancel).run()
        finally:
            run.summary = remote_run.summary

    def stop(self, reason: str) -> None:
        for remote_run in list(self._remote_runs.values()):
            remote_run.cancel(reason)

    def bring_home(self, run: Run) -> None:
        if (remote_run := self._of(run)) is not None:
            remote_run.bring_home()

    def release(self, run: Run) -> None:
        if (remote_run := self._of(run)) is not None:
            try:
                # Ctrl-C must not land in it: a place that is half freed would be left behind for good.
                Sheltered(remote_run.release, on_interrupt=lambda: None).run()
            except ExecutionError:  # no thread to be had
                remote_run.release()
            self._remote_runs.pop(remote_run.session_dir, None)

    def _of(self, run: Run) -> RemoteRun | None:
        return self._remote_runs.get(str(run.session.layout.root)) if run.session is not None else None
