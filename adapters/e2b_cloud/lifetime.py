"""How long a sandbox has to live: enough for the run, extended while it lasts, checked against what was granted."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Any

from adapters.e2b_cloud.errors import SandboxGone
from remote.sandbox import SandboxError

if TYPE_CHECKING:
    from collections.abc import Callable

    from adapters.e2b_cloud.config import E2BConfig
    from adapters.e2b_cloud.line import Line

LEASE_S = 3600
"""What is asked for at a time where a run has no limit: every plan allows it."""
AROUND_S = 300
"""What getting there, bringing home and a slow end may take beside the run's own time."""
LEAST_AROUND_S = 60
"""And what they have to have."""
TOLERANCE_S = 30
"""Between two clocks."""


@dataclass(frozen=True)
class Lifetime:
    """What a run needs. `timeout_s` is the run's own limit, None for none."""

    timeout_s: float | None
    max_s: int

    @classmethod
    def of(cls, config: E2BConfig, timeout_s: float | None) -> Lifetime:
        return cls(timeout_s, config.max_lifetime_s)

    @property
    def shortfall(self) -> str | None:
        """Why no sandbox can live long enough, or None."""
        if self.timeout_s is None or self.timeout_s + LEAST_AROUND_S <= self.max_s:
            return None
        return (
            f"a run of {self.timeout_s:g} s needs a sandbox that lives {self.timeout_s + LEAST_AROUND_S:g} s, and the "
            f"plan's limit is {self.max_s} s"
        )

    @property
    def asked_s(self) -> int:
        """What to ask for when the sandbox is made, and at each extension."""
        if self.timeout_s is None:
            return min(LEASE_S, self.max_s)
        wanted_s = self.timeout_s + AROUND_S
        # A run that fits into what every plan allows is not to be refused for its margin.
        limit_s = LEASE_S if self.timeout_s + LEAST_AROUND_S <= LEASE_S else self.max_s
        return int(min(wanted_s, limit_s, self.max_s))

    @property
    def left_s(self) -> int:
        """What to ask for when the sandbox is left to whoever comes later."""
        return min(LEASE_S, self.max_s)

    def needed_s(self, ran_s: float) -> float:
        """How long the sandbox of a run that has run for so long has to live yet."""
        if self.timeout_s is None:
            return self.asked_s
        return max(self.timeout_s - ran_s, 0.0) + LEAST_AROUND_S

    def granted_too_little(self, left_s: float) -> bool:
        """Whether a sandbox that has so long to live cannot hold the run."""
        wanted_s = self.asked_s if self.timeout_s is None else self.timeout_s
        return left_s + TOLERANCE_S < wanted_s


def seconds_left(end_at: datetime) -> float:
    return (end_at - datetime.now(UTC)).total_seconds()


async def keep_alive(
    line: Line, sandbox: Any, lifetime: Lifetime, say: Callable[[str], None], ran_s: Callable[[], float]
) -> None:
    """
    Extend the sandbox's life each time half of it is over and the rest may not do for the run, until this is cancelled,
    the sandbox is gone, or no more is granted.

    What was granted is read back: a server shortens without a word what a plan does not allow. That is said.

    Args:
        ran_s: How long the run, as opposed to its sandbox, has been running.
    """
    pause_s = lifetime.asked_s / 2
    end_s = monotonic() + lifetime.asked_s
    while True:
        await asyncio.sleep(pause_s)
        if lifetime.timeout_s is not None and end_s - monotonic() >= lifetime.needed_s(ran_s()):
            pause_s = lifetime.asked_s / 2
            continue
        try:
            with line.account.errors("the sandbox's life cannot be extended"):
                line.count("timeout")
                await sandbox.set_timeout(lifetime.asked_s)
                line.count("info")
                left_s = seconds_left((await sandbox.get_info()).end_at)
        except SandboxGone:
            return
        except SandboxError as exc:
            say(f"{exc}; it is tried again")
            pause_s = min(30.0, lifetime.asked_s / 8)
            continue
        end_s = monotonic() + left_s
        if left_s + TOLERANCE_S < lifetime.needed_s(ran_s()):
            say(f"the sandbox will live for {left_s:.0f} s more and no longer: that is the limit of the account's plan")
            return
        pause_s = lifetime.asked_s / 2
