"""A run's way home: what it left in its place is fetched, or left there, and the place is freed."""

from __future__ import annotations

import threading
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING

from osiris_core.aftermath import stopped_by
from osiris_core.earlier_run import tell
from osiris_core.errors import CollectError, ExecutionError, FailureClass
from osiris_core.journal import read_events
from osiris_core.logs import log_transfer
from remote import folders
from remote.followed_run import FollowedRun
from remote.homecoming import Homecoming
from remote.sandbox import SandboxError, Unreachable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from osiris_core.aftermath import Aftermath
    from osiris_core.collection import Run
    from osiris_core.context import ExecutionContext
    from osiris_core.records import RunSummary
    from remote.config import RemoteConfig
    from remote.sandbox import Sandbox


class ReturningRun(FollowedRun):
    """
    `bring_home`, then `release`, when the run is over or nobody follows it any more.

    Attributes:
        summary: What happened, once it is known.
    """

    def __init__(self, run: Run, context: ExecutionContext, config: RemoteConfig, sandbox: Sandbox) -> None:
        super().__init__(run, context, config, sandbox)
        assert run.session is not None
        self.summary: RunSummary | None = None
        self._context = context
        self._placed = self._gone = False
        self._out_of_reach: Unreachable | None = None
        self._home: Homecoming | None = None
        self._at_home: dict[str, str] = run.session.recorded.get("at_home", {})
        self._released = False
        self._releasing = threading.Lock()
        self._transfer = {"up_bytes": 0, "up_ms": 0.0, "down_bytes": 0, "down_ms": 0.0}
        self._transfer |= run.extra.get("transfer", {})
        run.extra["transfer"] = self._transfer

    def bring_home(self) -> None:
        """
        Artifacts, checkpoints and the rest of the journal are in the session directory on return, verified.

        Raises:
            CollectError: They cannot be fetched, or are not what the engine said they are.
            Unreachable: Their place cannot be asked now. It stays, for an `attach`, unless the run was cancelled.
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
            self._fetch_or_leave()
        if self._home is None:
            return  # no engine ran there: what an earlier attempt left here stays
        self._home.verify(artifacts)
        steps = self.summary.steps if self.summary is not None else []
        self._home.move_in(reused=[step.step_id for step in steps if step.status == "reused"])
        self._session.record(home=True)
        self._note_transfer("down", started_s)

    def _fetch_or_leave(self) -> None:
        try:
            if self._out_of_reach is not None:
                raise self._out_of_reach
            self._fetch()
        except Unreachable as exc:
            if self._cancelled is not None or self._run.cancel_reason is not None:
                raise
            self._run.is_left = True
            self._session.record(left=True)
            root = self._session.layout.root
            message = (
                f"{exc}; what the run left is in {self._session.recorded.get('native_id') or 'its place'} yet: osiris "
                f"runs attach {root} fetches it, osiris runs gc gives it up"
            )
            self._say(message, "warning")
            raise Unreachable(message, failure_class=exc.failure_class) from exc

    def _fetch(self) -> None:
        """Everything that the worker left is here, beside what was here before, and the journal is complete."""
        home = Homecoming(self._session.layout, self._at_home)
        try:
            found = home.unpack(self._counted(self._sandbox.get(folders.SESSION_FOLDER)), self._config.max_result_bytes)
        except Unreachable as exc:
            self._out_of_reach = exc
            raise
        if found:
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
        """The place is gone on return, unless it is kept, or holds what did not come home. May be called twice."""
        with self._releasing:
            if not self._released:
                self._release()
                self._released = True

    def _release(self) -> None:
        try:
            if self._run.is_left:
                self._run.left_behind = "what the run left is in its place yet"
                if (leave := getattr(self._sandbox, "leave", None)) is not None:
                    leave()
            elif self._placed and (kept := self._sandbox.stop(keep=self._config.keep)):
                self._session.record(kept=True)
                self._say(kept, "info")
        except SandboxError as exc:  # what came home is home all the same
            self._run.left_behind = str(exc)
            self._say(str(exc), "warning")
        finally:
            self._let_go()

    def _told(self) -> Aftermath:
        """What our journal says by now."""
        return tell(self._session.layout, self._run.prepared, self._session.attempt)

    def _conclude(self, error: Exception) -> None:
        if not isinstance(error, ExecutionError):
            return
        with suppress(OSError, ValueError):
            stop = stopped_by(error.failure_class, str(error))
            self.summary = self._told().conclude(error, self._run.redactor, stop=stop)
            if self._turn is not None:
                self._turn.overrule(self.summary, error)

    def _let_go(self) -> None:
        """Leave everything as it is, for the next who tries."""
        if self._transport is not None:
            self._transport.close()
        if self._trace is not None:
            self._trace.close()
