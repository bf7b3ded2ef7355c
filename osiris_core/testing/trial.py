"""What the checks of the contract run, and how they wait for it: commands only, which every place can run."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from osiris_core.context import ExecutionContext
from osiris_core.journal import JOURNAL_NAME, read_events
from osiris_core.testing.parity_scenario import step

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from osiris_core.adapter import ExecutionAdapter
    from osiris_core.report import RunReport
    from osiris_core.testing.bench import Bench
    from osiris_core.testing.evidence import Evidence

SECRET = "c0nf0rm&nce/Žluťák+x"  # noqa: S105 - it is looked for in what a run leaves
SECRET_NAME = "CONFORMANCE_SECRET"  # noqa: S105 - a name
READY_LIMIT_S = 60.0
MAX_PRINTED_CHARS = 4000
DETACHED = (
    "python3 -c 'import os; os.fork() and os._exit(0); os.setsid(); os.fork() and os._exit(0);"
    ' os.execvp("sleep", ["sleep", "{0}"])\' 2>/dev/null; setsid sleep {0} & (sleep {0} &) ; echo ready; exec sleep {0}'
)
"""Sleeps, and so do its children: one that left its session, one that lost its parent, one that did both."""
_numbers = itertools.count()


def context(evidence: Evidence, name: str = "session", **settings: Any) -> ExecutionContext:
    """The surroundings of a run in a session directory of its own."""
    return ExecutionContext(session_dir=str(evidence.folder / name), **{"checkpoint": "never", **settings})


def shell(step_id: str, line: str, needs: tuple[str, ...] = (), **config: Any) -> dict[str, Any]:
    """A step that is a line for /bin/sh."""
    return step(step_id, "command", {"shell": line, **config}, needs=list(needs))


def manifest(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"pipeline": "conformance", "steps": list(steps)}


def new_marker(evidence: Evidence) -> str:
    """Seconds that nobody else sleeps, by which the processes of these runs are known."""
    evidence.markers.append(str(40_000_000_000 + 1000 * os.getpid() + next(_numbers)))
    return evidence.markers[-1]


def said(session_dir: Path, step_id: str, word: str = "ready") -> bool:
    """Whether a step has printed a line."""
    journal = session_dir / JOURNAL_NAME
    events = read_events(journal) if journal.exists() else ()
    return any(
        event["event"] == "log" and event.get("step_id") == step_id and event["message"] == word for event in events
    )


def wait_until(condition: Callable[[], bool], what: str, limit_s: float = READY_LIMIT_S) -> None:
    """
    Raises:
        TimeoutError: It does not come true.
    """
    deadline_s = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"after {limit_s:g} s, {what}")
        time.sleep(0.02)


def is_over(session_dir: Path) -> bool:
    """Whether the journal of a run has its end."""
    journal = session_dir / JOURNAL_NAME
    events = read_events(journal) if journal.exists() else ()
    return any(event["event"] in ("run.complete", "run.error") for event in events)


def wait_for_ready(session_dir: Path, step_id: str, over: Callable[[], bool] = lambda: False) -> None:
    """
    A step of a run that goes on has said that it runs.

    Raises:
        TimeoutError: It does not, or the run was over before.
    """
    what = f"step '{step_id}' of {session_dir.name} has not said that it runs"
    wait_until(lambda: said(session_dir, step_id) or is_over(session_dir) or over(), what)
    if over() or not said(session_dir, step_id):
        raise TimeoutError(f"the run was over, and {what}")


class Background:
    """A run in a thread of its own: `report` or `error` once it was joined."""

    def __init__(self, adapter: ExecutionAdapter, what: Mapping[str, Any], there: ExecutionContext) -> None:
        self.report: RunReport | None = None
        self.error: BaseException | None = None
        self._work = (adapter, what, there)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        adapter, what, there = self._work
        try:
            self.report = adapter.run(what, there)
        except BaseException as exc:  # noqa: BLE001 - told by whoever joins it
            self.error = exc

    def join(self, limit_s: float = READY_LIMIT_S) -> Background:
        self._thread.join(limit_s)
        if self._thread.is_alive():
            raise TimeoutError(f"the run of {self._work[2].session_id} is not over after {limit_s:g} s")
        if self.error is not None:
            raise self.error
        return self


class Controller:
    """A process of its own that runs something on the adapter under test."""

    def __init__(
        self,
        bench: Bench,
        session_dir: Path,
        what: Mapping[str, Any],
        hears_signals: bool = False,
        variables: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> None:
        self.session_dir = session_dir
        told: dict[str, Any] = {"hears_signals": hears_signals, "manifest": what}
        told["context"] = {"session_dir": str(session_dir), "checkpoint": "always", **settings}
        path = os.pathsep.join(filter(None, sys.path))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "osiris_core.testing.controller"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONPATH": path, **(variables or {})},
            start_new_session=True,
        )
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({**bench.recipe(), **told}))
        self.process.stdin.close()
        self.process.stdin = None
        bench.controllers.append(self)

    def wait_for_ready(self, step_id: str) -> None:
        """
        Its run has come to this step.

        Raises:
            TimeoutError: It has not; with what this process printed, if it has ended.
        """
        try:
            wait_for_ready(self.session_dir, step_id, over=lambda: self.process.poll() is not None)
        except TimeoutError as exc:
            if self.process.poll() is None or self.process.stdout is None:
                raise
            printed = self.process.stdout.read().strip()[-MAX_PRINTED_CHARS:]
            raise TimeoutError(f"{exc}; its controller ended with {self.process.returncode}: {printed}") from None

    def kill(self) -> None:
        """As `kill -9` does; may be called twice."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def interrupt(self) -> None:
        """What Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)

    def end(self, limit_s: float = READY_LIMIT_S) -> dict[str, Any]:
        """What it printed last, once it ended, as far as that is what it says when it ends as it should."""
        text, _ = self.process.communicate(timeout=limit_s)
        try:
            told: dict[str, Any] = json.loads(text.strip().splitlines()[-1])
        except (ValueError, IndexError):
            return {"raised": "it ended by itself", "printed": text, "exit_code": self.process.returncode}
        return told
