"""The token of an attempt: hooks run once and hinder nobody, and behind the fence nothing is published."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from osiris_core.cancellation import CancelToken
from osiris_core.errors import FailureClass, StepFenced

WAIT_S = 20


def test_the_first_reason_counts() -> None:
    """Cancelling again changes nothing."""
    token = CancelToken()
    assert not token.cancelled
    token.cancel(FailureClass.TIMEOUT)
    token.cancel(FailureClass.CANCELLED)
    assert token.cancelled
    assert token.reason is FailureClass.TIMEOUT


def test_each_hook_runs_once_whoever_cancels() -> None:
    """Many threads cancel at once: every hook runs exactly once."""
    token, called, done = CancelToken(), [], threading.Semaphore(0)

    def hook(number: int) -> None:
        called.append(number)
        done.release()

    for number in range(20):
        token.on_cancel(lambda number=number: hook(number))
    threads = [threading.Thread(target=token.cancel, args=(FailureClass.CANCELLED,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(done.acquire(timeout=WAIT_S) for _ in range(20))
    assert sorted(called) == list(range(20))


def test_a_hook_that_hangs_or_raises_stops_nobody() -> None:
    """`cancel` returns at once, and the other hooks run, whatever one of them does."""
    token, release, ran = CancelToken(), threading.Event(), threading.Event()

    def fail() -> None:
        raise ValueError("no")

    token.on_cancel(ran.set)
    token.on_cancel(fail)
    token.on_cancel(lambda: release.wait(WAIT_S))
    token.cancel(FailureClass.CANCELLED)
    assert ran.wait(WAIT_S)
    release.set()


def test_a_late_hook_runs_at_once_in_its_own_thread() -> None:
    """A hook that comes after the cancel is not lost; one that raises does not harm its caller."""
    token, where = CancelToken(), []
    token.cancel(FailureClass.CANCELLED)
    token.on_cancel(lambda: where.append(threading.current_thread()))
    token.on_cancel(lambda: 1 / 0)
    assert where == [threading.current_thread()]


def test_no_hook_is_lost_between_adding_and_cancelling() -> None:
    """Hooks added while another thread cancels run all the same."""
    for _ in range(50):
        token, done = CancelToken(), threading.Semaphore(0)
        canceller = threading.Thread(target=token.cancel, args=(FailureClass.CANCELLED,))
        canceller.start()
        for _ in range(20):
            token.on_cancel(done.release)
        canceller.join()
        assert all(done.acquire(timeout=WAIT_S) for _ in range(20))


def test_nothing_is_published_behind_the_fence() -> None:
    """A cancelled attempt may still publish, a fenced one raises and does nothing."""
    token, published = CancelToken(), []
    token.cancel(FailureClass.TIMEOUT)
    token.publish(lambda: published.append(1))
    token.fence()
    token.fence()
    with pytest.raises(StepFenced, match="nothing it still does is published"):
        token.publish(lambda: published.append(2))
    assert published == [1]


def test_the_fence_waits_for_a_publication_under_way() -> None:
    """When `fence` returns, what was being published is finished and nothing else will be."""
    token, inside, go_on = CancelToken(), threading.Event(), threading.Event()
    order: list[Any] = []

    def publish() -> None:
        inside.set()
        go_on.wait(WAIT_S)
        order.append("published")

    publisher = threading.Thread(target=token.publish, args=(publish,))
    publisher.start()
    assert inside.wait(WAIT_S)
    fencer = threading.Thread(target=lambda: (token.fence(), order.append("fenced")))
    fencer.start()
    fencer.join(0.1)
    assert order == []
    go_on.set()
    publisher.join(WAIT_S)
    fencer.join(WAIT_S)
    assert order == ["published", "fenced"]


def test_a_failed_publication_leaves_the_token_usable() -> None:
    """An error while publishing is raised, and the next publication works."""
    token, published = CancelToken(), []
    with pytest.raises(ZeroDivisionError):
        token.publish(lambda: 1 / 0)  # type: ignore[arg-type, return-value]
    token.publish(lambda: published.append(1))
    assert published == [1]
