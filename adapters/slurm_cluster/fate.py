"""How the worker of a job ended, of what its script and Slurm say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adapters.slurm_cluster.script import NO_FOLDER, NO_PYTHON, SETUP_FAILED
from osiris_core.errors import FailureClass
from remote.sandbox import Fate

if TYPE_CHECKING:
    from adapters.slurm_cluster.states import JobState

_OUR_CODES = {NO_FOLDER, NO_PYTHON, SETUP_FAILED, 126, 127}


def fate_of(job_id: str, node: str, state: JobState | None, code: int | None) -> Fate:
    """Of a job whose worker began on `node`, if it did, and left with `code`, if it said so."""
    facts = {"job_id": job_id}
    if state is not None:
        facts |= {"state": state.state, "reason": state.reason, "node": state.nodes}
    if node:
        facts["node"] = node
    if code in _OUR_CODES or (state is not None and state.exit_code in _OUR_CODES and state.state == "FAILED"):
        message = f"job {job_id} could not start its worker on {facts.get('node', 'its node')}"
        return Fate(False, code, message=message, failure_class=FailureClass.USER_ERROR, facts=facts)
    if state is not None and state.failure_class is not None:
        failure_class = state.failure_class
        return Fate(
            False,
            code if code is not None else state.exit_code,
            out_of_memory=failure_class is FailureClass.OUT_OF_MEMORY,
            message=state.told(job_id),
            failure_class=failure_class,
            facts=facts,
        )
    message = f"the worker of job {job_id} ended with exit code {code}" if code else ""
    return Fate(False, code, message=message, facts=facts)
