"""A run in a sandbox, followed to its end over a connection that may break."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from osiris_core.errors import ExecutionError, RunCancelled, RunTimeout
from osiris_core.failure import FailureClass
from osiris_core.records import RunSummary
from remote.client import Patience, RpcError, WorkerClient, WorkerLost
from remote.ordering import hear
from remote.protocol import HEARTBEAT_INTERVAL_S, ErrorCode
from remote.rpc_trace import RpcTrace
from remote.sandbox import BatchSandbox
from remote.turn import Turn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from osiris_core.collection import Run
    from osiris_core.context import ExecutionContext
    from remote.config import RemoteConfig
    from remote.sandbox import Sandbox, Transport

T = TypeVar("T")
CANCEL_MARGIN_S = 20.0
"""How long after a cancel, or the run's limit, the worker's own ways of ending a run may take."""
SUMMARY_LIMIT_S = 60.0
"""How long an engine whose steps are over may take to write down what they came to."""
EVENTS_LIMIT_S = 30.0
"""How long the last events may take to come; later ones are taken from the journal that comes home."""
PACKING_LIMIT_S = 3600.0
"""How long a worker may take to pack its results, while it says that it lives."""
END_LIMIT_S = 5.0
"""How long after a worker said that its run is over the last events of it may take to come."""
RECONNECTS = 3
"""How often in a row a connection may break without one new event."""


class FollowedRun:
    """What `RemoteRun` knows of the line to its worker. `cancel` may come from any thread, also a signal handler."""

    def __init__(self, run: Run, context: ExecutionContext, config: RemoteConfig, sandbox: Sandbox) -> None:
        assert run.session is not None
        self._run = run
        self._config = config
        self._session = run.session
        self._take(sandbox)
        self._started_s = monotonic()
        self._is_told = False
        self._copies = run.session.journal.copies("engine", run.told.last_seq if run.told is not None else 0)
        self._transport: Transport | None = None
        self._client: WorkerClient | None = None
        self._trace = RpcTrace(context.trace_rpc, run.redactor) if context.trace_rpc else None
        self._timeout_s: float | None = run.prepared.settings.get("timeout_s")
        self._deadline_s: float | None = None
        self._cancelled: str | None = run.cancel_reason
        self._cancel_sent_s: float | None = None
        self._steps_over = False
        self._has_all_events = False
        self._connected = True

    def cancel(self, reason: str) -> None:
        """Ask the run to stop, wherever it is; returns at once."""
        self._cancelled = self._cancelled or reason
        self._run.cancel_reason = self._run.cancel_reason or reason  # for a place that is still being got

    def _take(self, sandbox: Sandbox) -> None:
        """The run is to be in this place."""
        self._sandbox = sandbox
        self._frugal = bool(getattr(sandbox, "frugal", False))
        self._turn = Turn(sandbox, self._run, self._session) if isinstance(sandbox, BatchSandbox) else None

    def _connect(self, transport: Transport, *, again: bool = False) -> WorkerClient:
        self._transport = transport
        self._is_told = self._frugal and getattr(transport, "beats", True)
        self._client = WorkerClient(
            transport, self._copies, self._note, self._note_stray, self._trace, self._patience(), in_midst=again
        )
        return self._client

    def _patience(self) -> Patience:
        if self._turn is not None:
            return self._turn.patience
        if not self._is_told:
            return Patience()
        # A worker that says how it is unasked is only asked so that it hears of a host now and then.
        return Patience(heartbeat_s=max(self._config.unattended_timeout_s / 3, HEARTBEAT_INTERVAL_S))

    def _take_turn(self, turn: Turn) -> None:
        """The worker, which a scheduler starts, has begun the run on return."""
        client = self._connect(self._sandbox.reconnect())
        try:
            hear(client, self._config.start_timeout_s, self._stop_if_cancelled, self._note_hello, turn.is_queued)
            turn.confirm(client)
        finally:
            self._started_s += turn.end()
        self._connected = True

    def _note_hello(self, hello: Mapping[str, Any]) -> None:
        self._run.extra["worker"] = {name: hello.get(name) for name in ("version", "python", "packages")}

    def _stop_if_cancelled(self) -> None:
        if self._cancelled is not None:
            raise RunCancelled(f"the run was cancelled: {self._cancelled}")
        queued_s = self._turn.queued_s if self._turn is not None else 0.0
        if self._timeout_s is not None and monotonic() > self._started_s + queued_s + self._timeout_s:
            raise RunTimeout(f"the run took longer than {self._timeout_s:g} s to get its place")

    def _over_breaks(self, work: Callable[[], T], broken: int = 0) -> T:
        """
        What `work` gives, again after each break of the connection, as long as the worker lives and gets on. How long
        it may take to get on is for a scheduler to say, where there is one.
        """
        while True:
            before = self._copies.last_seq
            try:
                return work()
            except WorkerLost:
                broken = 1 if self._copies.last_seq > before else broken + 1
                if (broken > RECONNECTS and self._turn is None) or not self._sandbox.fate().running:
                    raise
                if self._turn is not None:
                    self._begin_again(self._turn)

    def _begin_again(self, turn: Turn) -> bool:
        """Whether the worker was started again, and the run is in its next attempt."""
        if not turn.began_again():
            return False
        self._copies = self._session.journal.copies("engine")
        self._steps_over, self._cancel_sent_s = False, None
        self._take_turn(turn)
        self._set_deadline()
        return True

    def _set_deadline(self) -> None:
        if self._timeout_s is not None:
            self._deadline_s = monotonic() + self._timeout_s + CANCEL_MARGIN_S

    def _follow(self) -> RunSummary:
        self._set_deadline()

        def follow() -> RunSummary:
            if not self._connected:
                client = self._reconnect()
                if self._turn is None:  # else its journal is read from the beginning
                    client.call("replay", {"after_seq": self._copies.last_seq})
            self._connected = False  # until the whole of it went well
            assert self._client is not None
            self._wait_for_steps(self._client)
            return self._fetch_summary(self._client)

        return self._over_breaks(follow)

    def _wait_for_steps(self, client: WorkerClient) -> None:
        while not self._steps_over and client.summary is None:
            now_s = monotonic()
            if self._cancelled is not None and self._cancel_sent_s is None:
                if self._turn is not None:  # a file takes it; whether a job that is suspended ever reads it is open
                    self._cancel_sent_s = now_s
                client.call("cancel", {"reason": self._cancelled})
                self._cancel_sent_s = now_s
            late = self._deadline_s is not None and now_s > self._deadline_s
            if late or (self._cancel_sent_s is not None and now_s > self._cancel_sent_s + CANCEL_MARGIN_S):
                raise self._overdue()
            over_s = client.over_since_s
            if self._turn is None and over_s is not None and now_s > over_s + END_LIMIT_S:
                raise ExecutionError(
                    "the worker says that the run is over, and the end of its journal is gone",
                    failure_class=FailureClass.INFRA_LOST,
                )
            client.wait(lambda: self._steps_over or (self._cancelled is not None and self._cancel_sent_s is None), 1.0)

    def _overdue(self) -> ExecutionError:
        """Why a run had to end that did not: the worker may be stopped, or what keeps it cannot be interrupted."""
        standing = self._turn.standing if self._turn is not None else ""
        more = f"and the worker did not end it{f': {standing}' if standing else ''}"
        if self._cancelled is not None:
            return RunCancelled(f"the run was cancelled: {self._cancelled}, {more}")
        return RunTimeout(f"the run took longer than {self._timeout_s:g} s, {more}")

    def _fetch_summary(self, client: WorkerClient) -> RunSummary:
        answer = self._turn.outcome(client) if self._turn is not None else self._told_summary(client)
        if self._copies.last_seq < answer["last_seq"]:
            if self._turn is None:
                client.call("replay", {"after_seq": self._copies.last_seq})
            client.wait(lambda: self._copies.last_seq >= answer["last_seq"], EVENTS_LIMIT_S)
        self._has_all_events = self._copies.last_seq >= answer["last_seq"]
        self._run.extra["worker_overhead_ms"] = answer["overhead_ms"]
        return RunSummary.from_json(answer["summary"])

    def _told_summary(self, client: WorkerClient) -> dict[str, Any]:
        if self._is_told:
            client.wait(lambda: client.summary is not None, PACKING_LIMIT_S)
        return client.summary if client.summary is not None else self._asked_summary(client)

    def _asked_summary(self, client: WorkerClient) -> dict[str, Any]:
        pause_s, deadline_s = 0.002, monotonic() + SUMMARY_LIMIT_S
        while True:
            try:
                answer: dict[str, Any] = client.call("get_summary")
                return answer
            except RpcError as exc:
                if exc.code != ErrorCode.NOT_OVER or monotonic() > deadline_s:
                    raise
            client.wait(lambda: False, pause_s)
            pause_s = min(pause_s * 1.5, 0.1)

    def _reconnect(self) -> WorkerClient:
        assert self._transport is not None
        self._transport.close()
        return self._connect(self._sandbox.reconnect(), again=True)

    def _note(self, event: dict[str, Any]) -> None:
        if event["event"] in ("steps.complete", "steps.error"):
            self._steps_over, self._run.steps_end_ts = True, event["ts"]

    def _note_stray(self, text: str) -> None:
        self._say(text, "warning", stream="worker")

    def _say(self, text: str, level: str, **more: str) -> None:
        if self._run.host is not None:
            self._run.host.emit("log", level=level, message=text, **more)
