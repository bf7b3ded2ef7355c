"""What a worker does when it is asked: the state of its one run, from `start` to the summary."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from typing import TYPE_CHECKING, Any

from osiris_core.rooms import load
from remote import folders
from remote.deadlines import Deadlines
from remote.journal_tail import JournalTail
from remote.protocol import HEARTBEAT_INTERVAL_S

if TYPE_CHECKING:
    from osiris_core.redaction import Redactor
    from remote.engine_process import EngineProcess
    from remote.methods import (
        CancelParams,
        GetSummaryParams,
        HeartbeatParams,
        ReplayParams,
        ShutdownParams,
        StartParams,
    )
    from remote.result_file import ResultFile

START_LIMIT_S = 120.0
"""How long a worker waits for `start`."""


class WorkerService:
    """
    The worker's methods (see `methods.Worker`), and what is to be looked after between requests.

    Attributes:
        leaving: The worker is to end.
    """

    def __init__(self, work_dir: str, engine: EngineProcess) -> None:
        self.leaving = False
        self._ended_by: str | None = None
        self._work_dir = work_dir
        self._engine = engine
        self._params: StartParams | None = None
        self._prepared: dict[str, Any] = {}
        self._redactor: Redactor | None = None
        self._tail: JournalTail | None = None
        self._deadlines: Deadlines | None = None
        self._killed_for: tuple[str, str] | None = None
        self._summary: dict[str, Any] | None = None
        self._result: ResultFile | None = None
        self._summary_told = False
        self._beat_at_s = 0.0
        self._leave_when_over = False
        self._cancelled = False
        self._oom_kills: int | None = None
        self._born_s = self._heard_s = self._started_s = self._over_s = time.monotonic()

    @property
    def running(self) -> bool:
        return self._params is not None and self._summary is None

    @property
    def busy(self) -> bool:
        """Whether something is under way that is to be looked at often."""
        return self.running or (self._result is not None and not self._result.is_over())

    def mask(self, text: str) -> str:
        return self._redactor.text(text) if self._redactor is not None else text

    # The methods.

    def start(self, params: StartParams) -> dict[str, Any]:
        protocol, methods = load("remote.protocol"), load("remote.methods")
        if self._params is not None:
            raise methods.Refused(protocol.ErrorCode.ALREADY_STARTED, "this worker has its run already")
        from osiris_core.cancellation import GRACE_S
        from osiris_core.journal import JOURNAL_NAME
        from osiris_core.memory_evidence import oom_kills
        from osiris_core.redaction import Redactor

        try:
            self._prepared = _read_checked(self._work_dir, params.package_sha256)
        except (OSError, ValueError, LookupError) as exc:
            raise methods.Refused(protocol.ErrorCode.PACKAGE_BROKEN, f"the package cannot be read: {exc}") from exc
        self._redactor = Redactor(
            value for name, value in params.secrets.items() if name in self._prepared["secret_names"]
        )
        self._params = params
        self._oom_kills = oom_kills()
        self._started_s = now_s = time.monotonic()
        self._tail = JournalTail(f"{self._work_dir}/{folders.SESSION_FOLDER}/{JOURNAL_NAME}", params.attempt)
        steps = self._prepared["manifest"]["steps"]
        limits_s = {step["id"]: float(step["timeout_s"]) for step in steps if step.get("timeout_s") is not None}
        self._deadlines = Deadlines(GRACE_S, limits_s)
        self._deadlines.begin(now_s, self._prepared["settings"].get("timeout_s"))
        self._engine.tell(params.model_dump())
        return {"pid": self._engine.pid}

    def get_summary(self, _: GetSummaryParams) -> dict[str, Any]:
        protocol, methods = load("remote.protocol"), load("remote.methods")
        if self._params is None:
            raise methods.Refused(protocol.ErrorCode.NOT_STARTED, "no run was started")
        if self._summary is None:
            raise methods.Refused(protocol.ErrorCode.NOT_OVER, "the run is not over")
        return self._what_it_came_to()

    def _what_it_came_to(self) -> dict[str, Any]:
        summary = self._summary
        assert summary is not None
        assert self._tail is not None
        return {
            "summary": summary,
            "metrics": {
                "rows_read": summary["rows_read"],
                "rows_written": summary["rows_written"],
                "execution_time_ms": summary["wall_ms"],
                "memory_usage_mb": max((step["memory_usage_mb"] for step in summary["steps"]), default=0.0),
            },
            "overhead_ms": round(max(0.0, (self._over_s - self._started_s) * 1000 - summary["wall_ms"]), 3),
            "ended_by": self._ended_by,
            "last_seq": self._tail.last_seq,
        }

    def heartbeat(self, _: HeartbeatParams) -> dict[str, Any]:
        return self._signs_of_life()

    def _signs_of_life(self) -> dict[str, Any]:
        state = "waiting" if self._params is None else "running" if self._summary is None else "over"
        uptime_s = round(time.monotonic() - self._born_s, 3)
        return {"state": state, "last_seq": self._tail.sent_seq if self._tail else 0, "uptime_s": uptime_s}

    def replay(self, params: ReplayParams) -> dict[str, Any]:
        if self._tail is not None:
            self._tail.replay(params.after_seq)
            self._summary_told = False  # whoever lost events may have lost that too
        return {"last_seq": self._tail.last_seq if self._tail else 0}

    def cancel(self, params: CancelParams) -> dict[str, Any]:
        return {"accepted": self._cancel(params.reason or "cancel was called")}

    def shutdown(self, _: ShutdownParams) -> dict[str, Any]:
        self.leaving = True
        return {}

    # Between requests.

    def heard(self) -> None:
        """A host said something."""
        self._heard_s = time.monotonic()

    def end(self, signal_name: str) -> None:
        """A signal came: stop the run, and leave when that is done. Repeatable."""
        self._leave_when_over = True
        if self.running:
            self._ended_by = self._ended_by or signal_name
        if self._params is None:
            self.leaving = True
        self._cancel(f"the worker was ended by {signal_name}")

    def new_events(self) -> tuple[bytes, bool]:
        """Frames for the host, and whether there may be more at once."""
        if self._tail is None:
            return b"", False
        frames, noticed, more = self._tail.read()
        self._notice(noticed)
        return frames, more

    def unasked(self) -> list[tuple[str, dict[str, Any]]]:
        """Notifications that are due now, for a host that asked to be told; only when all events were given out."""
        if self._params is None:
            return []
        found = []
        now_s = time.monotonic()
        if self._params.unasked and now_s >= self._beat_at_s:
            self._beat_at_s = now_s + HEARTBEAT_INTERVAL_S
            found.append(("heartbeat", self._signs_of_life()))
        packed = self._result is not None and self._result.is_over()
        if (packed and not self._summary_told) or self.has_last_word:
            self._summary_told = True
            found.append(("summary", self._what_it_came_to()))
        return found

    @property
    def has_last_word(self) -> bool:
        """Whether a worker that leaves when its run is over has not said yet what that came to."""
        leaves = self._params is not None and self._params.leave_when_over
        return leaves and self._summary is not None and not self._summary_told

    def sync_journal(self) -> None:
        """What the engine wrote is seen on other machines: a file system over a network sends when it likes, else."""
        from osiris_core.journal import JOURNAL_NAME

        try:
            fd = os.open(f"{self._work_dir}/{folders.SESSION_FOLDER}/{JOURNAL_NAME}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return
        try:
            os.fsync(fd)
        except OSError:
            pass
        finally:
            os.close(fd)

    def look_ahead(self) -> None:
        """See what is in the journal though nobody takes it: the limits of steps hold all the same."""
        if self._tail is not None:
            self._notice(self._tail.look_ahead())

    def _notice(self, events: list[dict[str, Any]]) -> None:
        assert self._deadlines is not None
        now_s = time.monotonic()
        for event in events:
            self._deadlines.note(event, now_s)

    def watch(self, *, heard_of: bool) -> None:
        """See to the engine's end, its limits, and to a host that does not come back. `heard_of`: a pipe is open."""
        now_s = time.monotonic()
        self._engine.reap()
        self._engine.flush()
        if self._params is None:
            waits_for_files = os.path.exists(f"{self._work_dir}/{folders.CONTROL_FILE}")  # noqa: PTH110
            self.leaving = self.leaving or now_s - self._born_s > START_LIMIT_S or not (heard_of or waits_for_files)
            return
        if self._summary is None:
            assert self._deadlines is not None
            if self._engine.status is None and (overdue := self._deadlines.overdue(now_s)) is not None:
                self._killed_for = overdue
                self._engine.kill()
            if self._engine.status is not None:
                self._conclude()
        # What a run came to is kept as long as a run goes on: a host may come for it after hours of running.
        alone_since_s = max(self._heard_s, self._over_s) if self._summary is not None else self._heard_s
        unattended = now_s - alone_since_s > self._params.unattended_timeout_s
        if self._summary is not None:
            self.leaving = self.leaving or unattended or self._leave_when_over or self._params.leave_when_over
        elif unattended and self._prepared["settings"].get("timeout_s") is None:
            self._cancel(f"nobody was connected for {self._params.unattended_timeout_s:g} s")

    def _cancel(self, reason: str) -> bool:
        if not self.running or self._cancelled:
            return False
        self._cancelled = True
        assert self._deadlines is not None
        self._deadlines.stop(time.monotonic(), reason)
        self._engine.tell({"cancel": reason})
        return True

    def _conclude(self) -> None:
        """The engine has ended: leave nothing of it alive, and see that journal and summary have their end."""
        self._engine.kill()
        assert self._params is not None
        assert self._redactor is not None
        assert self._tail is not None
        summary = None
        if self._engine.status == 0:
            summary = _read_json(f"{self._work_dir}/{folders.SUMMARY_FILE}")
        if summary is None:
            summary = load("remote.last_words").conclude(
                self._work_dir,
                self._prepared,
                self._params,
                self._redactor,
                self._engine,
                self._killed_for,
                self._oom_kills,
            )
        shutil.rmtree(f"{self._work_dir}/{folders.SESSION_FOLDER}/work", ignore_errors=True)
        self.look_ahead()
        self._over_s = time.monotonic()
        self._summary = summary
        if self._params.unasked:
            self._result = load("remote.result_file").ResultFile(self._work_dir)
            assert self._result is not None
            self._result.begin()


def _read_checked(work_dir: str, package_sha256: str) -> dict[str, Any]:
    """The prepared run, if it and the list of the package are what was sent; the engine checks all that is listed."""
    with open(f"{work_dir}/{folders.PACKAGE_FILE}", "rb") as file:
        package = file.read()
    with open(f"{work_dir}/{folders.PREPARED_FILE}", "rb") as file:
        prepared = file.read()
    if hashlib.sha256(package).hexdigest() != package_sha256:
        raise ValueError(f"{folders.PACKAGE_FILE} is not what was sent")
    if hashlib.sha256(prepared).hexdigest() != json.loads(package)["files"][folders.PREPARED_FILE]["sha256"]:
        raise ValueError(f"{folders.PREPARED_FILE} is not what was sent")
    found: dict[str, Any] = json.loads(prepared)
    return found


def _read_json(path: str) -> dict[str, Any] | None:
    try:
        with open(path, encoding="utf-8") as file:
            data: dict[str, Any] = json.load(file)
    except (OSError, ValueError):
        return None
    return data
