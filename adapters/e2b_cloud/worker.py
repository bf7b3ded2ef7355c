"""The worker's process in a sandbox: started once, found again by its token, ended."""

from __future__ import annotations

from shlex import quote
from time import monotonic
from typing import TYPE_CHECKING, Any

from adapters.e2b_cloud.errors import E2BUnreachable, NothingThere, NotNow, translate
from adapters.e2b_cloud.patience import patiently
from adapters.e2b_cloud.transport import open_connected, open_started
from osiris_core.context import SURROUNDINGS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import PurePosixPath

    from adapters.e2b_cloud.config import E2BConfig
    from adapters.e2b_cloud.loop import PrivateLoop
    from adapters.e2b_cloud.transport import StreamTransport

MARKER = "OSIRIS_WORKER_TOKEN"
"""The variable of the process that holds the run's token, by which it is found again."""
PACKAGE = "package.tar"
LOOK_LIMIT_S = 10.0
PATIENCE_S = 60.0
"""How long a sandbox that cannot be reached is asked again: a deploy of E2B's edge cuts every stream."""


class WorkerProcess:
    """
    Args:
        loop: The SDK's.
        commands: Those of the sandbox, as the SDK's object has them.
        token: The run's.
        config: Whose process it is, and how long an answer may take.
        work_dir: The run's folder; relative to the user's home where it does not begin at the root.
        count: Told each request.
        check: Called while something is waited for; what it raises is raised.
        say: Told what a person should know.
    """

    def __init__(
        self,
        loop: PrivateLoop,
        commands: Any,
        token: str,
        config: E2BConfig,
        work_dir: PurePosixPath,
        *,
        count: Callable[[str], None],
        check: Callable[[], None],
        say: Callable[[str, str], None],
    ) -> None:
        self.pid: int | None = None
        self._loop = loop
        self._commands = commands
        self._token = token
        self._config = config
        self._work_dir = work_dir
        self._count = count
        self._check = check
        self._say = say

    def start(self, argv: Sequence[str], *, unpack: bool) -> StreamTransport:
        """
        Have it run, once; with `unpack` its package is in its folder as a file.

        Raises:
            SandboxError: It cannot be started.
        """
        command = self._command(argv, unpack)
        deadline_s = monotonic() + PATIENCE_S
        while True:
            try:
                transport = self._opened(command)
                break
            except (E2BUnreachable, NotNow) as exc:
                # Whether it was started is not known: one that waits for its first word is ended, and started anew.
                self._check()
                if monotonic() > deadline_s:
                    raise
                self._say(f"{exc}; it is tried again", "warning")
                patiently(self.kill, deadline_s, self._check)
        self.pid = transport.pid
        return transport

    def _opened(self, command: str) -> StreamTransport:
        return open_started(
            self._loop,
            self._commands,
            command,
            {MARKER: self._token, **SURROUNDINGS},
            user=self._config.user,
            count=self._count,
            timeout_s=self._config.request_timeout_s,
            check=self._check,
        )

    def _command(self, argv: Sequence[str], unpack: bool) -> str:
        """
        A shell command that becomes the worker. The shell, in which the user's profile was read, is replaced by it.

        Paths are relative to the user's home, for files as for this command; only the shell knows where that is.
        """
        words = " ".join('"$PWD"' if item == str(self._work_dir) else quote(item) for item in argv)
        unpacked = f"tar -xf {PACKAGE} && rm {PACKAGE} && " if unpack else ""
        place = shell_path(self._work_dir)
        return f"mkdir -p {place} && cd {place} && {unpacked}exec {words}"

    def connected(self) -> StreamTransport:
        """
        Another stream of its output.

        Raises:
            NothingThere: It is not there.
            SandboxError: It cannot be reached.
        """
        if self.pid is None:
            pids = self.pids()
            if not pids:
                raise NothingThere("there is no worker of this run in the sandbox")
            self.pid = pids[0]
        return open_connected(
            self._loop, self._commands, self.pid, count=self._count, timeout_s=self._config.request_timeout_s
        )

    def is_there(self) -> bool:
        """Whether it lives. Raises SandboxGone when the sandbox does not."""
        return bool(self.pids(LOOK_LIMIT_S))

    def pids(self, limit_s: float | None = None) -> list[int]:
        """Every process that shows the token and was started from outside."""
        with translate("the sandbox's processes cannot be listed"):
            self._count("processes")
            limit_s = min(limit_s or self._config.request_timeout_s, self._config.request_timeout_s)
            found = self._loop.run(self._commands.list(request_timeout=limit_s))
        return [int(item.pid) for item in found if item.envs.get(MARKER) == self._token]

    def end(self) -> None:
        """Have it end what is below it, which it does better than anybody; where it does not, it is killed."""
        if pids := " ".join(map(str, self.pids())):
            wait = f"for i in $(seq 60); do kill -0 {pids} 2>/dev/null || break; sleep 0.1; done"
            with translate("the worker cannot be ended"):
                self._count("end")
                self._loop.run(self._commands.run(f"kill -TERM {pids}; {wait}", user=self._config.user))
            self.kill()

    def kill(self) -> None:
        """No process of this run's is alive."""
        for pid in self.pids():
            with translate("a worker cannot be killed"):
                self._count("signal")
                self._loop.run(self._commands.kill(pid))


def shell_path(path: PurePosixPath) -> str:
    """A path as a shell in the sandbox takes it: what is relative begins at the user's home, as the SDK has it."""
    return quote(str(path)) if path.is_absolute() else f'"$HOME"/{quote(str(path))}'
