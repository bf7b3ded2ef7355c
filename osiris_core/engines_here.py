"""The runs whose engine is in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from osiris_core.collection import Run
    from osiris_core.context import ExecutionContext
    from osiris_core.engine_run import EngineRun
    from osiris_core.records import RunSummary


class EnginesHere:
    """Runs engines, each in the thread that asks, and cancels all of them from any other."""

    def __init__(self) -> None:
        self._running: set[EngineRun] = set()

    def run(self, run: Run, context: ExecutionContext, find_driver: Callable[[str], type[Any]]) -> RunSummary:
        """Run to the end. What happened is in `run.summary` too, also after a KeyboardInterrupt."""
        from osiris_core.engine_run import EngineRun  # brings pyarrow: 60 ms for runs whose engine is elsewhere

        assert run.session is not None
        layout, journal = run.session.layout, run.session.journal
        engine_run = EngineRun(
            run.prepared,
            layout,
            journal,
            run.redactor,
            resume=context.resume,
            find_driver=find_driver,
            why_to_stop=run.session.why_to_stop,
        )
        self._running.add(engine_run)
        try:
            if run.cancel_reason is not None:
                engine_run.cancel(run.cancel_reason)
            return engine_run.run()
        finally:
            run.summary = engine_run.summary
            self._running.discard(engine_run)

    def cancel(self, reason: str) -> None:
        """Those that begin later are not meant."""
        for engine_run in self._running.copy():
            engine_run.cancel(reason)
