"""When a request is asked again, and after which pause."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from osiris_core.drivers.http_errors import HttpFailure

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Again:
    """
    How often a request is asked again after a failure that may be gone, and the pauses between.

    A pause doubles from `delay_s` on, with up to a quarter of that more by chance; where the server names a longer one,
    it is that. A server that asks for more than `max_delay_s` is not waited for.
    """

    retries: int = 3
    delay_s: float = 1.0
    max_delay_s: float = 300.0


def retrying(again: Again, on_retry: Callable[[HttpFailure, int, float], object] | None) -> Any:
    """Calls an async function until it returns, gives up with its last failure, or fails in a way that stays."""
    import tenacity

    usual = tenacity.wait_exponential(multiplier=again.delay_s, max=60) + tenacity.wait_random(0, again.delay_s / 4)

    def failure_of(state: tenacity.RetryCallState) -> HttpFailure | None:
        error = state.outcome.exception() if state.outcome is not None else None
        return error if isinstance(error, HttpFailure) else None

    def pause_s(state: tenacity.RetryCallState) -> float:
        failure = failure_of(state)
        asked_s = failure.retry_after_s if failure is not None else None
        return max(float(usual(state)), asked_s or 0.0)

    def is_worth_it(error: BaseException) -> bool:
        return isinstance(error, HttpFailure) and error.again and (error.retry_after_s or 0.0) <= again.max_delay_s

    def before_sleep(state: tenacity.RetryCallState) -> None:
        failure = failure_of(state)
        if on_retry is not None and failure is not None and state.next_action is not None:
            on_retry(failure, state.attempt_number + 1, float(state.next_action.sleep))

    return tenacity.AsyncRetrying(
        stop=tenacity.stop_after_attempt(again.retries + 1),
        wait=pause_s,
        retry=tenacity.retry_if_exception(is_worth_it),
        before_sleep=before_sleep,
        reraise=True,
    )
