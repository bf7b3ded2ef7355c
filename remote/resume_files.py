"""What of a session's earlier attempts travels with a run that resumes: only what a step there will read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from osiris_core.checkpoint import ResumeKeys
from osiris_core.sealing import DigestQueue

if TYPE_CHECKING:
    from pathlib import Path

    from osiris_core.checkpoint import ResumePlan
    from osiris_core.prepared import PreparedRun
    from osiris_core.session import Session


@dataclass(frozen=True)
class EarlierFiles:
    """
    Both by path in the session: `sent` are files that travel, `at_home` those that are taken over and stay here.

    Of the latter, with their sha256, the worker is told that they are there: their bytes were verified here.
    """

    sent: list[tuple[str, Path]]
    at_home: dict[str, str]


def earlier_files(prepared: PreparedRun, session: Session) -> EarlierFiles:
    """
    The journal and the kept outputs that a step which runs again reads; and what else of the earlier attempts holds.

    Artifacts of steps that need not run again stay where they are, and so does what only they read.
    """
    from osiris_core.engine_run import resume_plan  # brings pyarrow: 60 ms for every run that does not resume

    layout = session.layout
    digests = DigestQueue(prepared.input_files)
    try:
        keys = ResumeKeys(prepared, session.session_id, digests.wait)
        plan = resume_plan(prepared, layout, keys)
    finally:
        digests.wait()
    sent = {layout.events_file} if layout.events_file.exists() else set()
    at_home: dict[str, str] = {}
    read = _read_again(prepared, plan)
    for step_id, finished in plan.reused.items():
        at_home |= {f"{layout.artifacts_dir.name}/{record.path}": record.sha256 for record in finished.artifacts}
        for output in finished.outputs.values():
            sha256 = output.get("checkpoint")
            path = layout.checkpoints_dir / f"{sha256}.arrow"
            if sha256 is None or not path.is_file():
                continue
            if step_id in read:
                sent.add(path)
            else:
                at_home[path.relative_to(layout.root).as_posix()] = sha256
    return EarlierFiles([(path.relative_to(layout.root).as_posix(), path) for path in sorted(sent)], at_home)


def _read_again(prepared: PreparedRun, plan: ResumePlan) -> set[str]:
    """The steps whose outputs a step that runs again reads."""
    return {item.from_step for step in prepared.steps if step.id in plan.runs for item in step.inputs.values()}
