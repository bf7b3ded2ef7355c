"""One run of the E2B adapter against the local server, in a thread if something is to happen meanwhile."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from osiris_core import AdapterFactory, ExecutionContext
from osiris_core.journal import read_events
from tests.worker_process import DRIVERS, alive, files_with, step, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2b_server import E2BServer

SECRET = "correct-horse-battery"


class E2BRun:
    """
    A run with the drivers of `data/worker_drivers.py`.

    Attributes:
        report: Once it has ended.
        session: Its session directory.
    """

    def __init__(self, server: E2BServer, folder: Path, *steps: dict[str, Any], **settings: Any) -> None:
        self.server = server
        self.session = folder / "session"
        timeout = settings.pop("run_timeout", None)
        self.adapter = AdapterFactory.create("e2b", **{**options(server), "code": [str(DRIVERS)], **settings})
        self.context = ExecutionContext(
            session_dir=str(self.session), environment={"TOKEN": SECRET}, **({"timeout": timeout} if timeout else {})
        )
        self._manifest = {"pipeline": "p", "steps": list(steps)}
        self._thread = threading.Thread(target=self._run, name="e2b-run")
        self._raised: BaseException | None = None
        self._report: Any = None

    def _run(self) -> None:
        try:
            with self.adapter:
                self._report = self.adapter.run(self._manifest, self.context)
        except BaseException as exc:  # noqa: BLE001 - it is raised again in the test's thread
            self._raised = exc

    def finish(self, bound_s: float = 50) -> Any:
        """Its report, or what `run` raised."""
        if not self._thread.ident:
            self._run()
        else:
            self._thread.join(bound_s)
            assert not self._thread.is_alive(), "the run does not end"
        if self._raised is not None:
            raise self._raised
        return self._report

    @contextmanager
    def under_way(self, event: str = "step.start") -> Iterator[None]:
        """Between the first such event and the end of the run, which is waited for."""
        self._thread.start()
        try:
            wait_for(lambda: event in self.names() or not self._thread.is_alive())
            yield
        finally:
            self.finish()

    def events(self, origin: str = "engine") -> list[dict[str, Any]]:
        file = self.session / "events.jsonl"
        return [event for event in read_events(file) if event["origin"] == origin] if file.exists() else []

    def names(self) -> list[str]:
        return [event["event"] for event in self.events()]

    def numbers(self) -> list[int]:
        return [event["value"] for event in self.events() if event.get("name") == "number"]

    def completed(self) -> Any:
        """The report of a run that completed, with every event once and in order."""
        report = self.finish()
        assert report["status"] == "completed", report["error"]
        assert [event["seq"] for event in self.events()] == list(range(1, len(self.events()) + 1))
        self.is_clean()
        return report

    def failed(self, failure_class: str, *words: str) -> Any:
        """The error of a run that failed so, with these words in its message."""
        report = self.finish()
        assert report["status"] != "completed"
        error = report["error"]
        assert error["failure_class"] == failure_class, error
        for word in words:
            assert word in error["message"], error["message"]
        self.is_clean()
        return error

    def is_clean(self) -> None:
        """No sandbox is left, no process of one, and the secret is nowhere."""
        for sandbox in self.server.sandboxes.values():
            assert sandbox.state == "gone"
            assert sandbox.living() == []
            assert [pid for pid in sandbox.processes if alive(pid)] == []
        assert self.server.places_of(SECRET) == []
        assert self.server.places_of(self.server.api_key) == []
        assert files_with(self.session, SECRET) == []
        assert files_with(self.session, self.server.api_key) == []


def options(server: E2BServer) -> dict[str, Any]:
    """The settings that lead to the server."""
    return {
        "api_key": server.api_key,
        "api_url": server.api_url,
        "sandbox_url": server.sandbox_url,
        "template": "osiris-ready",
    }


def ticks(count: int = 60, seconds: float = 1.2, **more: Any) -> dict[str, Any]:
    """A step that emits numbered events, evenly over some seconds."""
    return step("Tick", config={"count": count, "seconds": seconds, **more})


def said(run: E2BRun) -> str:
    """What was said here, for people."""
    return "\n".join(event["message"] for event in run.events("host") if event["event"] == "log")


def run_requests(server: E2BServer) -> list[str]:
    """Without the look at what was granted and the extension of the sandbox's life."""
    return [kind for kind in server.seen.kinds() if kind not in ("info", "timeout")]
