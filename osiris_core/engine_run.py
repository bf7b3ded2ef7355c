"""Sets an engine up for a prepared run, wherever the session directory is: the same few lines in every process."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from osiris_core.attempt import Place
from osiris_core.checkpoint import ResumeKeys, ResumePlan, finished_steps, plan_resume
from osiris_core.context import SURROUNDINGS
from osiris_core.driver import DriverRegistry
from osiris_core.engine import Engine, Limits
from osiris_core.journal import read_events
from osiris_core.sealing import DigestQueue
from osiris_core.secrets import substitute

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping
    from pathlib import Path
    from typing import Any

    from osiris_core.journal import Journal
    from osiris_core.prepared import PreparedRun
    from osiris_core.records import RunSummary
    from osiris_core.redaction import Redactor
    from osiris_core.session import SessionLayout


class EngineRun:
    """
    One run of the engine in this process. `cancel` may come before, while and after `run`.

    Input files are read where `prepared` says that they are. `before_end` is called when every step is over, before
    the last event. `elsewhere` has the artifacts of earlier attempts, by path in the session, that are not here because
    whoever asked for the run has them, and verified them. `why_to_stop` is asked a few times a second, and cancels it.

    Attributes:
        origin: The engine's voice in the journal, for whoever speaks for it in this process.
    """

    def __init__(
        self,
        prepared: PreparedRun,
        layout: SessionLayout,
        journal: Journal,
        redactor: Redactor,
        *,
        resume: bool = False,
        elsewhere: Container[str] = frozenset(),
        find_driver: Callable[[str], type[Any]] = DriverRegistry.get,
        before_end: Callable[[], object] = lambda: None,
        passed_on: Mapping[str, str] | None = None,
        why_to_stop: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._layout = layout
        self._why_to_stop = why_to_stop
        self.origin = journal.origin("engine", redactor)
        self._digests = DigestQueue(prepared.input_files)
        try:
            limits = Limits(**prepared.settings)
            keys = plan = None
            if limits.checkpoint != "never" or resume:
                keys = ResumeKeys(prepared, journal.session_id, self._digests.wait)
                plan = resume_plan(prepared, layout, keys, elsewhere) if resume else None
            if journal.attempt > 1:
                _set_aside(layout, plan.reused if plan is not None else ())
                if plan is None:
                    shutil.rmtree(layout.checkpoints_dir, ignore_errors=True)
            self._plan = plan
            locate = sealed_locations(prepared)
            place = make_place(prepared, layout, journal.session_id, locate, journal.attempt, passed_on=passed_on)
            self._engine = Engine(prepared, place, self.origin, redactor, limits, plan, keys, find_driver, before_end)
        except BaseException:
            self._digests.stop()
            raise

    def run(self) -> RunSummary:
        """Run to the end; what a step did wrong is in the summary. Input files are hashed on return."""
        try:
            summary = self._engine.run(self._look_for_a_cancel)
            if self._plan is not None:
                _drop_checkpoints(self._layout, self._still_named(self._plan, summary))
            if summary.status == "completed":
                self._digests.wait()
            return summary
        finally:
            self._digests.stop()

    @property
    def summary(self) -> RunSummary | None:
        """What happened, once the run is over; also after a KeyboardInterrupt came out of `run`."""
        return self._engine.summary

    def cancel(self, reason: str) -> None:
        self._engine.cancel(reason)

    def _still_named(self, plan: ResumePlan, summary: RunSummary) -> set[str]:
        """The checkpoints of each step's last completion; a step that started since has no earlier one any more."""
        unstarted = {record.step_id for record in summary.steps if record.status == "skipped"}
        earlier = {step_id: finished.outputs for step_id, finished in plan.before.items() if step_id in unstarted}
        outputs = {**earlier, **self._engine.outputs}
        return {
            str(item["checkpoint"]) for given in outputs.values() for item in given.values() if "checkpoint" in item
        }

    def _look_for_a_cancel(self) -> None:
        if (reason := self._why_to_stop()) is not None:
            self.cancel(reason)


def _set_aside(layout: SessionLayout, kept: Container[str]) -> None:
    """Move what earlier attempts left out of the artifacts, but for the steps that are taken over."""
    for folder in list(layout.artifacts_dir.iterdir()) if layout.artifacts_dir.is_dir() else []:
        if folder.name not in kept and not _is_empty(folder):
            (layout.work_dir / "earlier").mkdir(parents=True, exist_ok=True)
            folder.rename(layout.work_dir / "earlier" / folder.name)


def _drop_checkpoints(layout: SessionLayout, named: Container[str]) -> None:
    for path in layout.checkpoints_dir.glob(
        "*.arrow"
    ):  # with those that a crash left half-written: glob finds them too
        if path.stem not in named:
            path.unlink(missing_ok=True)


def _is_empty(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is None
    except OSError:
        return False


def resume_plan(
    prepared: PreparedRun, layout: SessionLayout, keys: ResumeKeys, elsewhere: Container[str] = frozenset()
) -> ResumePlan:
    """What of the earlier attempts in a session directory still holds for this run."""
    finished = finished_steps(read_events(layout.events_file))
    return plan_resume(prepared.steps, keys, finished, layout.artifacts_dir, layout.checkpoints_dir, elsewhere)


def sealed_locations(prepared: PreparedRun) -> Callable[[str, str], str]:
    """Finds an input file where it was when it was sealed."""
    places = {(file.step_id, file.path): file.source for file in prepared.input_files}
    return lambda step_id, path: places[step_id, path]


def make_place(
    prepared: PreparedRun,
    layout: SessionLayout,
    session_id: str,
    locate: Callable[[str, str], str],
    attempt: int = 1,
    *,
    passed_on: Mapping[str, str] | None = None,
) -> Place:
    """
    The engine's view of a session directory: a step gets what was declared, and the same few names everywhere.

    `passed_on` is what the place itself has to tell (a batch job's allocation).
    """
    # A folder for each run in it: a thread that an earlier one left behind may still write into its own.
    work_dir = layout.work_dir / f"run-{attempt}"
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": os.environ.get("HOME", "/"),
        **SURROUNDINGS,
        **(passed_on or {}),
        **substitute(prepared.environment, prepared.secrets),
    }
    folders = (layout.artifacts_dir, work_dir, layout.checkpoints_dir)
    return Place(session_id, *folders, environment, locate, prepared.run_key)
