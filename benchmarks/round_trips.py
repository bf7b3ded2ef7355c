"""Times something small many times over."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def times_ms(trip: Callable[[], Any], count: int) -> list[float]:
    found = []
    for _ in range(count):
        started_s = perf_counter()
        trip()
        found.append((perf_counter() - started_s) * 1000)
    return found
