"""Trying a step again: when, how often, and with what pauses. Built on tenacity, imported when first needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from osiris_core.errors import classify

if TYPE_CHECKING:
    from collections.abc import Callable

    from osiris_core.manifest import RetryPolicy


def run_with_retry(
    attempt: Callable[[int], Any],
    policy: RetryPolicy | None,
    *,
    may_retry: Callable[[BaseException], bool],
    on_retry: Callable[[BaseException, int, float], None],
    sleep: Callable[[float], None],
) -> Any:
    """
    Call `attempt(1)`, `attempt(2)`, … until one returns, and return its result.

    A failure is tried again when its class is one of the policy's, tries are left, and `may_retry` agrees;
    `on_retry(error, next_attempt, delay_s)` is called before the pause. The last failure is raised as it is.
    """
    if policy is None or policy.attempts == 1:
        return attempt(1)
    import tenacity

    def is_worth_it(error: BaseException) -> bool:
        return classify(error) in policy.on and may_retry(error)

    def before_sleep(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        delay_s = state.next_action.sleep if state.next_action else 0.0
        if error is not None:
            on_retry(error, state.attempt_number + 1, delay_s)

    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(policy.attempts),
        wait=tenacity.wait_exponential(multiplier=policy.backoff_s, max=policy.max_backoff_s)
        + tenacity.wait_random(0, policy.jitter_s),
        retry=tenacity.retry_if_exception(is_worth_it),
        before_sleep=before_sleep,
        sleep=sleep,
        reraise=True,
    )
    for state in retrying:
        with state:
            result = attempt(state.retry_state.attempt_number)
        if not state.retry_state.outcome or not state.retry_state.outcome.failed:
            state.retry_state.set_result(result)
            return result
    raise AssertionError("tenacity neither returned nor raised")
