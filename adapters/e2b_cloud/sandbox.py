"""A `Sandbox` that is one sandbox of E2B's, made for one run."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import suppress
from pathlib import PurePosixPath
from time import monotonic
from typing import TYPE_CHECKING, Any

from adapters.e2b_cloud import finding
from adapters.e2b_cloud.creation import Creation
from adapters.e2b_cloud.errors import E2BUnreachable, SandboxGone, SandboxPaused
from adapters.e2b_cloud.files import CommandFiles, StreamAgain
from adapters.e2b_cloud.lifetime import keep_alive
from adapters.e2b_cloud.line import LAST_WAIT_S, Line
from adapters.e2b_cloud.outlook import Outlook
from adapters.e2b_cloud.patience import PATIENCE_S, Tries, patiently
from adapters.e2b_cloud.transfer import Transfers
from adapters.e2b_cloud.worker import PACKAGE, WorkerProcess
from osiris_core.errors import ExecutionError, FailureClass
from remote.file_transport import FileTransport
from remote.sandbox import Fate, SandboxError, TransportClosed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from adapters.e2b_cloud.account import Account
    from adapters.e2b_cloud.config import E2BConfig
    from adapters.e2b_cloud.creation import Wanted
    from adapters.e2b_cloud.transport import StreamTransport

PAUSED = "the sandbox was paused at the end of its life"
KILL_LIMIT_S = 25.0
"""With the last request that is begun by then, half a minute."""


class E2BSandbox:
    """
    One run's sandbox. It may be asked for its end, and stopped, from any thread.

    Args:
        account: Whose it is.
        config: What it has and may do.
        wanted: What is asked for when it is made.
        say: Told what a person should know, and how bad it is (`info`, `warning`).
        cancel_reason: Why the run was cancelled, as soon as it is.
        facts: Where what is known of the sandbox is put, for the report.
        record: Writes facts down that find sandbox (`native_id`) and worker (`worker_pid`) again after a crash.
    """

    frugal = True

    def __init__(
        self,
        account: Account,
        config: E2BConfig,
        wanted: Wanted,
        *,
        say: Callable[[str, str], None],
        cancel_reason: Callable[[], str | None],
        facts: dict[str, Any],
        record: Callable[..., None],
    ) -> None:
        name = f"osiris-{wanted.token[:12]}"
        self.work_dir = PurePosixPath(config.remote_dir, name) if config.remote_dir else PurePosixPath(name)
        self.python = "python3"
        self.reads_in_place: dict[str, str] = {}
        self._account = account
        self._config = config
        self._wanted = wanted
        self._say = say
        self._facts = facts
        self._record = record
        requests: Counter[str] = Counter(facts.get("requests"))  # an earlier controller's count
        facts["requests"] = requests
        self._line = Line(account, requests, cancel_reason)
        self._creation: Creation | None = None
        self._sandbox: Any = None
        self._transfers: Transfers | None = None
        self._transport: StreamTransport | None = None
        self._worker: WorkerProcess | None = None
        self._outlook: Outlook | None = None
        self._keeping: Any = None
        self._began_s: float | None = None
        self._has_package = False
        self._has_spoken = False
        self._is_adopted = self._is_by_token = False
        self._stopped = ""
        self._is_stopped = False
        self._lock = threading.Lock()

    # There.

    def start(self) -> str:
        started_s = monotonic()
        with self._lock:
            if self._is_stopped:
                raise SandboxError("the run was stopped", failure_class=FailureClass.CANCELLED)

            def record_id(sandbox_id: str) -> None:
                self._record(native_id=sandbox_id)

            made = self._creation = Creation(self._line, self._wanted, self._say, record_id)
        self._take(made.make())
        self.python = made.python
        self._facts.update(template=made.template, create_ms=round((monotonic() - started_s) * 1000, 3))
        return str(self._sandbox.sandbox_id)

    def _take(self, sandbox: Any) -> None:
        """Take charge of a sandbox: look at it once, and keep it alive."""
        self._sandbox = sandbox
        config = self._config
        self._outlook = Outlook(self._line, sandbox, self._wanted, self._facts)
        self._transfers = Transfers(self._line, sandbox, self.work_dir, config.user, config.request_timeout_s)
        self._worker = WorkerProcess(self._line, sandbox.commands, self._wanted.token, config, self.work_dir, self._say)

        def say(text: str) -> None:
            self._say(text, "warning")

        def ran_s() -> float:
            return 0.0 if self._began_s is None else monotonic() - self._began_s

        self._keeping = self._line.loop.begin(keep_alive(self._line, sandbox, self._wanted.lifetime, say, ran_s))

    def put(self, archive: Path) -> None:
        assert self._transfers is not None
        self._transfers.upload(archive, PACKAGE)
        self._has_package = True

    def open(self, argv: Sequence[str]) -> StreamTransport:
        assert self._outlook is not None
        assert self._worker is not None
        self._outlook.require(self._say)
        self._transport = self._worker.start(argv, unpack=self._has_package)
        self._began_s = monotonic()
        self._record(worker_pid=str(self._transport.pid))
        return self._transport

    # Again.

    def reconnect(self) -> StreamTransport | FileTransport:
        before = self._transport
        if before is not None:
            before.close()
            self._has_spoken = self._has_spoken or before.has_output
        assert self._worker is not None
        if before is not None and self._has_spoken and before.is_again and before.was_silent:
            # It was connected to again, and silent: something that is attached since a pause swallows it all.
            self._say("nothing comes over the worker's stream; its files are read instead", "warning")
            self._transport = None
            return self._line.patiently(self._by_files, PATIENCE_S)
        self._transport = self._line.patiently(self._worker.connected, PATIENCE_S)
        self._record(worker_pid=str(self._transport.pid))
        return self._transport

    def _by_files(self) -> FileTransport:
        assert self._worker is not None
        files = CommandFiles(self._line, self._sandbox, self.work_dir, self._config.user)
        try:
            return FileTransport(files, StreamAgain(self._worker.connected))
        except TransportClosed as exc:
            raise E2BUnreachable(str(exc)) from exc

    def adopt(self, native_id: str | None) -> bool:
        """
        Take over the place that an earlier controller made with this sandbox's token, by its id where that is known,
        else by the token; False when there is none. `reconnect`, `get`, `fate` and `stop` work on it afterwards.
        """
        found = finding.adopted(self._line, self._wanted, native_id)
        if found is None:
            return False
        self._is_adopted, self._is_by_token = True, native_id is None
        self._take(found)
        return True

    # Home.

    def get(self, folder: str) -> Iterator[bytes]:
        """What the worker packed; packed here, by one more request, where it could not do that any more."""
        assert self._transfers is not None
        try:
            yield from self._transfers.fetched(folder)
        except SandboxGone as exc:
            if self._is_paused():
                raise SandboxPaused(PAUSED) from exc
            raise

    def _is_paused(self) -> bool:
        """Whether it is there, and sleeps, because its life ended."""
        if self._config.on_timeout != "pause":
            return False
        try:
            info = self._line.ask(
                "info",
                "the sandbox cannot be looked at",
                self._sandbox.get_info(),
                limit_s=LAST_WAIT_S,
                of_account=True,
            )
        except SandboxError:
            return False
        return str(getattr(info.state, "value", info.state)) == "paused"

    def fate(self) -> Fate:
        facts = {"sandbox": str(self._sandbox.sandbox_id)} if self._sandbox is not None else {}
        if self._sandbox is None or (self._began_s is None and not self._is_adopted):
            return Fate(running=False, message="the worker was not started", facts=facts)
        if self._transport is not None and (code := self._transport.exit_code) is not None:
            return Fate(running=False, exit_code=code, message=self._how(code), facts=facts)
        assert self._worker is not None
        try:
            alive = self._worker.is_there()
        except SandboxGone:
            message = PAUSED if self._is_paused() else "the sandbox is gone: it was killed, paused, or lived to its end"
            return Fate(running=False, message=message, facts=facts)
        except SandboxError as exc:
            return Fate(running=True, message=str(exc), facts=facts)
        message = "" if alive else "the worker has ended, and nobody knows how: that was not kept for long enough"
        return Fate(running=alive, message=message, facts=facts)

    def _how(self, code: int) -> str:
        if code == -1:
            return (
                "the worker was killed in the sandbox; where that was for lack of memory, a template with more of it "
                "helps (memory_mb)"
            )
        words = self._transport.stderr_tail().strip().rpartition("\n")[2] if self._transport is not None else ""
        if code in (126, 127):
            return f"template {self._facts.get('template')} cannot run a worker: {words or 'it has no python3'}"
        return f"the worker ended with exit code {code}"

    # Gone.

    def stop(self, *, keep: bool = False) -> str:
        """
        No process of the sandbox is alive, and it is gone, on return; one that is kept has no worker any more.

        Raises:
            SandboxError: Not within half a minute: E2B does not answer. `osiris runs gc` removes it later.
        """
        with self._lock:
            if self._is_stopped:
                return self._stopped
            self._line.hurry()
            self._let_go()
            self._stopped = self._kept() if keep and self._sandbox is not None else self._killed()
            self._is_stopped = True
            return self._stopped

    def leave(self) -> None:
        """Nothing here concerns the sandbox any more; it lives for an hour yet, if that can be had."""
        with self._lock:
            self._let_go()
            self._line.hurry()
            self._is_stopped = True
            with suppress(SandboxError):
                longer = self._sandbox.set_timeout(self._wanted.lifetime.left_s)
                self._line.ask("timeout", "the sandbox's life cannot be extended", longer, of_account=True)

    def _let_go(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
        if self._transport is not None:  # its end would be looked into, by a request
            self._transport.close()

    def _killed(self) -> str:
        tries = Tries(KILL_LIMIT_S)
        while True:
            try:
                if self._is_adopted:
                    finding.kill(self._line, str(self._sandbox.sandbox_id))
                if self._is_by_token:  # one that was asked for twice may be two
                    finding.kill_all(self._line, self._wanted.token)
                if self._creation is not None:
                    self._creation.give_up()
                return ""
            except SandboxError as exc:
                # Whatever it is that cannot be read or was not expected, it may be better the next time.
                if exc.failure_class is FailureClass.USER_ERROR or not tries.pause():
                    message = f"{exc}; osiris runs gc removes it later"
                    raise SandboxError(message, failure_class=exc.failure_class) from None

    def _kept(self) -> str:
        """End the worker, so that nothing of the run goes on, and leave the rest for who wants to look."""
        sandbox_id = str(self._sandbox.sandbox_id)
        try:
            assert self._worker is not None
            patiently(self._worker.end, KILL_LIMIT_S / 2)
            state = "is kept until its life ends"
            if self._config.on_timeout == "pause":
                what = "the sandbox cannot be paused"
                self._line.ask("pause", what, self._sandbox.pause(), grace_s=KILL_LIMIT_S / 2, of_account=True)
                state = "is paused"
        except SandboxGone:
            if not self._is_paused():
                return ""
            state = "is paused: its life ended"
        except ExecutionError as exc:
            state = f"is kept until its life ends ({exc})"
        return (
            f"sandbox {sandbox_id} {state}: Sandbox.connect('{sandbox_id}') of the SDK looks into it, the run's folder "
            f"is {self.work_dir}, and osiris runs gc removes it"
        )
