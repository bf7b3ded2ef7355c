"""
The contract of every adapter: three phases (prepare, execute, collect), and what is the same around them.

An adapter says where a run happens. What a run is, what is written down of it and what it came to is decided here
and in the engine, once.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from osiris_core.adapter_hooks import AdapterHooks
from osiris_core.collection import Run, collect_run
from osiris_core.configured import also, config_problems, with_config
from osiris_core.context import ExecutionContext
from osiris_core.errors import (
    ExecutionError,
    NotAttached,
    PhaseError,
    PreparationError,
    Problem,
    RunCancelled,
    SealBroken,
)
from osiris_core.failure import error_of
from osiris_core.logs import follow_verbosely, phase_logged
from osiris_core.manifest import Manifest, load_manifest
from osiris_core.phases import NEXT_PHASES, Phase
from osiris_core.preparation import prepare_run
from osiris_core.prepared import look_up_again
from osiris_core.recorded_settings import recordable
from osiris_core.redaction import Redactor
from osiris_core.session import Session, SessionLayout
from osiris_core.suggestion import did_you_mean
from osiris_core.user_code import make_importable, stand_in_for_unseen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from osiris_core.config import AdapterConfig
    from osiris_core.earlier_run import EarlierRun
    from osiris_core.prepared import PreparedRun
    from osiris_core.report import RunReport


class ExecutionAdapter(AdapterHooks):
    """
    Runs manifests in one kind of place.

    The phases may be called one by one, or all by `run`. One adapter may run any number of manifests, one after
    another or side by side, each in its own session directory. `close` may be called twice; so may leaving a
    `with` block.

    What a subclass adds is in `AdapterHooks`: it implements `start` and `stop`.
    """

    def __init__(self, config: AdapterConfig | None = None) -> None:
        if config is not None and not isinstance(config, self.Config):
            raise TypeError(f"{type(self).__name__} takes a {self.Config.__name__}, got {type(config).__name__}")
        self.config = config if config is not None else self.Config()
        self._runs: dict[str, Run] = {}
        self._phases: dict[str, Phase] = {}

    def prepare(self, manifest: str | Path | Mapping[str, object] | Manifest, context: ExecutionContext) -> PreparedRun:
        """
        Validate a manifest and seal all that decides its result.

        May read outside, creates nothing there, starts nothing, and writes no file.

        Raises:
            PreparationError: With every problem at once, each with its step, key, file and line.
        """
        started_s = monotonic()
        self._require(context, Phase.PREPARED)
        with phase_logged("prepare", context):
            make_importable(self.config.code)
            problems = config_problems(self.config, context)
            context = with_config(self.config, context)
            loaded = load_manifest(manifest, base_dir=context.base_dir)
            if not self.runs_here:
                stand_in_for_unseen(step.driver for step in loaded.steps)
            with also(problems):
                prepared = prepare_run(
                    loaded, context, allow_sql_files=self.config.allow_sql_files, runs_here=self.runs_here
                )
            prepared.artifacts_dir = str(SessionLayout(Path(context.session_dir)).artifacts_dir)
            prepared.adapter = self.name
            prepared.settings = {
                "timeout_s": context.timeout,
                "max_parallel_steps": context.max_parallel_steps,
                "memory_budget_bytes": context.memory_budget_bytes,
                "on_failure": context.on_failure,
                "checkpoint": context.checkpoint,
            }
            if context.debug_step is not None:
                self._make_debuggable(prepared, context.debug_step)
            with also(problems):
                self.check(prepared, context)
            if problems:
                raise PreparationError(problems)
            prepared.fingerprint = prepared.compute_fingerprint()
        self._phases[context.session_dir] = Phase.PREPARED
        run = self._runs[context.session_dir] = Run(prepared)
        run.spent_ms["prepare"] = (monotonic() - started_s) * 1000
        return prepared

    def execute(self, prepared: PreparedRun, context: ExecutionContext) -> None:
        """
        Run what was prepared, and return when it completed.

        `prepared` may have been restored from JSON: the values of its secrets are then looked up again.

        Raises:
            ExecutionError: It did not complete; `collect` then still brings home what there is. Masked, and without
                the exception that it was made of.
            SealBroken: Manifest, configuration or an input file changed since `prepare`.
            PreparationError: A secret of a restored run has no value here, the session directory is somebody else's,
                or the journal in it is damaged; nothing was touched.
            SessionBusy: Another process is running in the session directory; nothing was touched.
            OSError: The session directory cannot be used.
            PhaseError: The session ran already and was not collected.
        """
        started_s = monotonic()
        self._require(context, Phase.EXECUTING)
        make_importable(self.config.code)
        context = with_config(self.config, context)
        look_up_again(prepared, context)
        run = self._runs.setdefault(context.session_dir, Run(prepared))
        run.prepared = prepared
        run.extra |= context.facts
        if context.earlier_ms:
            run.spent_ms["earlier"] = context.earlier_ms
        run.session = Session.open(context.session_dir, context.session_id, prepared.name)
        prepared.run_key = run.session.run_key(resume=context.resume)
        try:
            run.session.check_journal()
            if run.session.earlier:
                run.notices += filter(None, [_end_earlier_attempt(run.session)])
            self._record_intent(run, context)
        except BaseException:
            run.session.close()
            raise
        self._phases[context.session_dir] = Phase.EXECUTING
        try:
            with phase_logged("execute", context):
                self._execute(run, context)
        except Exception as exc:
            self._note_failure(run, exc)
            if isinstance(exc, ExecutionError):
                raise
            raise error_of(run.error or {}) from None
        except BaseException as exc:
            self._note_failure(run, exc)
            raise
        finally:
            total_ms = (monotonic() - started_s) * 1000
            run.spent_ms["steps"] = run.summary.wall_ms if run.summary else 0.0
            booked_ms = sum(run.spent_ms.get(name, 0.0) for name in ("queue", "transfer", "steps"))
            run.spent_ms["start"] = max(0.0, total_ms - booked_ms)
            self._phases[context.session_dir] = Phase.EXECUTED
            run.executed.set()

    def collect(self, prepared: PreparedRun, context: ExecutionContext) -> RunReport:  # noqa: ARG002 - the contract's
        """
        Bring everything home, write `status.json`, and free the place.

        Also after a failure. Repeatable: a second call returns the same report.

        Raises:
            PhaseError: `execute` was not called for this session, or is not over.
        """
        self._require(context, Phase.COLLECTED)
        return self._collect_logged(context, self._runs[context.session_dir])

    def come_home(self, context: ExecutionContext) -> str | None:
        """
        Bring home what an executed run left, and free its place, ahead of `collect`, which only reports then.

        Why something of it may still go on there; None when that is certain not to be. May be repeated.

        Raises:
            KeyboardInterrupt: Ctrl-C; `collect` is still to be called.
            PhaseError: `execute` was not called for this session, or is not over.
        """
        self._require(context, Phase.COLLECTED)
        run = self._runs[context.session_dir]
        with run.collecting:
            if not run.is_home and (interrupt := self._come_home(run)) is not None:
                raise interrupt
        return run.left_behind

    def run(
        self,
        manifest: str | Path | Mapping[str, object] | Manifest,
        context: ExecutionContext | None = None,
    ) -> RunReport:
        """
        All three phases. A run that fails, times out or is cancelled is a report, not an exception.

        Raises:
            PreparationError: The run cannot start, for every reason given.
            SessionBusy: Another process is running in the session directory.
            KeyboardInterrupt: Ctrl-C in the calling thread; steps were stopped and the report was written first.
        """
        context = context or ExecutionContext()
        prepared = self.prepare(manifest, context)
        run = self._runs[context.session_dir]
        try:
            self.execute(prepared, context)
        except BaseException as exc:
            if not run.executed.is_set():
                raise
            report = self._collect_logged(context, run)
            if isinstance(exc, ExecutionError):
                return report
            raise
        return self._collect_logged(context, run)

    def attach(
        self, session_dir: str | Path, context: ExecutionContext | None = None, *, cancel: str | None = None
    ) -> RunReport:
        """
        Take over the run of a controller that is dead, see it to its end, and give the report that it would have given.

        It goes on in the same attempt and the same journal. Of a run that is over it is the report again. One that
        never reached its place is a failed one, whose error says what to do. Where the engine was in the dead
        controller, a new attempt resumes the run from what is there. `attached` in the report is true.

        Args:
            context: Values of secrets, and how the run is watched; everything else is as it was written down.
            cancel: Stop the run, for this reason, and collect what there is.

        Raises:
            SessionBusy: Its controller, or another one, lives.
            NotAttached: Its place cannot be asked; nothing was changed.
            PreparationError: There is no run, it is another adapter's, or a value that a new attempt needs is missing.
        """
        from osiris_core.attachment import Attachment  # nothing of it is needed by runs that nobody attaches to
        from osiris_core.earlier_run import EarlierRun
        from osiris_core.models.homecoming import bring_home

        earlier = EarlierRun.read(session_dir)
        earlier.check_adapter(self.name)
        if (report := earlier.report) is not None:
            earlier.clear_up()
            bring_home(session_dir, report)
            return report
        context = with_config(self.config, earlier.context(context))
        if self._phases.get(context.session_dir) in (Phase.EXECUTING, Phase.EXECUTED):
            raise PhaseError(f"the run of session {context.session_id} is this adapter's own")
        self._phases.pop(context.session_dir, None)
        cancel = cancel or earlier.cancel_reason
        if not self.outlives_controller:
            self._end_what_is_left(earlier)
        if cancel is None and not self.outlives_controller and not earlier.told.ended and not earlier.told.host_end:
            report = self._run_again(earlier, context)
            bring_home(session_dir, report)
            return report
        with phase_logged("attach", context), Attachment(self, earlier, context) as attachment:
            run = self._runs[context.session_dir] = attachment.run
            run.cancel_reason = cancel
            self._phases[context.session_dir] = Phase.EXECUTING
            try:
                interrupt = attachment.see_to_its_end()
            except NotAttached:
                del self._runs[context.session_dir], self._phases[context.session_dir]
                raise
            self._phases[context.session_dir] = Phase.EXECUTED
            run.executed.set()
        report = self._collect_logged(context, run)
        bring_home(session_dir, report)
        if interrupt is not None:
            raise interrupt
        return report

    def cancel(self, reason: str = "") -> None:
        """
        Ask every run that was prepared and is not over to stop, and return at once.

        Safe from a signal handler and from any thread; repeatable, the first reason counts. A run that is
        prepared later is not concerned.
        """
        reason = reason or "cancel was called"
        for run in list(self._runs.values()):
            run.cancel_reason = run.cancel_reason or reason
        self.stop(reason)

    def close(self) -> None:
        """
        Cancel what still runs in other threads, collect what was executed, and let go of everything.

        May be called twice.
        """
        try:
            if Phase.EXECUTING in self._phases.values():
                self.cancel("the adapter was closed")
            for session_dir, run in list(self._runs.items()):
                if self._phases.get(session_dir) is Phase.EXECUTING:
                    run.executed.wait()
                if self._phases.get(session_dir) is Phase.EXECUTED:
                    self._collect(session_dir, run, None)
        finally:
            self._runs.clear()
            self._phases.clear()

    def __enter__(self) -> ExecutionAdapter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _require(self, context: ExecutionContext, phase: Phase) -> None:
        before = self._phases.get(context.session_dir, Phase.NEW)
        if phase not in NEXT_PHASES[before]:
            raise PhaseError(f"the run of session {context.session_id} is {before}; it cannot become {phase}")

    def _make_debuggable(self, prepared: PreparedRun, step_id: str) -> None:
        steps = {step["id"]: step for step in prepared.manifest["steps"]}
        if not self.runs_here:
            message = f"a step can be debugged where it runs in this process, not on adapter '{self.name}'"
            raise PreparationError([Problem(message, key="debug_step", hint="use adapter local")])
        if step_id not in steps:
            hint = did_you_mean(step_id, steps) or f"steps: {', '.join(steps)}"
            raise PreparationError([Problem(f"there is no step '{step_id}'", key="debug_step", hint=hint)])
        steps[step_id]["timeout_s"] = None
        prepared.settings["timeout_s"] = None

    def _record_intent(self, run: Run, context: ExecutionContext) -> None:
        assert run.session is not None
        prepared = run.prepared
        settings = recordable(self.config, [prepared.secrets[name] for name in prepared.secret_names])
        facts = {"config": settings, "publish_dir": context.publish_dir, "prepare_ms": run.spent_ms.get("prepare", 0.0)}
        run.session.record_intent(prepared.to_json(), self.name, **facts)

    @staticmethod
    def _note_failure(run: Run, error: BaseException) -> None:
        """The run did not complete; whoever goes on with it, should this process die too, is to know why."""
        run.fail(error)
        assert run.session is not None
        if run.summary is None or run.summary.error is not run.error:
            with suppress(OSError):
                run.session.record(error=run.error)

    def _execute(self, run: Run, context: ExecutionContext) -> None:
        prepared = run.prepared
        run.redactor = Redactor(prepared.secrets[name] for name in prepared.secret_names)
        assert run.session is not None
        run.host = run.session.journal.origin("host", run.redactor)
        with follow_verbosely(run.session.journal.path, context):
            run.tell_start(self.name)
            for notice in [*context.notices, *run.notices]:
                run.host.emit("log", level="warning", message=notice)
            _check_seal(prepared)
            if run.cancel_reason is not None:
                raise RunCancelled(f"the run was cancelled: {run.cancel_reason}")
            run.summary = self.start(run, context)
        if run.summary.status != "completed":
            run.error = run.summary.error
            raise error_of(run.summary.error or {}, run.summary.status, run.summary.failed_step_id)

    def _end_what_is_left(self, earlier: EarlierRun) -> None:
        """The engine died with its controller; what it had started elsewhere did not, and nobody waits for it."""
        for item in self.leftovers([earlier.layout.root]):
            if Path(item.session_dir) == earlier.layout.root:
                item.remove()

    def _run_again(self, earlier: EarlierRun, context: ExecutionContext) -> RunReport:
        """A new attempt does what the dead one did not finish."""
        run = self._runs[context.session_dir] = Run(earlier.prepared, extra={"attached": True})
        try:
            self.execute(run.prepared, replace(context, resume=True))
        except ExecutionError:
            if not run.executed.is_set():
                raise
        return self._collect_logged(context, run)

    def _collect_logged(self, context: ExecutionContext, run: Run) -> RunReport:
        run.extra |= context.facts
        events_file = SessionLayout(Path(context.session_dir)).events_file
        with phase_logged("collect", context), follow_verbosely(events_file, context):
            return self._collect(context.session_dir, run, context.publish_dir)

    def _collect(self, session_dir: str, run: Run, publish_dir: str | None) -> RunReport:
        with run.collecting:
            if run.report is None:
                self._phases[session_dir] = Phase.COLLECTED
                interrupt = None if run.is_home else self._come_home(run)
                collect_run(run, self.name, publish_dir=publish_dir, compress=self.config.compress_artifacts)
                if interrupt is not None:
                    raise interrupt
            assert run.report is not None
            return run.report

    def _come_home(self, run: Run) -> KeyboardInterrupt | None:
        """Fetch what the run left and free its place, each whatever the other came to; a Ctrl-C is for later."""
        interrupt = None
        run.is_home = True
        assert run.session is not None
        arrive = self.bring_home if run.session.is_ours else lambda _: None
        for phase, work in (("transfer", arrive), ("collect", self.release)):
            try:
                with run.clock(phase):
                    work(run)
            except (Exception, KeyboardInterrupt) as exc:  # noqa: BLE001 - the report is to be written in any case
                run.fail(exc)
                if phase == "transfer" and run.summary is not None:
                    run.summary.artifacts = []  # they are not here
                if phase == "collect":
                    run.left_behind = run.left_behind or str(exc)
                interrupt = exc if isinstance(exc, KeyboardInterrupt) else interrupt
        if run.left_behind is None and run.session.has_something_elsewhere:
            with suppress(OSError):
                run.session.record(freed=True)
        return interrupt


def _end_earlier_attempt(session: Session) -> str | None:
    from osiris_core.orphans import end_earlier_attempt  # which needs the factory, and that needs adapters

    return end_earlier_attempt(session)


def _check_seal(prepared: PreparedRun) -> None:
    changed = [what for file in [*prepared.sources, *prepared.input_files] if (what := file.changed())]
    if prepared.compute_fingerprint() != prepared.fingerprint:
        changed.append("the prepared run itself was changed")
    if changed:
        raise SealBroken("; ".join(dict.fromkeys(changed)) + " (prepare the run again)")
