"""What goes wrong on the way, on request: rules that a connection asks about before and while it answers."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal[
    "answer",
    "delay",
    "refuse",
    "lose_answer",
    "hang",
    "hang_answer",
    "cut",
    "stall",
    "drop_end",
    "end_early",
    "cut_upload",
    "truncate",
]


@dataclass
class Fault:
    """One rule. `hits` counts the requests that met it."""

    kind: Kind
    pattern: re.Pattern[str]
    times: int | None = 1
    seconds: float = 0.0
    at_byte: int = 0
    after_events: int = 0
    status: int = 0
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    code: str = ""
    message: str = ""
    hits: int = 0


class Faults:
    """The rules in force. Of those that match a request the first one of each kind is taken, and used up by it."""

    def __init__(self) -> None:
        self._rules: list[Fault] = []
        self._lock = threading.Lock()

    def answer(
        self,
        pattern: str,
        status: int,
        body: Any = None,
        headers: dict[str, str] | None = None,
        times: int | None = 1,
    ) -> Fault:
        """Answered like this, and not carried out."""
        return self._add(Fault("answer", re.compile(pattern), times, status=status, body=body, headers=headers or {}))

    def delay(self, pattern: str, seconds: float, times: int | None = 1) -> Fault:
        """Carried out late."""
        return self._add(Fault("delay", re.compile(pattern), times, seconds=seconds))

    def refuse(self, pattern: str, times: int | None = 1) -> Fault:
        """Read, not carried out, and the connection reset."""
        return self._add(Fault("refuse", re.compile(pattern), times))

    def lose_answer(self, pattern: str, times: int | None = 1) -> Fault:
        """Carried out, and the connection reset instead of an answer."""
        return self._add(Fault("lose_answer", re.compile(pattern), times))

    def hang(self, pattern: str, times: int | None = 1) -> Fault:
        """Read, not carried out, never answered; the connection stays."""
        return self._add(Fault("hang", re.compile(pattern), times))

    def hang_answer(self, pattern: str, times: int | None = 1) -> Fault:
        """Carried out, never answered; the connection stays."""
        return self._add(Fault("hang_answer", re.compile(pattern), times))

    def cut(self, pattern: str, at_byte: int, times: int | None = 1) -> Fault:
        """The connection is reset after so many bytes of the answer's body."""
        return self._add(Fault("cut", re.compile(pattern), times, at_byte=at_byte))

    def stall(self, pattern: str, at_byte: int, times: int | None = 1) -> Fault:
        """Nothing comes any more after so many bytes of the answer's body; the connection stays."""
        return self._add(Fault("stall", re.compile(pattern), times, at_byte=at_byte))

    def truncate(self, pattern: str, at_byte: int, times: int | None = 1) -> Fault:
        """An answer without a known length ends after so many bytes of its body, as if that were all."""
        return self._add(Fault("truncate", re.compile(pattern), times, at_byte=at_byte))

    def drop_end(self, pattern: str, times: int | None = 1) -> Fault:
        """A stream ends cleanly, without its `end` event and its end envelope."""
        return self._add(Fault("drop_end", re.compile(pattern), times))

    def end_early(
        self,
        pattern: str,
        after_events: int,
        code: str = "unavailable",
        message: str = "the connection to sandbox ended before the stream completed",
        times: int | None = 1,
    ) -> Fault:
        """A stream ends with this error after so many events."""
        rule = Fault("end_early", re.compile(pattern), times, after_events=after_events, code=code, message=message)
        return self._add(rule)

    def cut_upload(self, pattern: str, at_byte: int, times: int | None = 1) -> Fault:
        """The connection is reset after so many bytes of the request's body; what came by then is there."""
        return self._add(Fault("cut_upload", re.compile(pattern), times, at_byte=at_byte))

    def clear(self) -> None:
        with self._lock:
            self._rules.clear()

    def _add(self, rule: Fault) -> Fault:
        with self._lock:
            self._rules.append(rule)
        return rule

    def of(self, request_line: str) -> dict[Kind, Fault]:
        """What this request, as "METHOD /path", meets; counts as a hit of each."""
        found: dict[Kind, Fault] = {}
        with self._lock:
            for rule in self._rules:
                used_up = rule.times is not None and rule.hits >= rule.times
                if rule.kind not in found and not used_up and rule.pattern.search(request_line):
                    rule.hits += 1
                    found[rule.kind] = rule
        return found
