"""Trying again: as often, as late and for the reasons that the policy says; the last error comes out as it is."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from osiris_core.errors import FailureClass, StepError
from osiris_core.manifest import RetryPolicy
from osiris_core.retry import run_with_retry


class Trial:
    """Runs an attempt that fails a number of times, and notes what happened."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.numbers: list[int] = []
        self.told: list[tuple[BaseException, int, float]] = []
        self.slept: list[float] = []

    def attempt(self, number: int) -> str:
        self.numbers.append(number)
        if self.errors:
            raise self.errors.pop(0)
        return "done"

    def run(self, policy: RetryPolicy | None, may_retry: Any = lambda error: True) -> Any:
        return run_with_retry(
            self.attempt,
            policy,
            may_retry=may_retry,
            on_retry=lambda *told: self.told.append(told),
            sleep=self.slept.append,
        )


def lost() -> ConnectionError:
    return ConnectionError("lost")


@pytest.mark.parametrize("policy", [None, RetryPolicy(attempts=1)])
def test_without_a_policy_there_is_one_try(policy: RetryPolicy | None) -> None:
    """No policy, or one try: the result or the error comes straight out."""
    error = lost()
    trial = Trial(error)
    with pytest.raises(ConnectionError) as caught:
        trial.run(policy)
    assert caught.value is error
    assert (trial.numbers, trial.told, trial.slept) == ([1], [], [])
    assert Trial().run(policy) == "done"


def test_it_succeeds_in_the_end() -> None:
    """Failures that may pass are tried again, each announced before its pause."""
    errors = [lost(), lost()]
    trial = Trial(*errors)
    assert trial.run(RetryPolicy(attempts=5, backoff_s=1, jitter_s=0)) == "done"
    assert trial.numbers == [1, 2, 3]
    assert [(error, number) for error, number, _ in trial.told] == [(errors[0], 2), (errors[1], 3)]
    assert trial.slept == [delay_s for _, _, delay_s in trial.told] == [1, 2]


def test_the_last_error_is_raised_as_it_is() -> None:
    """After the last try its own error comes out: the same object, with no other behind it."""
    errors = [lost(), lost(), lost()]
    last = errors[-1]
    trial = Trial(*errors)
    with pytest.raises(ConnectionError) as caught:
        trial.run(RetryPolicy(attempts=3, backoff_s=0, jitter_s=0))
    assert caught.value is last
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert trial.numbers == [1, 2, 3]
    assert len(trial.told) == 2


@pytest.mark.parametrize("attempts", [2, 100])
def test_pauses_double_up_to_the_longest_with_jitter_on_top(attempts: int) -> None:
    """Each pause is twice the one before, at most `max_backoff_s`, plus at most `jitter_s`, however many."""
    policy = RetryPolicy(attempts=attempts, backoff_s=0.5, max_backoff_s=20, jitter_s=2)
    trial = Trial(*[lost() for _ in range(attempts - 1)])
    trial.run(policy)
    assert len(trial.slept) == attempts - 1
    for number, slept_s in enumerate(trial.slept):
        plain_s = 0.5 * 2**number
        assert min(plain_s, 20) <= slept_s <= min(plain_s, 20) + 2
    if attempts > 3:
        assert len(set(trial.slept[:5])) > 1


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (ConnectionResetError(), True),
        (StepError("x", failure_class=FailureClass.INFRA_LOST), True),
        (StepError("x", failure_class=FailureClass.TIMEOUT), True),
        (OSError(28, "no space"), True),
        (StepError("x", failure_class=FailureClass.PREEMPTED), True),
        (StepError("x"), False),
        (ValueError("x"), False),
        (MemoryError(), False),
        (StepError("x", failure_class=FailureClass.CANCELLED), False),
        (SystemExit(1), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_only_what_may_pass_is_tried_again(error: BaseException, again: bool) -> None:
    """By default infrastructure, timeouts, denied resources and preemption; never the user's own mistake."""
    trial = Trial(error)
    if again:
        assert trial.run(RetryPolicy(backoff_s=0)) == "done"
    else:
        with pytest.raises(type(error)):
            trial.run(RetryPolicy(backoff_s=0))
        assert trial.numbers == [1]


def test_a_policy_says_its_own_classes() -> None:
    """What is not in `on` is not tried again, what is in it is."""
    policy = RetryPolicy(on=[FailureClass.USER_ERROR], backoff_s=0)
    assert Trial(ValueError("x")).run(policy) == "done"
    with pytest.raises(ConnectionError):
        Trial(lost()).run(policy)


def test_whoever_runs_it_can_refuse() -> None:
    """A run that is being stopped tries nothing again."""
    trial = Trial(lost())
    with pytest.raises(ConnectionError):
        trial.run(RetryPolicy(backoff_s=0), may_retry=lambda error: False)
    assert (trial.numbers, trial.told) == ([1], [])


def test_an_interrupted_pause_goes_on_at_once() -> None:
    """A pause that returns early is followed by the next try, which is for the caller to refuse."""
    trial = Trial(lost())
    assert trial.run(RetryPolicy(backoff_s=3600, max_backoff_s=3600)) == "done"
    assert trial.slept[0] >= 3600


def test_the_library_is_loaded_on_use_only() -> None:
    """A run without retries never pays for tenacity."""
    code = (
        "import sys; from osiris_core.retry import run_with_retry; n = lambda *_: True\n"
        "run_with_retry(n, None, may_retry=n, on_retry=n, sleep=n); assert 'tenacity' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
