"""What steps of a run leave to each other: taken once, closed at the end, never too many."""

from __future__ import annotations

from osiris_core.run_pool import RunPool


def test_what_was_put_is_taken_once_and_by_its_kind() -> None:
    pool, closed = RunPool(), []
    pool.put("a", "one", lambda: closed.append("one"))
    assert pool.take("b") is None
    assert pool.take("a") == "one"
    assert pool.take("a") is None
    pool.close()
    assert closed == []


def test_the_end_closes_what_is_held_and_what_comes_later() -> None:
    """Also when one of them cannot be closed."""
    pool, closed = RunPool(), []
    pool.put("a", "one", lambda: 1 / 0)
    pool.put("a", "two", lambda: closed.append("two"))
    pool.close()
    pool.close()
    pool.put("a", "three", lambda: closed.append("three"))
    assert closed == ["two", "three"]
    assert pool.take("a") is None


def test_no_more_are_held_than_a_server_should_bear() -> None:
    pool, closed = RunPool(), []
    for number in range(RunPool.MAX_IDLE + 2):
        pool.put("a", number, lambda number=number: closed.append(number))
    assert closed == [RunPool.MAX_IDLE, RunPool.MAX_IDLE + 1]
