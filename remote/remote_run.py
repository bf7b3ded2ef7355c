"""One run in a sandbox, seen from the host: there, started, followed to its end, and home again."""

from __future__ import annotations

import secrets
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from osiris_core.errors import (
    ExecutionError,
    FailureClass,
    OsirisError,
)
from remote.bundle import IN_BAND_BYTES, pack_bundle, worker_argv
from remote.client import WorkerLost
from remote.ordering import Order
from remote.resume_files import earlier_files
from remote.returning_run import ReturningRun
from remote.sandbox import SandboxError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from osiris_core.collection import Run
    from osiris_core.context import ExecutionContext
    from osiris_core.records import RunSummary
    from remote.client import WorkerClient
    from remote.config import RemoteConfig
    from remote.sandbox import Sandbox
    from remote.turn import Turn

START_PAUSE_S = 1.0
_WORTH_ANOTHER_TRY = (FailureClass.INFRA_LOST, FailureClass.PREEMPTED)


class RemoteRun(ReturningRun):
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
        self._in_band = b""

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
                self._pause(START_PAUSE_S * number, self._stop_if_cancelled)
                self._take_away_what_was_made(exc)
                self._take(self._make_sandbox())
        raise AssertionError("at least one attempt")

    def _take_away_what_was_made(self, failure: SandboxError) -> None:
        """The answer may be all that was lost: what was asked for is not there when it is asked for again."""
        try:
            self._sandbox.stop()
        except SandboxError:
            raise failure from None

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
