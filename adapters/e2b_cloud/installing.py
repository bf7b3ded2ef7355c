"""The worker's packages installed in a sandbox for one run, over a line that may break meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from e2b import CommandExitException

from adapters.e2b_cloud.errors import NothingThere
from adapters.e2b_cloud.packages import FOUND, INSTALL_LIMIT_S, install_command, why_not
from adapters.e2b_cloud.patience import PATIENCE_S, Tries
from osiris_core.errors import FailureClass
from remote.sandbox import SandboxError, Unreachable

if TYPE_CHECKING:
    from adapters.e2b_cloud.creation import Wanted
    from adapters.e2b_cloud.line import Line

WHAT = "the worker's packages cannot be installed in the sandbox"


class Installation:
    """The command that installs is followed to its end, wherever the stream of its output breaks."""

    def __init__(self, line: Line, sandbox: Any, wanted: Wanted, template: str) -> None:
        self._line = line
        self._commands = sandbox.commands
        self._wanted = wanted
        self._template = template
        self._command = install_command(f"osiris-packages-{wanted.token[:12]}", wanted.requirements)
        self._begin()

    def _begin(self) -> None:
        self._pid: int | None = None
        self._said: list[str] = []
        self._errors: list[str] = []
        self._has_missed = False

    def python(self) -> str:
        """
        The interpreter that has the packages.

        Raises:
            SandboxError: They cannot be installed, or the sandbox cannot be reached.
        """
        code = self._ended()
        if self._has_missed and code in (0, None):  # what it found was said to nobody; again it only looks
            self._begin()
            code = self._ended()
        text = "".join(self._said)
        if code != 0 or FOUND not in text:
            said = self._line.account.redactor.text("".join(self._errors))
            message = why_not(-1 if code is None else code, self._template, said)
            raise SandboxError(message, failure_class=FailureClass.USER_ERROR)
        return text.rpartition(FOUND)[2].strip().splitlines()[0]

    def _ended(self) -> int | None:
        """Its exit code; None when it ended while nobody listened, and that was not kept."""
        tries = Tries(PATIENCE_S, self._line.heed(WHAT))
        while True:
            try:
                return self._line.ask("install" if self._pid is None else "connect", WHAT, self._followed())
            except NothingThere:
                if self._pid is None:
                    raise
                return None
            except Unreachable:
                if self._pid is None or not tries.pause():
                    raise
                self._has_missed = True

    async def _followed(self) -> int:
        heard = {"on_stdout": self._said.append, "on_stderr": self._errors.append}
        if self._pid is None:
            handle = await self._commands.run(
                self._command,
                background=True,
                user=self._wanted.user,
                timeout=INSTALL_LIMIT_S,
                retain_output=False,
                **heard,
            )
            self._pid = int(handle.pid)
        else:
            handle = await self._commands.connect(self._pid, timeout=INSTALL_LIMIT_S, retain_output=False, **heard)
        try:
            return int((await handle.wait()).exit_code)
        except CommandExitException as exc:
            return int(exc.exit_code)
