"""A run in a sandbox whose controller is dead: its place found again, its worker followed to its end."""

from __future__ import annotations

from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING

from osiris_core.earlier_run import EarlierRun
from osiris_core.errors import ExecutionError, FailureClass, NeverPlaced, NotAttached
from osiris_core.failure import error_of
from remote.client import WorkerLost
from remote.remote_run import RemoteRun
from remote.sandbox import SandboxError, check_site

if TYPE_CHECKING:
    from collections.abc import Iterator

    from osiris_core.aftermath import Aftermath
    from osiris_core.records import RunSummary
    from remote.turn import Turn

WAITING_PATIENCE_S = 1.0
"""How long the order of a controller that died may be on its way to the worker."""


class AdoptedRun(RemoteRun):
    """A `RemoteRun` that another controller started. `take_over` stands in for `drive`."""

    def take_over(self, native_id: str | None) -> RunSummary:
        """
        Go on where a controller that is dead was, and return what the engine says of it.

        Raises:
            NotAttached: The place, or the worker in it, cannot be asked now.
            NeverPlaced: The worker was never told to run.
            ExecutionError: It was lost. `summary` then has what is known of the steps.
        """
        try:
            self.summary = self._go_on(native_id)
        except NotAttached:
            self._let_go()
            raise
        except Exception as exc:
            error = self._explained(exc)
            self._conclude(error)
            if error is exc:
                raise
            raise error from None
        return self.summary

    def _go_on(self, native_id: str | None) -> RunSummary:
        try:
            with _askable("the place of the run"):
                check_site(self._sandbox, self._session.recorded)
                found = self._sandbox.adopt(native_id)
        except NeverPlaced as exc:
            raise NeverPlaced(f"{self._never}: {exc}") from None
        self._placed = True
        told = self._run.told
        assert told is not None
        self._steps_over = told.ended
        self._gone = not found
        if self._turn is not None and found:
            return self._follow_turn(self._turn)
        if self._turn is not None and native_id is None:
            raise NeverPlaced(self._never)
        if found and self._run.error is None:
            try:
                return self._follow_again()
            except (WorkerLost, SandboxError) as exc:
                if self._is_running():
                    self._stop_if_cancelled()
                    raise NotAttached(f"the worker runs, or may run, and cannot be talked to now: {exc}") from exc
        return self._from_what_is_left(told)

    def _is_running(self) -> bool:
        with _askable("the worker"):
            return self._sandbox.fate().running

    def _follow_turn(self, turn: Turn) -> RunSummary:
        """Follow a worker that a scheduler starts: all that it ever said is in its folder, also when it has ended."""
        turn.adopt()
        if not self._begin_again(turn):
            self._take_turn(turn)
        return self._follow()

    def _follow_again(self) -> RunSummary:
        """Connect to the worker and follow it; one that is still being started (in a queue) is waited for."""
        deadline_s = monotonic() + self._config.start_timeout_s
        state = None
        while state is None:
            client = self._connect(self._sandbox.reconnect(), again=True)
            try:
                state = client.call("heartbeat")["state"]
            except WorkerLost:
                if monotonic() > deadline_s or self._cancelled is not None or not self._is_running():
                    raise
                assert self._transport is not None
                self._transport.close()
        if state == "waiting" and not client.wait(lambda: self._steps_over, WAITING_PATIENCE_S):
            state = client.call("heartbeat")["state"]
        if state == "waiting":
            self._stop_if_cancelled()
            raise NeverPlaced(self._never)
        client.call("replay", {"after_seq": self._copies.last_seq})
        return self._follow()

    def _from_what_is_left(self, told: Aftermath) -> RunSummary:
        """The worker is no more, or nobody has to talk to it: its files say what it came to, if they are there."""
        if not self._gone:
            with self._run.clock("transfer"):
                self._fetch()
            told = self._told()
            self._run.steps_end_ts = told.end_ts
        if self._run.error is not None:
            raise error_of(self._run.error)
        if told.ended:
            return told.summary()
        self._stop_if_cancelled()
        if not told.last_seq and self._home is None and not (self._gone and "facts" in self._session.recorded):
            raise NeverPlaced(self._never)
        if self._gone:
            message = f"the place of the run is gone, and what it did there (go on with what is here: {self._again})"
            raise ExecutionError(message, failure_class=FailureClass.INFRA_LOST)
        raise WorkerLost("the worker ended before the run was over")

    @property
    def _again(self) -> str:
        return EarlierRun(self._session.layout, self._session.recorded).again

    @property
    def _never(self) -> str:
        return f"the run never began in its place: its controller died too early (run it again: {self._again})"


@contextmanager
def _askable(what: str) -> Iterator[None]:
    """What cannot be reached may be there: nothing is concluded from that."""
    try:
        yield
    except SandboxError as exc:
        if exc.failure_class is not FailureClass.INFRA_LOST:
            raise
        raise NotAttached(f"{what} cannot be asked now, and may go on: {exc}") from exc
