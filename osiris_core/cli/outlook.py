"""What a run would do with what an earlier one left: the steps that would be reused, and why the others would run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from osiris_core.checkpoint import ResumeKeys, ResumePlan
from osiris_core.engine_run import resume_plan
from osiris_core.run_records import UNCHANGED
from osiris_core.sealing import DigestQueue

if TYPE_CHECKING:
    from osiris_core.cli.request import Request
    from osiris_core.prepared import PreparedRun

__all__ = ["UNCHANGED", "resume_outlook"]


def resume_outlook(request: Request, prepared: PreparedRun) -> ResumePlan | None:
    """The very plan that a resumed run would make; None when there is no earlier run. Hashes input files."""
    if request.earlier is None:
        return None
    digests = DigestQueue(prepared.input_files)
    try:
        keys = ResumeKeys(prepared, request.context.session_id, digests.wait)
        return resume_plan(prepared, request.earlier.layout, keys)
    finally:
        digests.stop()
