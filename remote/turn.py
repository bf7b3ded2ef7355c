"""A worker that a scheduler starts: its order, its time in the queue, its end, and its starts after the first."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

from osiris_core.errors import FailureClass, RunTimeout
from osiris_core.failure import describe_failure
from remote.client import Patience, WorkerLost
from remote.order_file import ORDER_ID
from remote.protocol import encode, request

if TYPE_CHECKING:
    from osiris_core.collection import Run
    from osiris_core.errors import ExecutionError
    from osiris_core.records import RunSummary
    from osiris_core.session import Session
    from remote.client import WorkerClient
    from remote.sandbox import BatchSandbox

ORDER_ANSWER_S = 30.0
"""How long a worker that said hello may take to read its order."""
HEARTBEAT_S = 10.0
"""How often a batch worker is asked for a sign of life: its scheduler watches it too."""
SILENCE_LIMIT_S = 60.0
"""After this long without one, the scheduler is asked whether the worker lives."""
OUTCOME_LIMIT_S = 60.0
"""How long an engine whose steps are over may take to write down what they came to."""


class Turn:
    """
    What `RemoteRun` needs to know of a `BatchSandbox`. One for a run; used by one thread.

    Attributes:
        patience: How its worker's silence is borne.
    """

    def __init__(self, sandbox: BatchSandbox, run: Run, session: Session) -> None:
        self._sandbox = sandbox
        self._run = run
        self._session = session
        self._first_attempt = (
            session.recorded.get("first_attempt", session.attempt) if run.attached else session.attempt
        )
        self._restarts = session.attempt - self._first_attempt
        self._since_s: float | None = None
        self._until_s: float | None = None
        self.patience = Patience(HEARTBEAT_S, SILENCE_LIMIT_S, sandbox.is_alive)

    @property
    def queued_s(self) -> float:
        """How long the worker has been waiting for its turn, this time."""
        if self._since_s is None:
            return 0.0
        return (self._until_s or monotonic()) - self._since_s

    def order(self, params: dict[str, Any]) -> None:
        """Everything that the worker is told is in its folder on return."""
        self._sandbox.order(encode(request(ORDER_ID, "start", {**params, "leave_when_over": True})))

    def submit(self, argv: list[str]) -> str:
        """The scheduler has the worker on return; its native id."""
        self._since_s, self._until_s = monotonic(), None
        return self._sandbox.submit(argv)

    def adopt(self) -> None:
        """Another controller handed the worker in; how long that is ago is not known here."""
        self._since_s, self._until_s = monotonic(), None

    @property
    def standing(self) -> str:
        """What the scheduler says of the worker's job."""
        return self._sandbox.standing()

    def is_queued(self) -> bool:
        """
        Whether it waits for its turn.

        Raises:
            RunTimeout: For longer than it may.
            SandboxError: It will never have it.
        """
        if self._until_s is not None:
            return False
        if not self._sandbox.is_queued():
            self._until_s = monotonic()
            return False
        limit_s = self._sandbox.queue_timeout_s
        if limit_s is not None and self.queued_s > limit_s:
            raise RunTimeout(f"the job did not get its turn within {limit_s:g} s (queue_timeout_s)")
        return True

    def confirm(self, client: WorkerClient) -> None:
        """
        The worker, which said hello, has begun the run on return.

        Raises:
            RpcError: It cannot read its order.
        """
        self._until_s = self._until_s or monotonic()
        client.answer(ORDER_ID, "start", ORDER_ANSWER_S)

    def end(self) -> float:
        """The time in the queue is booked on return, and given."""
        queued_s = self.queued_s
        self._run.spent_ms["queue"] = self._run.spent_ms.get("queue", 0.0) + queued_s * 1000
        self._since_s = self._until_s = None
        return queued_s

    def outcome(self, client: WorkerClient) -> dict[str, Any]:
        """
        What the worker says its run came to.

        Raises:
            WorkerLost: It ended without a word, or was ended from outside: why, its scheduler knows.
        """
        client.wait(lambda: client.summary is not None, OUTCOME_LIMIT_S)
        if client.summary is None:
            raise WorkerLost("the worker did not say what the run came to")
        if client.summary.get("ended_by"):
            raise WorkerLost(f"the worker was ended by {client.summary['ended_by']}")
        return client.summary

    def overrule(self, summary: RunSummary, error: ExecutionError) -> None:
        """
        The scheduler's verdict stands above what the steps said: its signal goes to every process of a job, and a
        command that dies of it looks like one that failed.
        """
        if error.details.get("by_scheduler"):
            summary.error = describe_failure(error, self._run.redactor)
            stopped = {FailureClass.TIMEOUT: "timeout", FailureClass.CANCELLED: "cancelled"}
            summary.status = stopped.get(error.failure_class, "failed")  # type: ignore[assignment]

    def began_again(self) -> bool:
        """Whether the scheduler started the worker again, or will; the run is then in its next attempt on return."""
        if self._sandbox.restarts == self._restarts:
            return False
        self._restarts = self._sandbox.restarts
        self._since_s, self._until_s = monotonic(), None
        self._session.begin_attempt(self._first_attempt + self._restarts)
        run, before = self._run, self._run.host
        run.extra["restarts"] = self._restarts
        run.host = self._session.journal.origin("host", run.redactor)
        if before is not None:
            run.tell_start(run.prepared.adapter)
        return True
