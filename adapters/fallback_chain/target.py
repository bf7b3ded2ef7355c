"""One target of a chain: its adapter, and the circuit breaker that passes it over for a while."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from purgatory import SyncCircuitBreakerFactory
from purgatory.domain.model import OPENED, OpenedState

from adapters.fallback_chain.rules import OF_THE_TARGET
from osiris_core.errors import AdapterNotInstalled, ExecutionError, OsirisError
from osiris_core.factory import AdapterFactory

if TYPE_CHECKING:
    from osiris_core.adapter import ExecutionAdapter
    from osiris_core.context import ExecutionContext
    from osiris_core.prepared import PreparedRun

_BREAKERS = SyncCircuitBreakerFactory()
_LOCK = threading.Lock()
"""The library's breakers are not made for threads. Entering and leaving one takes no time; the run is in between."""


class TargetOpen(OsirisError):
    """The target is passed over: it failed too often, a moment ago."""


@dataclass(frozen=True)
class Target:
    """
    `label` is for people. `missing` says what has to be installed; there is no `adapter` then.

    Targets with the same settings share one breaker, in all chains of this process.
    """

    name: str
    label: str
    missing: str | None
    breaker: Any
    _adapter: ExecutionAdapter | None

    @classmethod
    def make(cls, settings: dict[str, Any], label: str, failures: int, pause_s: float) -> Target:
        """
        Raises:
            UnknownAdapter: Nothing has the name in `type`.
            ConfigError: The settings do not fit, each with its key.
        """
        name = str(settings["type"])
        circuit = json.dumps([settings, failures, pause_s], sort_keys=True, default=str)
        with _LOCK:
            breaker = _BREAKERS.get_breaker(
                circuit, threshold=failures, ttl=pause_s, exclude=[(BaseException, lambda exc: not _counts(exc))]
            )
        try:
            made = AdapterFactory.create(name, **{key: value for key, value in settings.items() if key != "type"})
        except AdapterNotInstalled as exc:
            return cls(name, label, str(exc), breaker, None)
        return cls(name, label, None, breaker, made)

    @property
    def adapter(self) -> ExecutionAdapter:
        assert self._adapter is not None
        return self._adapter

    def unusable(self) -> str | None:
        """Why it cannot be had now, as far as that can be told without running anything; None when it can."""
        if self.missing is not None:
            return self.missing
        return self._open() or self.adapter.unusable()

    def execute(self, prepared: PreparedRun, context: ExecutionContext) -> None:
        """
        Its adapter's `execute`, counted by the breaker.

        Raises:
            TargetOpen: The breaker opened meanwhile; nothing was touched.
        """
        try:
            with _LOCK:
                self.breaker.__enter__()
        except OpenedState:
            raise TargetOpen(self._open() or "it failed too often") from None
        try:
            self.adapter.execute(prepared, context)
        except BaseException as exc:
            with _LOCK:
                self.breaker.__exit__(type(exc), exc, exc.__traceback__)
            raise
        with _LOCK:
            self.breaker.__exit__(None, None, None)

    def _open(self) -> str | None:
        circuit = self.breaker.context
        if circuit.state != OPENED:
            return None
        left_s = circuit.opened_at + circuit.ttl - time.time()
        if left_s < 0:  # it may be tried
            return None
        return f"its infrastructure failed {circuit.threshold} times in a row; it is tried again in {left_s:.0f} s"


def _counts(error: BaseException) -> bool:
    return isinstance(error, ExecutionError) and error.failure_class in OF_THE_TARGET
