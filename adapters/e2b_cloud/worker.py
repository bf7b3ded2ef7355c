"""The worker's process in a sandbox: started once, found again by its token, ended."""

from __future__ import annotations

from shlex import quote
from time import monotonic
from typing import TYPE_CHECKING, Any

from adapters.e2b_cloud.errors import NothingThere
from adapters.e2b_cloud.patience import PATIENCE_S
from adapters.e2b_cloud.transport import open_connected, open_started
from osiris_core.context import SURROUNDINGS
from remote.sandbox import Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import PurePosixPath

    from adapters.e2b_cloud.config import E2BConfig
    from adapters.e2b_cloud.line import Line
    from adapters.e2b_cloud.transport import StreamTransport

MARKER = "OSIRIS_WORKER_TOKEN"
"""The variable of the process that holds the run's token, by which it is found again."""
PACKAGE = "package.tar"
LOOK_LIMIT_S = 10.0
END_LIMIT_S = 6
"""How long a worker has for ending what is below it."""


class WorkerProcess:
    """
    Args:
        line: The way to the sandbox.
        commands: Those of the sandbox, as the SDK's object has them.
        token: The run's.
        config: Whose process it is, and how long an answer may take.
        work_dir: The run's folder; relative to the user's home where it does not begin at the root.
        say: Told what a person should know.
    """

    def __init__(
        self,
        line: Line,
        commands: Any,
        token: str,
        config: E2BConfig,
        work_dir: PurePosixPath,
        say: Callable[[str, str], None],
    ) -> None:
        self.pid: int | None = None
        self._line = line
        self._commands = commands
        self._token = token
        self._config = config
        self._work_dir = work_dir
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
            except Unreachable as exc:
                # Whether it was started is not known: one that waits for its first word is ended, and started anew.
                self._line.check()
                if (left_s := deadline_s - monotonic()) <= 0:
                    raise
                self._say(f"{exc}; it is tried again", "warning")
                self._line.patiently(self.kill, left_s)
        self.pid = transport.pid
        return transport

    def _opened(self, command: str) -> StreamTransport:
        return open_started(
            self._line,
            self._commands,
            command,
            {MARKER: self._token, **SURROUNDINGS},
            user=self._config.user,
            timeout_s=self._config.request_timeout_s,
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

    def connected(self, limit_s: float | None = None) -> StreamTransport:
        """
        Another stream of its output, open within `limit_s` where that is given.

        Raises:
            NothingThere: It is not there.
            SandboxError: It cannot be reached.
        """
        if self.pid is None:
            pids = self.pids()
            if not pids:
                raise NothingThere("there is no worker of this run in the sandbox")
            self.pid = pids[0]
        return open_connected(self._line, self._commands, self.pid, self._config.request_timeout_s, limit_s)

    def is_there(self) -> bool:
        """Whether it lives. Raises SandboxGone when the sandbox does not."""
        return bool(self.pids(LOOK_LIMIT_S))

    def pids(self, limit_s: float | None = None) -> list[int]:
        """Every process that shows the token and was started from outside."""
        limit_s = min(limit_s or self._config.request_timeout_s, self._config.request_timeout_s)
        listed = self._commands.list(request_timeout=limit_s)
        found = self._line.ask("processes", "the sandbox's processes cannot be listed", listed, limit_s=limit_s)
        return [int(item.pid) for item in found if item.envs.get(MARKER) == self._token]

    def end(self) -> None:
        """Have it end what is below it, which it does better than anybody; where it does not, it is killed."""
        if pids := " ".join(map(str, self.pids())):
            wait = f"for i in $(seq {END_LIMIT_S * 10}); do kill -0 {pids} 2>/dev/null || break; sleep 0.1; done"
            asked = self._commands.run(f"kill -TERM {pids}; {wait}", user=self._config.user)
            self._line.ask("end", "the worker cannot be ended", asked, grace_s=2.0 * END_LIMIT_S)
            self.kill()

    def kill(self) -> None:
        """No process of this run's is alive."""
        for pid in self.pids():
            self._line.ask("signal", "a worker cannot be killed", self._commands.kill(pid))


def shell_path(path: PurePosixPath) -> str:
    """A path as a shell in the sandbox takes it: what is relative begins at the user's home, as the SDK has it."""
    return quote(str(path)) if path.is_absolute() else f'"$HOME"/{quote(str(path))}'
