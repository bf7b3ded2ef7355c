"""A `Sandbox` that is one sandbox of E2B's, made for one run."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import PurePosixPath
from time import monotonic
from typing import TYPE_CHECKING, Any

from adapters.e2b_cloud import creation, transfer
from adapters.e2b_cloud.errors import AnswerLost, SandboxGone, translate
from adapters.e2b_cloud.files import CommandFiles
from adapters.e2b_cloud.lifetime import keep_alive
from adapters.e2b_cloud.loop import PrivateLoop
from adapters.e2b_cloud.outlook import Outlook
from adapters.e2b_cloud.patience import patiently
from adapters.e2b_cloud.worker import PACKAGE, PATIENCE_S, WorkerProcess
from osiris_core.errors import ExecutionError, FailureClass
from remote.file_transport import FileTransport
from remote.sandbox import Fate, SandboxError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from adapters.e2b_cloud.account import Account
    from adapters.e2b_cloud.config import E2BConfig
    from adapters.e2b_cloud.creation import Wanted
    from adapters.e2b_cloud.transport import StreamTransport

KILL_LIMIT_S = 30.0


class E2BSandbox:
    """
    One run's sandbox. It may be asked for its end, and stopped, from any thread.

    Args:
        account: Whose it is.
        config: What it has and may do.
        wanted: What is asked for when it is made.
        say: Told what a person should know, and how bad it is (`info`, `warning`).
        check: Called while something is waited for; what it raises is raised.
        facts: Where what is known of the sandbox is put, for the report.
        record: Writes facts down that find the worker again after a crash.
    """

    frugal = True

    def __init__(
        self,
        account: Account,
        config: E2BConfig,
        wanted: Wanted,
        *,
        say: Callable[[str, str], None],
        check: Callable[[], None],
        facts: dict[str, Any],
        record: Callable[[str], None],
    ) -> None:
        name = f"osiris-{wanted.token[:12]}"
        self.work_dir = PurePosixPath(config.remote_dir, name) if config.remote_dir else PurePosixPath(name)
        self.python = "python3"
        self.reads_in_place: dict[str, str] = {}
        self._account = account
        self._config = config
        self._wanted = wanted
        self._say = say
        self._check = check
        self._facts = facts
        self._record = record
        self._loop = PrivateLoop.shared()
        self._requests: Counter[str] = Counter(facts.get("requests"))  # an earlier controller's count
        self._creation: creation.Creation | None = None
        self._sandbox: Any = None
        self._transport: StreamTransport | None = None
        self._worker: WorkerProcess | None = None
        self._outlook: Outlook | None = None
        self._keeping: Any = None
        self._has_package = False
        self._has_spoken = False
        self._is_adopted = False
        self._asked = False
        self._stopped = ""
        self._is_stopped = False
        self._lock = threading.Lock()
        facts["requests"] = self._requests

    # There.

    def start(self) -> str:
        started_s = monotonic()
        with self._lock:
            if self._is_stopped:
                raise SandboxError("the run was stopped", failure_class=FailureClass.CANCELLED)
            self._asked = True  # from here on there may be something to kill
        made = creation.Creation(self._account, self._loop, self._wanted, self._count, self._check, self._say)
        self._creation = made
        try:
            self._take(made.make())
        except SandboxError as exc:
            if not isinstance(exc, AnswerLost) and exc.failure_class is not FailureClass.PROTOCOL:
                self._asked = False  # refused, or never heard: nothing was made
            raise
        self.python = made.python
        self._facts.update(template=made.template, create_ms=round((monotonic() - started_s) * 1000, 3))
        return str(self._sandbox.sandbox_id)

    def _take(self, sandbox: Any) -> None:
        """Take charge of a sandbox: look at it once, and keep it alive."""
        self._sandbox = sandbox
        self._outlook = Outlook(self._loop, sandbox, self._wanted, self._facts, self._count)

        def say(text: str) -> None:
            self._say(text, "warning")

        self._worker = WorkerProcess(
            self._loop,
            sandbox.commands,
            self._wanted.token,
            self._config,
            self.work_dir,
            count=self._count,
            check=self._check,
            say=self._say,
        )
        self._keeping = self._loop.begin(keep_alive(sandbox, self._wanted.lifetime, say, self._count))

    def _count(self, kind: str) -> None:
        self._requests[kind] += 1

    def put(self, archive: Path) -> None:
        self._count("upload")
        target = str(self.work_dir / PACKAGE)
        self._loop.run(
            transfer.upload(self._sandbox, archive, target, self._config.user, self._config.request_timeout_s),
            self._check,
        )
        self._has_package = True

    def open(self, argv: Sequence[str]) -> StreamTransport:
        assert self._outlook is not None
        assert self._worker is not None
        self._outlook.require(self._say, self._check)
        self._transport = self._worker.start(argv, unpack=self._has_package)
        self._record(str(self._transport.pid))
        return self._transport

    # Again.

    def reconnect(self) -> StreamTransport | FileTransport:
        before = self._transport
        if before is not None:
            before.close()
            self._has_spoken = self._has_spoken or before.has_output
            if self._has_spoken and before.is_again and not before.has_output:
                # It was connected to again, and silent: something that is attached since a pause swallows it all.
                self._say("nothing comes over the worker's stream; its files are read instead", "warning")
                files = CommandFiles(self._loop, self._sandbox, self.work_dir, self._config.user, self._count)
                return FileTransport(files, lambda: True)  # silence tells of its end, with a request for each look
        assert self._worker is not None
        self._transport = patiently(self._worker.connected, monotonic() + PATIENCE_S, self._check)
        self._record(str(self._transport.pid))
        return self._transport

    def adopt(self, native_id: str | None) -> bool:
        """
        Take over the place that an earlier controller made with this sandbox's token, by its id where that is known,
        else by the token; False when there is none. `reconnect`, `get`, `fate` and `stop` work on it afterwards.
        """
        self._asked = True
        with translate("the sandbox cannot be taken over", self._account.redactor, self._account.address):
            found = creation.adopted(self._account, self._loop, self._wanted, native_id, self._count, self._check)
        if found is None:
            return False
        self._is_adopted = True
        self._take(found)
        return True

    # Home.

    def get(self, folder: str) -> Iterator[bytes]:
        """What the worker packed; packed here, by one more request, where it could not do that any more."""
        with translate(f"{folder} cannot be fetched from the sandbox", self._account.redactor):
            yield from transfer.fetched(
                self._loop,
                self._sandbox,
                self.work_dir,
                folder,
                user=self._config.user,
                idle_s=self._config.request_timeout_s,
                count=self._count,
            )

    def fate(self) -> Fate:
        facts = {"sandbox": str(self._sandbox.sandbox_id)} if self._sandbox is not None else {}
        if self._sandbox is None or (self._transport is None and not self._is_adopted):
            return Fate(running=False, message="the worker was not started", facts=facts)
        if self._transport is not None and (code := self._transport.exit_code) is not None:
            return Fate(running=False, exit_code=code, message=self._how(code), facts=facts)
        assert self._worker is not None
        try:
            alive = self._worker.is_there()
        except SandboxGone:
            message = "the sandbox is gone: it was killed, paused, or lived to its end"
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
            if self._keeping is not None:
                self._keeping.cancel()
            if self._transport is not None:  # its end would be looked into, by a request
                self._transport.close()
            if self._asked:
                self._stopped = self._kept() if keep and self._sandbox is not None else self._killed()
            self._is_stopped = True
            return self._stopped

    def _killed(self) -> str:
        deadline_s = monotonic() + KILL_LIMIT_S

        def kill() -> None:
            with translate("the sandbox cannot be killed", self._account.redactor, self._account.address):
                if self._sandbox is not None:
                    self._count("kill")
                    self._loop.run(self._account.sandboxes.kill(self._sandbox.sandbox_id))
                # Asked for, and the answer was not waited for, or came late for once.
                if self._creation is not None and (self._sandbox is None or self._creation.asked_twice):
                    self._creation.give_up()

        try:
            patiently(kill, deadline_s)
        except SandboxError as exc:
            raise SandboxError(f"{exc}; osiris runs gc removes it later", failure_class=exc.failure_class) from None
        return ""

    def _kept(self) -> str:
        """End the worker, so that nothing of the run goes on, and leave the rest for who wants to look."""
        sandbox_id = str(self._sandbox.sandbox_id)
        try:
            assert self._worker is not None
            patiently(self._worker.end, monotonic() + KILL_LIMIT_S)
            state = "is kept until its life ends"
            if self._config.on_timeout == "pause":
                with translate("the sandbox cannot be paused", self._account.redactor):
                    self._count("pause")
                    self._loop.run(self._sandbox.pause())
                state = "is paused"
        except SandboxGone:
            return ""
        except ExecutionError as exc:
            state = f"is kept until its life ends ({exc})"
        return (
            f"sandbox {sandbox_id} {state}: Sandbox.connect('{sandbox_id}') of the SDK looks into it, the run's folder "
            f"is {self.work_dir}, and osiris runs gc removes it"
        )
