"""A failure as it is written down: masked, bounded, the user's frames only, whatever the exception is like."""

from __future__ import annotations

import json
from typing import Any

import pytest

from osiris_core.errors import ExecutionError, FailureClass, StepError, classify
from osiris_core.failure import MAX_MESSAGE_CHARS, MAX_TRACEBACK_CHARS, describe_failure
from osiris_core.manifest import RetryPolicy
from osiris_core.redaction import Redactor
from osiris_core.retry import run_with_retry

SECRET = "hunter2-hunter2"
REDACTOR = Redactor([SECRET])


def raised(action: Any) -> BaseException:
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        action()
    return caught.value


def described(error: BaseException, failure_class: FailureClass | None = None) -> dict[str, Any]:
    found = describe_failure(error, REDACTOR, failure_class)
    text = json.dumps(found, allow_nan=False)
    assert SECRET not in text
    assert list(found) == ["type", "message", "failure_class", "traceback", "details"]
    assert len(found["message"]) <= MAX_MESSAGE_CHARS + 100
    assert len(found["traceback"]) <= MAX_TRACEBACK_CHARS + 100
    return found


def test_an_ordinary_error() -> None:
    """Type, message, class and the line where it happened."""
    found = described(raised(lambda: int("x")))
    assert (found["type"], found["failure_class"], found["details"]) == ("ValueError", "user_error", {})
    assert found["message"] == "invalid literal for int() with base 10: 'x'"
    assert "test_failure.py" in found["traceback"]
    assert "int(" in found["traceback"]


def test_the_class_is_the_errors_own_or_what_one_says() -> None:
    """An error that knows its class keeps it; evidence from outside wins."""
    assert described(MemoryError())["failure_class"] == "out_of_memory"
    assert described(StepError("x", failure_class=FailureClass.PREEMPTED))["failure_class"] == "preempted"
    assert described(ValueError("x"), FailureClass.TIMEOUT)["failure_class"] == "timeout"


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError(SECRET)

    __repr__ = __str__


class Empty(Exception):
    pass


def test_errors_without_a_text() -> None:
    """One whose text cannot be had, or is empty, is still reported by its type."""
    assert "Unprintable" in described(raised(lambda: (_ for _ in ()).throw(Unprintable())))["message"]
    assert described(Empty())["message"] == "Empty"


def test_secrets_in_every_part() -> None:
    """Message, notes, causes, contexts, groups and details: masked everywhere."""

    def fail() -> None:
        try:
            raise KeyError(SECRET)
        except KeyError as exc:
            error = ExecutionError(
                f"bad {SECRET}", details={"sql": SECRET, "n": [float(1), {SECRET: exc}], "password": 1}
            )
            error.add_note(f"note {SECRET}")
            raise error from ExceptionGroup(SECRET, [ValueError(SECRET), OSError(5, SECRET)])

    found = described(raised(fail))
    assert found["message"] == "bad ***"
    assert "note ***" in found["traceback"]
    assert "ExceptionGroup" in found["traceback"]
    assert "OSError" in found["traceback"]
    assert found["details"]["password"] == "***"


def test_what_contains_itself_ends() -> None:
    """Circular causes and circular details are written down finite."""
    first, second = ValueError("one"), ValueError("two")
    first.__cause__, second.__cause__ = second, first
    assert "two" in described(first)["traceback"]
    details: dict[str, Any] = {}
    details["self"] = details
    described(ExecutionError("x", details=details))


@pytest.mark.parametrize("size", [10_000, 50_000_000])
def test_huge_messages_are_cut_in_the_middle(size: int) -> None:
    """Begin and end of a long message stay, and say how much is missing; no secret stays at the cut."""
    found = described(ValueError("begin " + "x" * size + SECRET * 3 + " end"))
    assert found["message"].startswith("begin x")
    assert found["message"].endswith("end")
    assert "characters left out" in found["message"]


def test_a_secret_at_the_place_of_the_cut() -> None:
    """Wherever a long message is cut, no half of a secret is left over."""
    for at in range(MAX_MESSAGE_CHARS // 2 - len(SECRET) - 2, MAX_MESSAGE_CHARS // 2 + 2):
        message = described(ValueError("x" * at + SECRET + "y" * 20_000))["message"]
        assert "hunter" not in message


def test_endless_recursion() -> None:
    """A recursion that hit the limit is short, and shows where it turns."""

    def turn(n: int) -> int:
        return turn(n + 1)

    found = described(raised(lambda: turn(0)))
    assert found["type"] == "RecursionError"
    assert "turn(n + 1)" in found["traceback"]


def test_the_engines_frames_are_left_out_and_the_users_stay() -> None:
    """Also behind retries, a traceback begins where the user's own code does."""

    def users_own(number: int) -> None:
        raise ConnectionError("lost")

    policy = RetryPolicy(attempts=2, backoff_s=0)
    nothing: Any = lambda *_: True  # noqa: E731
    error = raised(lambda: run_with_retry(users_own, policy, may_retry=nothing, on_retry=nothing, sleep=nothing))
    while error.__traceback__ and error.__traceback__.tb_frame.f_code.co_filename == __file__:
        error.__traceback__ = error.__traceback__.tb_next
    text = described(error)["traceback"]
    assert "users_own" in text
    assert "tenacity" not in text
    assert "retry.py" not in text


def test_an_error_of_our_own_still_says_where() -> None:
    """When every frame is the engine's, the last one stays."""
    error = raised(lambda: run_with_retry(None, None, may_retry=None, on_retry=None, sleep=None))  # type: ignore[arg-type]
    error.__traceback__ = error.__traceback__.tb_next.tb_next  # type: ignore[union-attr]
    assert "retry.py" in described(error)["traceback"]


def test_bytes_that_are_no_text() -> None:
    """A message with bytes that are not UTF-8 can be written down."""
    assert json.dumps(described(OSError(2, "no", b"\xff".decode("utf-8", "surrogateescape")))).isascii()


def test_a_peer_that_does_not_answer_is_lost_infrastructure():
    """A socket's timeout is worth another try by default, like a broken connection."""
    assert classify(TimeoutError("timed out")) is FailureClass.INFRA_LOST
    assert classify(OSError(113, "No route to host")) is FailureClass.INFRA_LOST
