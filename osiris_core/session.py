"""
A session directory and its one owner.

`run.json` (what was asked for), `events.jsonl`, `status.json` (the report), `artifacts/<step id>/…`,
`checkpoints/`, and `work/` while the run lasts. One process owns it at a time, by a lock that dies with the process.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import weakref
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from osiris_core.errors import PreparationError, Problem, SessionBusy
from osiris_core.exchange import put_in_place
from osiris_core.journal import JOURNAL_NAME, Journal, looks_whole, read_events

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class SessionLayout:
    """Where things are in a session directory."""

    root: Path

    @cached_property
    def run_file(self) -> Path:
        return self.root / "run.json"

    @cached_property
    def status_file(self) -> Path:
        return self.root / "status.json"

    @cached_property
    def events_file(self) -> Path:
        return self.root / JOURNAL_NAME

    @cached_property
    def lock_file(self) -> Path:
        return self.root / "session.lock"

    @cached_property
    def cancel_file(self) -> Path:
        """Is there while somebody asks the owner to stop its run."""
        return self.root / "cancel.json"

    @cached_property
    def artifacts_dir(self) -> Path:
        return self.root / "artifacts"

    @cached_property
    def checkpoints_dir(self) -> Path:
        return self.root / "checkpoints"

    @cached_property
    def work_dir(self) -> Path:
        return self.root / "work"


def write_json(path: Path, data: Mapping[str, Any], *, durable: bool = False) -> None:
    """Replace a JSON file as a whole: a reader sees the old one or the new one; if `durable`, after a power cut too."""
    folder, name = os.path.split(path)
    beside = f"{folder}/.{name}.{os.getpid()}"
    # Without indentation json's fast encoder is at work. What is no text in UTF-8 is escaped, as in the journal.
    text = json.dumps(data, ensure_ascii=False, separators=(", ", ": ")) + "\n"
    content = memoryview(text.encode("utf-8", "backslashreplace"))
    try:
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        try:
            while content:
                content = content[os.write(fd, content) :]
            if durable:
                os.fdatasync(fd)
        finally:
            os.close(fd)
        put_in_place(beside, str(path))
        if durable:
            _sync_folder(folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(beside)  # noqa: PTH108
        raise


def _sync_folder(folder: str) -> None:
    """The names in it are on the disk on return, as far as its file system can be asked for that."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):
            os.fsync(fd)
    finally:
        os.close(fd)


def overwrite_json(path: Path, data: Mapping[str, Any]) -> None:
    """Replace a small JSON file within the space that it has: the way out when the disk is full."""
    text = json.dumps(data).encode()
    with path.open("r+b") as file:
        room = os.fstat(file.fileno()).st_size
        # JSON takes blanks behind a value: the file keeps its length until the new content is in it.
        file.write(text.ljust(room))
        file.truncate()


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON file of a session, or None when it is not there or not whole."""
    try:
        with open(path, "rb", buffering=0) as file:
            data = json.loads(file.readall())
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None


class Session:
    """
    An owned session directory. Use `Session.open`; `close` may be called twice.

    Attributes:
        attempt: 1 for the first run in this directory, then one more each time.
        recorded: What `run.json` says of the run.
        earlier: What it said of the attempt before.
    """

    def __init__(
        self, layout: SessionLayout, session_id: str, lock_fd: int, attempt: int, earlier: dict[str, Any]
    ) -> None:
        self.layout = layout
        self.session_id = session_id
        self._lock_fd = lock_fd
        self.attempt = attempt
        self.recorded: dict[str, Any] = {}
        self.earlier = earlier
        self.journal = Journal(layout.events_file, session_id, self.attempt)
        _OPEN.add(self)

    @classmethod
    def open(cls, session_dir: str, session_id: str, pipeline: str | None = None) -> Session:
        """
        Make the directory if need be, and own it for a run of `pipeline`.

        Raises:
            SessionBusy: Another live process owns it.
            PreparationError: It holds files that are no session's, or the session of another pipeline; nothing
                was touched.
            OSError: It cannot be made or written.
        """
        layout = SessionLayout(Path(session_dir))
        _refuse_what_is_not_ours(layout, pipeline)
        layout.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock_fd = _own(layout)
        try:
            before = read_json(layout.run_file)
            return cls(layout, session_id, lock_fd, _attempts_before(layout, before) + 1, before or {})
        except BaseException:
            os.close(lock_fd)
            raise

    @classmethod
    def reopen(cls, session_dir: str) -> Session:
        """
        Own the session of a controller that is dead, and go on with its attempt, as it was written down.

        Raises:
            SessionBusy: That controller, or another one, lives.
            PreparationError: No run was written down there.
            OSError: It cannot be written.
        """
        layout = SessionLayout(Path(session_dir))
        recorded_run(layout)
        lock_fd = _own(layout)
        try:
            recorded = recorded_run(layout)  # once more: whoever let go of it last wrote this
            session = cls(layout, str(recorded["session_id"]), lock_fd, int(recorded["attempt"]), dict(recorded))
        except BaseException:
            os.close(lock_fd)
            raise
        session.recorded = recorded
        try:
            session.record(pid=os.getpid())
        except BaseException:
            session.close()
            raise
        return session

    def record_intent(self, prepared: Mapping[str, Any], adapter: str, **facts: Any) -> None:
        """Write down what is about to be run, before anything is started."""
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        self.record(
            session_id=self.session_id,
            attempt=self.attempt,
            adapter=adapter,
            pid=os.getpid(),
            started_at=now,
            **facts,
            prepared=prepared,
        )
        write_json(
            self.layout.status_file,
            {"status": "running", "session_id": self.session_id, "attempt": self.attempt, "started_at": now},
        )

    @property
    def has_something_elsewhere(self) -> bool:
        """Whether anything was made for the run, or may have been, that outlives this process."""
        return made_elsewhere(self.recorded)

    def run_key(self, *, resume: bool) -> str:
        """
        A name for the run that is unique anywhere: made up, or the earlier run's where this one resumes it.

        To be asked before the intent is recorded.
        """
        before = self.earlier.get("prepared") or {}
        return (resume and str(before.get("run_key") or "")) or token_hex(16)

    def begin_attempt(self, attempt: int) -> None:
        """The run goes on as a later attempt, because its place started it again; ask the journal for voices anew."""
        first = self.recorded.get("first_attempt", self.attempt)
        self.attempt = self.journal.attempt = attempt
        self.record(attempt=attempt, first_attempt=first)

    def record(self, *, durable: bool = False, **facts: Any) -> None:
        """
        Add to what is written down of the run: its token before anything is made for it, its native id after.

        What is `durable` outlives this machine's power. In a directory that is another run's by now nothing is written.
        """
        self.recorded |= facts
        if self.is_ours:
            write_json(self.layout.run_file, self.recorded, durable=durable)

    def check_journal(self) -> None:
        """
        See that what earlier attempts wrote can still be read, before anything is written behind it.

        Raises:
            JournalDamaged: A line is no event, and which one that is.
        """
        if self.attempt > 1 and not looks_whole(self.layout.events_file):
            for _ in read_events(self.layout.events_file):
                pass

    @property
    def is_ours(self) -> bool:
        """
        Whether nobody else can own the directory by now: its lock is still the file that we hold.

        It is another one when the directory, or the lock in it, was removed and a run began there anew.
        """
        with suppress(OSError):
            return os.path.samestat(os.fstat(self._lock_fd), self.layout.lock_file.stat())
        return True

    def why_to_stop(self) -> str | None:
        """Somebody asks for it in the directory, or it is another run's by now; None while neither is so."""
        if not self.is_ours:
            return f"{self.layout.root} is another run's by now"
        return cancel_request(self.layout)

    def close(self) -> None:
        """Let go of the directory; what only the run needed is removed, unless it is another run's by now."""
        try:
            if self._lock_fd >= 0:
                self.journal.close()
            if self._lock_fd >= 0 and self.is_ours:
                shutil.rmtree(self.layout.work_dir, ignore_errors=True)
                with suppress(OSError):
                    self.layout.cancel_file.unlink(missing_ok=True)
        finally:
            if self._lock_fd >= 0:
                with suppress(OSError):  # for all who inherited it; closing would only do for this process
                    fcntl.flock(self._lock_fd, fcntl.LOCK_UN)
            self._let_go()

    def delete(self) -> None:
        """Remove everything that is ours in the directory, and the directory if nothing else is in it; then let go."""
        layout = self.layout
        self.journal.close()
        archive = layout.root / "artifacts.tar.gz"
        for folder in (layout.artifacts_dir, layout.checkpoints_dir):
            shutil.rmtree(folder, ignore_errors=True)
        # `run.json` last: what was begun and not finished is still a session.
        for file in (archive, layout.status_file, layout.events_file, layout.run_file, layout.lock_file):
            file.unlink(missing_ok=True)
        self.close()
        with suppress(OSError):
            layout.root.rmdir()

    def _let_go(self) -> None:
        fd, self._lock_fd = self._lock_fd, -1
        if fd >= 0:
            os.close(fd)


def _own(layout: SessionLayout) -> int:
    """Take the lock, and clear away what an owner left that died; the descriptor holds it."""
    lock_fd = os.open(layout.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        owner_line = f"{os.getpid()}\n".encode()
        if os.pread(lock_fd, 64, 0) != owner_line:  # cutting a file down costs more than reading it
            os.ftruncate(lock_fd, 0)
            os.pwrite(lock_fd, owner_line, 0)
        shutil.rmtree(layout.work_dir, ignore_errors=True)
        layout.cancel_file.unlink(missing_ok=True)
    except BlockingIOError as exc:
        owner = os.pread(lock_fd, 64, 0).decode(errors="replace").strip()
        os.close(lock_fd)
        raise SessionBusy(f"process {owner or '?'} is running in {layout.root}") from exc
    except BaseException:
        os.close(lock_fd)
        raise
    return lock_fd


_OPEN: weakref.WeakSet[Session] = weakref.WeakSet()


def _let_go_in_child() -> None:
    """A forked child that outlives the run (a pool of a driver's) must not keep the directory owned."""
    for session in list(_OPEN):
        session._let_go()


os.register_at_fork(after_in_child=_let_go_in_child)


def _attempts_before(layout: SessionLayout, before: Mapping[str, Any] | None) -> int:
    """How many runs there were in a session directory; the journal knows also when `run.json` is lost."""
    attempt = (before or {}).get("attempt")
    if isinstance(attempt, int):
        return attempt
    if not layout.events_file.exists():
        return 0
    return max((int(event["attempt"]) for event in read_events(layout.events_file)), default=0)


def recorded_run(layout: SessionLayout) -> dict[str, Any]:
    """
    What `run.json` says.

    Raises:
        PreparationError: It is not there, not whole, or not a run's.
    """
    recorded = read_json(layout.run_file) or {}
    if not isinstance(recorded.get("attempt"), int) or "prepared" not in recorded or not recorded.get("session_id"):
        raise PreparationError([Problem("there is no session here (no run.json)", file=str(layout.root))])
    return recorded


def made_elsewhere(recorded: Mapping[str, Any]) -> bool:
    """Whether of a run that is `recorded` something may be somewhere else: its place, or containers of its commands."""
    return (isinstance(recorded.get("token"), str) or bool(recorded.get("commands_elsewhere"))) and not recorded.get(
        "freed"
    )


def ask_to_cancel(layout: SessionLayout, reason: str) -> None:
    """Ask the live owner of a session to stop its run; it looks for that a few times a second."""
    write_json(layout.cancel_file, {"reason": reason})


def cancel_request(layout: SessionLayout) -> str | None:
    """The reason for which somebody asks the owner to stop; None when nobody does."""
    if not os.path.exists(layout.cancel_file):  # noqa: PTH110 - asked five times a second
        return None
    return str((read_json(layout.cancel_file) or {}).get("reason", "it was cancelled"))


def is_owned(layout: SessionLayout) -> bool:
    """Whether a live process owns the session directory."""
    try:
        fd = os.open(layout.lock_file, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(fd, fcntl.LOCK_UN)  # for a child too that was forked in between
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def _refuse_what_is_not_ours(layout: SessionLayout, pipeline: str | None) -> None:
    before = read_json(layout.run_file)
    if before is not None:
        known = (before.get("prepared") or {}).get("manifest", {}).get("pipeline")
        if pipeline is None or known in (None, pipeline):
            return
        message = f"it holds a session of pipeline '{known}', and a run of '{pipeline}' would replace its artifacts"
    elif layout.events_file.exists() or layout.lock_file.exists():
        return
    else:
        taken = [path.name for path in (layout.work_dir, layout.artifacts_dir, layout.checkpoints_dir) if path.exists()]
        if not taken:
            return
        message = f"it is no session directory, and holds {', '.join(taken)}, which a run would use as its own"
    problem = Problem(message, key="session_dir", file=str(layout.root), hint="name a new or empty directory")
    raise PreparationError([problem])
