"""What was seen of the runs of one or several checks, and the search for what none of them may leave."""

from __future__ import annotations

import base64
import os
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

from osiris_core.testing.parity_compare import Normaliser, journal_faults
from osiris_core.testing.parity_outcome import Outcome, processes_with

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from osiris_core.adapter import ExecutionAdapter
    from osiris_core.report import RunReport

GONE_LIMIT_S = 1.0
"""How long a process that was ended may take to vanish from the table, on a machine that is busy."""


class Evidence:
    """
    What one `run` took down. Everything that it writes lies below `folder`.

    Attributes:
        outcomes: Runs, by a name.
        reference: The run on `local` that the outcome `it` is compared with.
        facts: What else was seen, by a name.
        secrets: Values that may be found nowhere.
        markers: Words that only the command lines of its own processes have.
        streams: What this process printed meanwhile.
        remains: What of its runs is still in the adapter's place; told by the adapter, or its author.
        alive: Pids of processes of its runs that are alive, though nothing runs any more.
        error: What `run` raised, as a traceback.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.outcomes: dict[str, Outcome] = {}
        self.reference: Outcome | None = None
        self.facts: dict[str, Any] = {}
        self.secrets: list[str] = []
        self.markers: list[str] = []
        self.streams = b""
        self.remains: list[str] = []
        self.alive: list[int] = []
        self.error: str | None = None

    def outcome(self, name: str, adapter: ExecutionAdapter, session_dir: Path, report: RunReport | None) -> Outcome:
        """Take a run down."""
        normaliser = Normaliser({"<session>": session_dir})
        runs_here = getattr(adapter, "runs_here", False)
        found = self.outcomes[name] = Outcome(adapter.name, session_dir, session_dir, normaliser, runs_here)
        found.take_down(report)
        return found

    @property
    def it(self) -> Outcome:
        """The only run, or the one that matters."""
        return self.outcomes["it"]

    def left(self) -> Iterator[str]:
        """What is still there of runs that are over."""
        yield from self.remains
        if self.alive:
            yield f"processes that it started are alive: {self.alive}"

    def look_for_processes(self) -> None:
        """Fill `alive`, and end what was found: the next check is not to pay for this one."""
        words = [*self.markers, str(self.folder)]
        deadline_s = time.monotonic() + GONE_LIMIT_S
        while found := sorted({pid for text in words for pid in processes_with(text)} - {os.getpid()}):
            if time.monotonic() > deadline_s:
                break
            time.sleep(0.05)
        self.alive = found
        for pid in found:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)

    def leaks(self) -> Iterator[str]:
        """Where one of its secrets can be read."""
        places = {"a stream": self.streams}
        for name, outcome in self.outcomes.items():
            places[f"the error of execute ({name})"] = repr(outcome.raised).encode()
        places.update({str(path): path.read_bytes() for path in self.folder.rglob("*") if path.is_file()})
        yield from found_in(places, self.secrets)


def found_in(places: dict[str, bytes], secrets: Iterable[str]) -> Iterator[str]:
    """In which of these a secret can be read, in clear, base64, URL or hex form."""
    forms = {form for secret in secrets for form in _forms(secret)}
    for place, content in places.items():
        yield from (f"a secret, as {form!r}, is in {place}" for form in sorted(forms) if form in content)


def _forms(secret: str) -> Iterator[bytes]:
    raw = secret.encode()
    yield raw
    yield raw.hex().encode()
    for quoted in (quote(secret), quote(secret, safe=""), quote_plus(secret)):
        yield quoted.encode()
    for shift in range(3):  # wherever it stands in what was encoded; the ends depend on what is beside it
        yield base64.b64encode(b"\0" * shift + raw)[4:-4]


def ended(outcome: Outcome, status: str) -> Iterator[str]:
    """What is wrong with how a run ended, whatever it was: its status, its journal, its report on disk."""
    if outcome.status != status:
        yield f"it ended {outcome.status}, not {status}: {outcome.problems or outcome.report.get('error')}"
        return
    if outcome.report and outcome.status_file != outcome.report:
        yield "status.json is not the report"
    # An attempt whose engine was in a controller that was killed has no end.
    whole = [
        event
        for event in outcome.events
        if not outcome.report.get("attached") or event["attempt"] == outcome.report["attempt"]
    ]
    if whole:
        yield from journal_faults(whole)
