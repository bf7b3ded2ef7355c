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
    OsirisError,
)
from osiris_core.journal import read_events
from osiris_core.logs import log_transfer
from remote import folders
from remote.bundle import IN_BAND_BYTES, pack_bundle, worker_argv
from remote.client import WorkerLost
from remote.followed_run import FollowedRun
from remote.homecoming import Homecoming
from remote.ordering import Order
from remote.resume_files import earlier_files
from remote.sandbox import SandboxError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from osiris_core.aftermath import Aftermath
    from osiris_core.collection import Run
    from osiris_core.context import ExecutionContext
    from osiris_core.records import RunSummary
    from remote.client import WorkerClient
    from remote.config import RemoteConfig
    from remote.sandbox import Sandbox
    from remote.turn import Turn

START_PAUSE_S = 1.0
_WORTH_ANOTHER_TRY = (FailureClass.INFRA_LOST, FailureClass.PREEMPTED)


class RemoteRun(FollowedRun):
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
        self._token = token or secrets.token_hex(16)
        self._make_sandbox = partial(make_sandbox, run, context, self._token)
        super().__init__(run, context, config, self._make_sandbox())
        self.session_dir = str(run.session.layout.root)
        self.summary: RunSummary | None = None
        self._context = context
        self._in_band = b""
        self._placed = self._gone = False
        self._home: Homecoming | None = None
        self._at_home: dict[str, str] = run.session.recorded.get("at_home", {})
        self._released = False
        self._releasing = threading.Lock()
        self._transfer = {"up_bytes": 0, "up_ms": 0.0, "down_bytes": 0, "down_ms": 0.0}
        self._transfer |= run.extra.get("transfer", {})
        run.extra["transfer"] = self._transfer

    def drive(self) -> RunSummary:
        """
        Run it there to its end and return what the engine says of it.

        Raises:
            ExecutionError: The place cannot be had, or was lost. `summary` then has what is known of the steps.
        """
        try:
            self._place()
            python, work_dir = self._sandbox.python, self._sandbox.work_dir
            argv = worker_argv(python, work_dir, len(self._in_band), squeezed=self._frugal)
            if self._turn is not None:
                self._submit(self._turn, argv)
            else:
                self._order(self._connect(self._sandbox.open(argv)))
            self.summary = self._follow()
        except Exception as exc:
            error = self._explained(exc)
            if (told := self._told_by_results(error)) is not None:
                self.summary = told
                return told
            self._conclude(error)
            if error is exc:
                raise
            raise error from None
        return self.summary

    # There.

    def _place(self) -> None:
        self._stop_if_cancelled()
        self._placed = True
        site = getattr(self._sandbox, "site", None)
        marks = {"token": self._token, **({"site": site} if site is not None else {})}
        self._session.record(durable=getattr(self._sandbox, "elsewhere", True), **marks)
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
                squeezed=self._frugal,
                earlier=earlier,
                check=self._stop_if_cancelled,
            )
            try:
                if self._frugal and self._bundle.size_bytes <= IN_BAND_BYTES:
                    self._in_band = target.read_bytes()
                else:
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

    def _name(self, native_id: str) -> None:
        """Write down what the place is called; nothing for one that is named later, when a scheduler has it."""
        if native_id:
            self._session.record(native_id=native_id)
            self._run.extra["sandbox_id"] = native_id

    @property
    def _start_params(self) -> dict[str, Any]:
        return {
            "session_id": self._session.session_id,
            "attempt": self._session.attempt,
            "package_sha256": self._bundle.package_sha256,
            "secrets": dict(self._run.prepared.secrets),
            "resume": self._context.resume,
            "unattended_timeout_s": self._config.unattended_timeout_s,
            "unasked": self._frugal,
        }

    def _submit(self, turn: Turn, argv: list[str]) -> None:
        """Have the worker started when it is its turn, and wait for that."""
        self._record_facts()
        turn.order(self._start_params)
        self._stop_if_cancelled()
        self._name(turn.submit(argv))
        self._take_turn(turn)

    def _order(self, client: WorkerClient) -> None:
        order = Order(self._start_params, self._in_band, self._stop_if_cancelled, self._note_hello)
        if self._frugal:
            self._record_facts()
        try:
            order.give(client, self._config.start_timeout_s)
        except WorkerLost:
            if not self._frugal or not self._sandbox.fate().running:
                raise
            self._over_breaks(lambda: order.give_again(self._reconnect()), broken=1)
        self._in_band = b""

    def _note_hello(self, hello: Mapping[str, Any]) -> None:
        super()._note_hello(hello)
        if not self._run.attached:
            self._record_facts()

    def _record_facts(self) -> None:
        """From here on something may run: whoever has to go on with it finds what is known of it so far."""
        facts: dict[str, Any] = {
            "facts": self._run.extra,
            "spent_ms": {"transfer": self._run.spent_ms.get("transfer", 0.0)},
        }
        if self._at_home:
            facts["at_home"] = self._at_home
        self._session.record(**facts, prepared=self._run.prepared.to_json())

    def _told(self) -> Aftermath:
        """What our journal says by now."""
        return tell(self._session.layout, self._run.prepared, self._session.attempt)

    def _let_go(self) -> None:
        """Leave everything as it is, for the next who tries."""
        if self._transport is not None:
            self._transport.close()
        if self._trace is not None:
            self._trace.close()

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

    def _told_by_results(self, error: Exception) -> RunSummary | None:
        """What a worker that cannot be heard any more wrote down at the end of its run, if it came to that."""
        if getattr(error, "failure_class", None) is not FailureClass.INFRA_LOST:
            return None
        if self._transport is None or self._turn is not None:  # files are all that is heard of a batch worker
            return None
        with suppress(OsirisError, OSError, ValueError):
            self._fetch()
            if self._home is not None and (told := self._told()).ended:
                summary = told.summary()
                # An engine whose supervisor was killed cancels its run: then the loss stands.
                if summary.status != "cancelled" or self._cancelled is not None:
                    return summary
        return None

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
        if self._client is not None and not self._frugal:
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
            self._run.left_behind = str(exc)
            self._say(str(exc), "warning")
        finally:
            self._let_go()
