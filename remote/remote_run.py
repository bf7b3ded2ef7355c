"""One run in a sandbox, seen from the host: there, started, followed to its end, and home again."""

from __future__ import annotations

import secrets
import threading
from contextlib import suppress
from functools import partial
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from osiris_core.aftermath import stopped_by
from osiris_core.earlier_run import tell
from osiris_core.errors import (
    CollectError,
    ExecutionError,
    FailureClass,
    RunCancelled,
    RunTimeout,
)
from osiris_core.journal import read_events
from osiris_core.logs import log_transfer
from osiris_core.records import RunSummary
from remote import folders
from remote.bundle import pack_bundle, worker_argv
from remote.client import RpcError, WorkerClient, WorkerLost
from remote.homecoming import Homecoming
from remote.packages import check_hello
from remote.protocol import ErrorCode
from remote.resume_files import earlier_files
from remote.rpc_trace import RpcTrace
from remote.sandbox import BatchSandbox, SandboxError
from remote.turn import Turn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from osiris_core.aftermath import Aftermath
    from osiris_core.collection import Run
    from osiris_core.context import ExecutionContext
    from remote.config import RemoteConfig
    from remote.sandbox import Sandbox, Transport

START_ANSWER_S = 30.0
"""How long the worker may take to answer `start`: it imports its libraries meanwhile."""
CANCEL_MARGIN_S = 20.0
"""How long after a cancel, or the run's limit, the worker's own ways of ending a run may take."""
SUMMARY_LIMIT_S = 60.0
"""How long an engine whose steps are over may take to write down what they came to."""
RECONNECTS = 3
START_PAUSE_S = 1.0
_WORTH_ANOTHER_TRY = (FailureClass.INFRA_LOST, FailureClass.PREEMPTED)


class RemoteRun:
    """
    `drive` runs in one thread; `cancel` may come from any, also a signal handler. Then `bring_home` and `release`.

    Attributes:
        summary: What happened, once it is known; also when `drive` raised.
    """

    def __init__(
        self,
        run: Run,
        context: ExecutionContext,
        config: RemoteConfig,
        make_sandbox: Callable[[Run, ExecutionContext, str], Sandbox],
        token: str | None = None,
    ) -> None:
        assert run.session is not None
        self.session_dir = str(run.session.layout.root)
        self.summary: RunSummary | None = None
        self._run = run
        self._context = context
        self._config = config
        self._session = run.session
        self._token = token or secrets.token_hex(16)
        self._make_sandbox = partial(make_sandbox, run, context, self._token)
        self._take(self._make_sandbox())
        self._copies = run.session.journal.copies("engine", run.told.last_seq if run.told is not None else 0)
        self._transport: Transport | None = None
        self._client: WorkerClient | None = None
        self._trace = RpcTrace(context.trace_rpc, run.redactor) if context.trace_rpc else None
        self._cancelled: str | None = run.cancel_reason
        self._timeout_s: float | None = run.prepared.settings.get("timeout_s")
        self._started_s = monotonic()
        self._cancel_sent_s: float | None = None
        self._steps_over = False
        self._has_all_events = False
        self._placed = self._gone = False
        self._home: Homecoming | None = None
        self._at_home: dict[str, str] = run.session.recorded.get("at_home", {})
        self._released = False
        self._releasing = threading.Lock()
        self._transfer = {"up_bytes": 0, "up_ms": 0.0, "down_bytes": 0, "down_ms": 0.0}
        self._transfer |= run.extra.get("transfer", {})
        run.extra["transfer"] = self._transfer

    def cancel(self, reason: str) -> None:
        """Ask the run to stop, wherever it is; returns at once."""
        self._cancelled = self._cancelled or reason

    def drive(self) -> RunSummary:
        """
        Run it there to its end and return what the engine says of it.

        Raises:
            ExecutionError: The place cannot be had, or was lost. `summary` then has what is known of the steps.
        """
        try:
            self._place()
            argv = worker_argv(self._sandbox.python, self._sandbox.work_dir)
            if self._turn is not None:
                self._submit(self._turn, argv)
            else:
                client = self._connect(self._sandbox.open(argv))
                self._greet(client)
                client.call("start", self._order(), START_ANSWER_S)
            self.summary = self._follow()
        except Exception as exc:
            error = self._explained(exc)
            self._conclude(error)
            if error is exc:
                raise
            raise error from None
        return self.summary

    # There.

    def _place(self) -> None:
        self._stop_if_cancelled()
        self._placed = True
        self._session.record(token=self._token)
        self._name(self._have_place())
        self._stop_if_cancelled()
        started_s = monotonic()
        with self._run.clock("transfer"):
            target = self._session.layout.work_dir / "package.tar"
            target.parent.mkdir(parents=True, exist_ok=True)
            earlier = earlier_files(self._run.prepared, self._session) if self._context.resume else None
            self._at_home = earlier.at_home if earlier is not None else {}
            self._bundle = pack_bundle(
                self._run.prepared,
                self._config.code,
                target,
                in_place=self._sandbox.reads_in_place,
                earlier=earlier,
                check=self._stop_if_cancelled,
            )
            try:
                self._sandbox.put(target)
            finally:
                target.unlink()
        self._transfer["up_bytes"] = self._bundle.size_bytes
        self._note_transfer("up", started_s)
        self._stop_if_cancelled()

    def _have_place(self) -> str:
        """The place, made; asked for again where only the infrastructure failed. Its native id."""
        for number in range(1, self._config.start_attempts + 1):
            try:
                return self._sandbox.start()
            except SandboxError as exc:
                if exc.failure_class not in _WORTH_ANOTHER_TRY or number == self._config.start_attempts:
                    raise
                self._say(f"{exc}; the place is asked for once more", "warning")
                self._pause(START_PAUSE_S * number)
                self._take_away_what_was_made(exc)
                self._take(self._make_sandbox())
        raise AssertionError("at least one attempt")

    def _take_away_what_was_made(self, failure: SandboxError) -> None:
        """The answer may be all that was lost: what has the run's token by now is not made a second time."""
        made = self._make_sandbox()
        try:
            if made.adopt(None):
                made.stop()
        except SandboxError:
            raise failure from None

    def _pause(self, pause_s: float) -> None:
        until_s = monotonic() + pause_s
        while monotonic() < until_s:
            self._stop_if_cancelled()
            sleep(0.05)

    def _take(self, sandbox: Sandbox) -> None:
        """The run is to be in this place."""
        self._sandbox = sandbox
        self._turn = Turn(sandbox, self._run, self._session) if isinstance(sandbox, BatchSandbox) else None

    def _name(self, native_id: str) -> None:
        """Write down what the place is called; nothing for one that is named later, when a scheduler has it."""
        if native_id:
            self._session.record(native_id=native_id)
            self._run.extra["sandbox_id"] = native_id

    def _submit(self, turn: Turn, argv: list[str]) -> None:
        """Have the worker started when it is its turn, and wait for that."""
        turn.order(self._order())
        self._stop_if_cancelled()
        self._name(turn.submit(argv))
        self._take_turn(turn)

    def _take_turn(self, turn: Turn) -> None:
        client = self._connect(self._sandbox.reconnect())
        try:
            self._greet(client)
            turn.confirm(client)
        finally:
            self._started_s += turn.end()

    def _greet(self, client: WorkerClient) -> None:
        turn = self._turn
        is_queued = turn.is_queued if turn is not None else lambda: False
        hello = client.hello(self._config.start_timeout_s, self._stop_if_cancelled, is_queued)
        check_hello(hello)
        self._run.extra["worker"] = {name: hello.get(name) for name in ("version", "python", "packages")}
        self._stop_if_cancelled()

    def _order(self) -> dict[str, Any]:
        """What the worker is told to begin with; from here on it may run."""
        # Whoever has to go on with it finds what is known of it so far.
        facts: dict[str, Any] = {
            "facts": self._run.extra,
            "spent_ms": {"transfer": self._run.spent_ms.get("transfer", 0.0)},
        }
        if self._at_home:
            facts["at_home"] = self._at_home
        self._session.record(**facts, prepared=self._run.prepared.to_json())
        return {
            "session_id": self._session.session_id,
            "attempt": self._session.attempt,
            "package_sha256": self._bundle.package_sha256,
            "secrets": dict(self._run.prepared.secrets),
            "resume": self._context.resume,
            "unattended_timeout_s": self._config.unattended_timeout_s,
        }

    def _stop_if_cancelled(self) -> None:
        if self._cancelled is not None:
            raise RunCancelled(f"the run was cancelled: {self._cancelled}")
        queued_s = self._turn.queued_s if self._turn is not None else 0.0
        if self._timeout_s is not None and monotonic() > self._started_s + queued_s + self._timeout_s:
            raise RunTimeout(f"the run took longer than {self._timeout_s:g} s to get its place")

    def _connect(self, transport: Transport) -> WorkerClient:
        self._transport = transport
        patience = self._turn.patience if self._turn is not None else None
        self._client = WorkerClient(transport, self._copies, self._note, self._note_stray, self._trace, patience)
        return self._client

    def _told(self) -> Aftermath:
        """What our journal says by now."""
        return tell(self._session.layout, self._run.prepared, self._session.attempt)

    def _let_go(self) -> None:
        """Leave everything as it is, for the next who tries."""
        if self._transport is not None:
            self._transport.close()
        if self._trace is not None:
            self._trace.close()

    # Followed to its end.

    def _follow(self) -> RunSummary:
        deadline_s = self._deadline_s()
        broken = 0
        while True:
            try:
                assert self._client is not None
                self._wait_for_steps(self._client, deadline_s)
                return self._fetch_summary(self._client)
            except WorkerLost:
                broken += 1
                if not self._sandbox.fate().running or (broken > RECONNECTS and self._turn is None):
                    raise
                if self._reconnect():
                    deadline_s = self._deadline_s()

    def _deadline_s(self) -> float | None:
        return None if self._timeout_s is None else monotonic() + self._timeout_s + CANCEL_MARGIN_S

    def _wait_for_steps(self, client: WorkerClient, deadline_s: float | None) -> None:
        while not self._steps_over:
            now_s = monotonic()
            if self._cancelled is not None and self._cancel_sent_s is None:
                if self._turn is not None:  # a file takes it; whether a job that is suspended ever reads it is open
                    self._cancel_sent_s = now_s
                client.call("cancel", {"reason": self._cancelled})
                self._cancel_sent_s = now_s
            late = deadline_s is not None and now_s > deadline_s
            if late or (self._cancel_sent_s is not None and now_s > self._cancel_sent_s + CANCEL_MARGIN_S):
                raise ExecutionError(
                    "the worker did not end the run when it had to", failure_class=FailureClass.ADAPTER_BUG
                )
            client.wait(lambda: self._steps_over or (self._cancelled is not None and self._cancel_sent_s is None), 1.0)

    def _fetch_summary(self, client: WorkerClient) -> RunSummary:
        answer = self._ask_for_summary(client) if self._turn is None else self._turn.outcome(client)
        if self._copies.last_seq < answer["last_seq"]:
            if self._turn is None:
                client.call("replay", {"after_seq": self._copies.last_seq})
            client.wait(lambda: self._copies.last_seq >= answer["last_seq"], 30.0)
        self._has_all_events = self._copies.last_seq >= answer["last_seq"]
        self._run.extra["worker_overhead_ms"] = answer["overhead_ms"]
        return RunSummary.from_json(answer["summary"])

    def _ask_for_summary(self, client: WorkerClient) -> dict[str, Any]:
        pause_s, deadline_s = 0.002, monotonic() + SUMMARY_LIMIT_S
        while True:
            try:
                answer: dict[str, Any] = client.call("get_summary")
            except RpcError as exc:
                if exc.code != ErrorCode.NOT_OVER or monotonic() > deadline_s:
                    raise
            else:
                return answer
            client.wait(lambda: False, pause_s)
            pause_s = min(pause_s * 1.5, 0.1)

    def _reconnect(self) -> bool:
        """Connect again; whether the worker has been started again, and the run begun its next attempt."""
        if self._transport is not None:
            self._transport.close()
        if self._turn is None:
            self._connect(self._sandbox.reconnect()).call("replay", {"after_seq": self._copies.last_seq})
            return False
        if not self._turn.began_again():
            self._connect(self._sandbox.reconnect())  # its journal is read from the beginning
            return False
        self._copies = self._session.journal.copies("engine")
        self._steps_over, self._cancel_sent_s = False, None
        self._take_turn(self._turn)
        return True

    def _note(self, event: dict[str, Any]) -> None:
        if event["event"] in ("steps.complete", "steps.error"):
            self._steps_over, self._run.steps_end_ts = True, event["ts"]

    def _note_stray(self, text: str) -> None:
        self._say(text, "warning", stream="worker")

    def _say(self, text: str, level: str, **more: str) -> None:
        if self._run.host is not None:
            self._run.host.emit("log", level=level, message=text, **more)

    # When it went wrong.

    def _explained(self, exc: Exception) -> Exception:
        """A worker that was lost, with how it ended and what it said last."""
        if not isinstance(exc, WorkerLost):
            return exc
        fate = self._sandbox.fate()
        message, failure_class = str(exc), FailureClass.INFRA_LOST
        details: dict[str, Any] = dict(fate.facts)
        if not fate.running:
            message = fate.message or f"the worker ended with exit code {fate.exit_code}"
            details["exit_code"] = fate.exit_code
        if fate.failure_class is not None:
            failure_class = fate.failure_class
            details["by_scheduler"] = self._turn is not None
        if fate.out_of_memory:
            failure_class = FailureClass.OUT_OF_MEMORY
        tail = self._run.redactor.text(self._transport.stderr_tail()) if self._transport is not None else ""
        if tail:
            details["last_output"] = tail
            message += f"; it said last: {tail.strip().splitlines()[-1]}"
        return ExecutionError(message, failure_class=failure_class, details=details)

    def _conclude(self, error: Exception) -> None:
        if not isinstance(error, ExecutionError):
            return
        with suppress(OSError, ValueError):
            stop = stopped_by(error.failure_class, str(error))
            self.summary = self._told().conclude(error, self._run.redactor, stop=stop)
            if self._turn is not None:
                self._turn.overrule(self.summary, error)

    # Home.

    def bring_home(self) -> None:
        """
        Artifacts, checkpoints and the rest of the journal are in the session directory on return, verified.

        Raises:
            CollectError: They cannot be fetched, or are not what the engine said they are.
        """
        if (
            not self._placed
            or self._session.recorded.get("home")
            or (self._transport is None and not self._run.attached)
        ):
            return
        artifacts = self.summary.artifacts if self.summary is not None else []
        if self._gone:
            if artifacts:
                raise CollectError("the place of the run is gone, and what its steps left with it")
            return
        if self._client is not None:
            self._client.dismiss()  # it leaves while its files are fetched, and need not be waited for afterwards
        started_s = monotonic()
        if self._home is None:
            self._fetch()
        if self._home is None:
            return  # no engine ran there: what an earlier attempt left here stays
        self._home.verify(artifacts)
        steps = self.summary.steps if self.summary is not None else []
        self._home.move_in(reused=[step.step_id for step in steps if step.status == "reused"])
        self._session.record(home=True)
        self._note_transfer("down", started_s)

    def _fetch(self) -> None:
        """Everything that the worker left is here, beside what was here before, and the journal is complete."""
        home = Homecoming(self._session.layout, self._at_home)
        if home.unpack(self._counted(self._sandbox.get(folders.SESSION_FOLDER)), self._config.max_result_bytes):
            self._home = home
            self._complete_journal(home.journal)

    def _note_transfer(self, direction: str, started_s: float) -> None:
        duration_ms = self._transfer[f"{direction}_ms"] = round((monotonic() - started_s) * 1000, 3)
        log_transfer(self._context, direction, int(self._transfer[f"{direction}_bytes"]), duration_ms)

    def _counted(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self._transfer["down_bytes"] += len(piece)
            yield piece

    def _complete_journal(self, journal: Path) -> None:
        """Take over the events that did not come over the wire."""
        if self._has_all_events:
            return
        before = self._copies.last_seq
        for event in read_events(journal):
            if event["origin"] == "engine" and event["attempt"] == self._session.attempt:
                self._copies.take(event)
        if self._copies.last_seq > before and self._run.error is not None:
            error = ExecutionError(
                self._run.error["message"],
                failure_class=FailureClass(self._run.error["failure_class"]),
                details=self._run.error["details"],
            )
            self._conclude(error)
            self._run.summary = self.summary

    def release(self) -> None:
        """The place is gone on return, unless the configuration says `keep`. May be called twice."""
        with self._releasing:
            if not self._released:
                self._release()
                self._released = True

    def _release(self) -> None:
        try:
            if self._placed and (kept := self._sandbox.stop(keep=self._config.keep)):
                self._say(kept, "info")
        except SandboxError as exc:  # what came home is home all the same
            self._say(str(exc), "warning")
        finally:
            self._let_go()
