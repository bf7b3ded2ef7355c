"""The one way by which a run asks E2B: requests are counted, errors are ours and masked, and a cancel ends a wait."""

from __future__ import annotations

from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from adapters.e2b_cloud.errors import AnswerLost, translate
from adapters.e2b_cloud.loop import PrivateLoop
from adapters.e2b_cloud.patience import patiently
from osiris_core.errors import RunCancelled

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Coroutine
    from contextlib import AbstractContextManager

    from adapters.e2b_cloud.account import Account

T = TypeVar("T")
LAST_WAIT_S = 4.0
"""How long a request may take that a run makes after it was cancelled, or while its place is being freed."""


class Line:
    """
    Args:
        account: Who asks.
        requests: How many requests of each kind were made; the SDK's own repetitions of one are not counted.
        cancel_reason: Why the run was cancelled, as soon as it is.
    """

    def __init__(self, account: Account, requests: Counter[str], cancel_reason: Callable[[], str | None]) -> None:
        self.account = account
        self.loop = PrivateLoop.shared()
        self._requests = requests
        self._cancel_reason = cancel_reason
        self._is_ending = False

    def count(self, kind: str, number: int = 1) -> None:
        self._requests[kind] += number

    def hurry(self) -> None:
        """From here on nothing is waited for longer than it takes to be rid of the place."""
        self._is_ending = True

    def errors(self, what: str) -> AbstractContextManager[None]:
        """What a sandbox answers in the block, as our errors; `what` begins their message."""
        return translate(what, self.account.redactor)

    def ask(
        self,
        kind: str,
        what: str,
        work: Coroutine[Any, Any, T],
        *,
        of_account: bool = False,
        limit_s: float | None = None,
        grace_s: float = 0.0,
    ) -> T:
        """
        What a sandbox, or the control plane if `of_account`, answers to one request.

        `limit_s` and `grace_s` are those of `heed`.

        Raises:
            RunCancelled: The run was cancelled meanwhile.
            SandboxError: See `errors.py`; `what` begins its message.
        """
        self.count(kind)
        with self.account.errors(what) if of_account else self.errors(what):
            return self.loop.run(work, self.heed(what, limit_s, grace_s))

    def check(self) -> None:
        """Raises RunCancelled when the run is cancelled."""
        if (reason := self._cancel_reason()) is not None:
            raise RunCancelled(f"the run was cancelled: {reason}")

    def heed(self, what: str, limit_s: float | None = None, grace_s: float = 0.0) -> Callable[[], None]:
        """
        What to call all through one wait: it raises when the wait is to end.

        With AnswerLost after `limit_s`. With RunCancelled when the run is cancelled meanwhile, unless the wait has
        `grace_s` from then on. A wait that begins later, so that the run ends well, has `grace_s`, or else LAST_WAIT_S.
        """
        deadline_s = monotonic() + (inf if limit_s is None else limit_s)
        is_late = False

        def heed(*, begins: bool = False) -> None:
            nonlocal deadline_s, is_late
            if not is_late and self.is_late:
                if not (begins or grace_s or self._is_ending):
                    self.check()
                is_late = True
                deadline_s = min(deadline_s, monotonic() + (grace_s or LAST_WAIT_S))
            if monotonic() > deadline_s:
                raise AnswerLost(f"{what}: there was no answer in time")

        heed(begins=True)

        return heed

    def patiently(self, work: Callable[[], T], limit_s: float) -> T:
        """As `patience.patiently`, until the run is cancelled; one that was before has LAST_WAIT_S."""
        return patiently(work, LAST_WAIT_S if self.is_late else limit_s, self.heed("E2B cannot be reached"))

    @property
    def is_late(self) -> bool:
        return self._is_ending or self._cancel_reason() is not None
