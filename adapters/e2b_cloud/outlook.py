"""The one look at a sandbox that was made: whether it is what was asked for, and how long it will live."""

from __future__ import annotations

from concurrent import futures
from typing import TYPE_CHECKING, Any

from adapters.e2b_cloud.errors import SandboxGone
from adapters.e2b_cloud.lifetime import seconds_left
from osiris_core.errors import FailureClass
from remote.sandbox import SandboxError

if TYPE_CHECKING:
    from collections.abc import Callable

    from adapters.e2b_cloud.creation import Wanted
    from adapters.e2b_cloud.line import Line

GOOD_ENVD = (0, 6, 12)
"""Before it the end of a process is forgotten at once, and a stream may fall silent after a pause."""
WAIT_S = 10.0


class Outlook:
    """Asked for when it is made, while other things go on; `require` waits for the answer."""

    def __init__(
        self,
        line: Line,
        sandbox: Any,
        wanted: Wanted,
        facts: dict[str, Any],
    ) -> None:
        self._line = line
        self._wanted = wanted
        self._facts = facts
        line.count("info")
        self._answer = line.loop.begin(sandbox.get_info())

    def require(self, say: Callable[[str, str], None]) -> None:
        """
        See that the sandbox can hold the run; what is worth knowing is said.

        Raises:
            RunCancelled: The run was cancelled meanwhile.
            SandboxError: It lives too shortly, or has not the processors or the memory that were asked for.
        """
        what = "the sandbox cannot be looked at"
        try:
            with self._line.account.errors(what):
                info = self._line.loop.wait(self._answer, self._line.heed(what, WAIT_S))
        except SandboxGone:
            raise
        except (SandboxError, futures.CancelledError) as exc:
            if self._wanted.cpu is not None or self._wanted.memory_mb is not None:
                raise
            say(f"{exc}; how long it lives is not known", "warning")
            return
        left_s = seconds_left(info.end_at)
        self._facts.update(
            template_id=info.template_id,
            envd_version=str(info.envd_version),
            cpu_count=info.cpu_count,
            memory_mb=info.memory_mb,
            lifetime_s=round(left_s),
        )
        self._require_size(info)
        if self._wanted.lifetime.granted_too_little(left_s):
            message = (
                f"the sandbox may live for {left_s:.0f} s only, and the run may take "
                f"{self._wanted.lifetime.timeout_s or self._wanted.lifetime.asked_s:g} s: that is the limit of the "
                "account's plan (lower timeout, and set max_lifetime_s to the plan's limit)"
            )
            if self._wanted.lifetime.timeout_s is not None:
                raise SandboxError(message, failure_class=FailureClass.RESOURCE_DENIED)
            say(message, "warning")
        if _numbers(str(info.envd_version)) < GOOD_ENVD:
            say(
                f"the template's envd is {info.envd_version}, {'.'.join(map(str, GOOD_ENVD))} or later is better: "
                "build the template anew",
                "warning",
            )

    def _require_size(self, info: Any) -> None:
        for name, has in (("cpu", info.cpu_count), ("memory_mb", info.memory_mb)):
            asked = getattr(self._wanted, name)
            if asked is not None and asked != has:
                message = (
                    f"the sandbox's {name} is {has}, not {asked}: its template decides that (leave template out and "
                    f"run osiris adapters setup e2b, which builds one with {name}: {asked}, or leave {name} out)"
                )
                raise SandboxError(message, failure_class=FailureClass.RESOURCE_DENIED)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else 0 for part in version.split(".")[:3])
