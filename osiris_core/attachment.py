"""Going on with the run of a controller that is dead: its session owned again, its run followed, its times booked."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from osiris_core.aftermath import stopped_by
from osiris_core.collection import Run
from osiris_core.earlier_run import seconds_since, tell
from osiris_core.errors import NotAttached, RunCancelled
from osiris_core.failure import error_of
from osiris_core.logs import follow_verbosely
from osiris_core.prepared import look_up_known
from osiris_core.redaction import Redactor
from osiris_core.session import Session
from osiris_core.user_code import make_importable, stand_in_for_unseen

if TYPE_CHECKING:
    from osiris_core.adapter import ExecutionAdapter
    from osiris_core.aftermath import Aftermath
    from osiris_core.context import ExecutionContext
    from osiris_core.earlier_run import EarlierRun
    from osiris_core.records import RunSummary


class Attachment:
    """
    Use it with `with`: the session is owned within, and let go of when the block raises.

    Attributes:
        run: The run as it was when its controller died, ready to be collected after `see_to_its_end`.

    Raises:
        SessionBusy: Its controller, or another one, lives.
    """

    def __init__(self, adapter: ExecutionAdapter, earlier: EarlierRun, context: ExecutionContext) -> None:
        self._adapter = adapter
        self._context = context
        prepared = earlier.prepared
        make_importable(path for path in adapter.config.code if Path(path).expanduser().exists())
        if not adapter.runs_here:
            stand_in_for_unseen(step.driver for step in prepared.steps)
        unknown = look_up_known(prepared, context)
        self._session = Session.reopen(context.session_dir)
        recorded = self._session.recorded
        # Of a place that could not be asked, what became of the run there is still to be heard.
        self._is_left = bool(recorded.get("left"))
        error = None if self._is_left else recorded.get("error")
        self.run = Run(prepared, self._session, attached=True, error=error)
        self.run.extra |= {**recorded.get("facts", {}), "attached": True}
        if unknown and adapter.outlives_controller:
            self.run.extra["values_not_here"] = unknown
        self.run.spent_ms |= {"prepare": recorded.get("prepare_ms", 0.0), **recorded.get("spent_ms", {})}
        values = (prepared.secrets[name] for name in prepared.secret_names if name in prepared.secrets)
        self.run.redactor = Redactor(values)

    def __enter__(self) -> Attachment:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is not None:
            self._session.close()

    def see_to_its_end(self) -> BaseException | None:
        """
        What became of the run is in `run` on return. A Ctrl-C is returned: it is for when the report is written.

        Raises:
            NotAttached: That cannot be told now.
        """
        run, journal = self.run, self._session.journal
        began = datetime.now(UTC)
        told = run.told = tell(self._session.layout, run.prepared, self._session.attempt)
        run.steps_end_ts = told.end_ts
        run.host = journal.origin("host", run.redactor, told.host_seq)
        interrupt = None
        try:
            with follow_verbosely(journal.path, self._context):
                self._go_on(told)
        except NotAttached:
            raise
        except Exception as exc:  # noqa: BLE001 - it is in the report
            run.fail(exc)
            if run.summary is None:
                run.summary = told.conclude(error_of(run.error or {}), run.redactor)
        except BaseException as exc:  # noqa: BLE001 - as above, and then raised
            run.fail(exc)
            interrupt = exc
        ended = datetime.fromisoformat(run.steps_end_ts) if run.steps_end_ts else began
        self._book(seconds_since(told.host_start_ts) * 1000, (began - ended).total_seconds() * 1000)
        return interrupt

    def _go_on(self, told: Aftermath) -> None:
        run = self.run
        assert run.host is not None
        if told.host_end is not None and not self._is_left:  # only the report is missing
            run.told_end, run.error = True, told.host_end.get("error")
            failure = error_of(run.error or {})
            run.summary = told.summary() if told.ended else told.conclude(failure, run.redactor)
            return
        if not told.host_start_ts:
            run.tell_start(self._adapter.name)
        if names := run.extra.get("values_not_here"):
            message = f"attached without the values of {', '.join(names)}: the worker has them, and masks them"
            run.host.emit("log", level="warning", message=message)
        if self._adapter.outlives_controller:
            run.summary = self._adapter.take_over(run, self._context)
        else:
            run.summary = told.summary() if told.ended else self._give_up(told)
        if run.summary.status != "completed":
            run.error = run.error or run.summary.error

    def _give_up(self, told: Aftermath) -> RunSummary:
        """The end of a run whose engine is dead and that nobody wants to go on."""
        run = self.run
        error = RunCancelled(f"the run was cancelled: {run.cancel_reason}")
        origin = self._session.journal.origin("engine", run.redactor, told.last_seq)
        return told.conclude(error, run.redactor, origin, stopped_by(error.failure_class, str(run.cancel_reason)))

    def _book(self, total_ms: float, idle_ms: float) -> None:
        """The times of the run since it was started, whoever looked after it then."""
        spent_ms = self.run.spent_ms
        spent_ms["steps"] = self.run.summary.wall_ms if self.run.summary else 0.0
        known_ms = sum(spent_ms.get(name, 0.0) for name in ("queue", "transfer", "steps"))
        spent_ms["unattended"] = max(0.0, min(idle_ms, total_ms - known_ms))
        spent_ms["start"] = max(0.0, total_ms - known_ms - spent_ms["unattended"])
