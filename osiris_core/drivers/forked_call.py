"""
Runs a Python callable in a forked child, as `command` runs a program: its own session, environment, working directory
and output, and the same end for all that it starts. What it changes in the caller's objects is lost with the child.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
import traceback
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TextIO

from pydantic import Field

from osiris_core.drivers.command import CommandDriver
from osiris_core.drivers.command_config import CommandConfig
from osiris_core.drivers.command_process import Child, CommandProcess
from osiris_core.drivers.log_handlers import between_log_lines, log_to
from osiris_core.errors import StepError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from osiris_core.drivers.command_process import Finished
    from osiris_core.step_context import StepContext


@dataclass
class Outcome:
    """What came of a call: `returned` and its value, or what it `raised`, as type and message."""

    returned: bool = False
    value: Any = None
    raised: tuple[str, str] | None = None


@dataclass
class Call:
    """A callable for one step, and what comes of it."""

    function: Callable[[], Any]
    outcome: Outcome = field(default_factory=Outcome)


class CallConfig(CommandConfig):
    """Settings of a call; a callable has no words."""

    secret: dict[str, Any] = Field(
        default_factory=dict, description="What the callable is given that is masked wherever it comes out."
    )


class ForkedCallDriver(CommandDriver):
    """The `command` driver for a callable of this process. Use `driver_of`."""

    Config = CallConfig
    call: ClassVar[Call]

    def failure(self, finished: Finished, ctx: StepContext) -> StepError:
        error = super().failure(finished, ctx)
        if self.call.outcome.raised is None:
            return error
        kind, message = self.call.outcome.raised
        words = ctx.redactor.text(f"{kind}: {message}" if message else kind)
        return StepError(words, step_id=ctx.step_id, failure_class=error.failure_class, details=error.details)

    def process(self, ctx: StepContext, config: CommandConfig) -> CommandProcess:
        return ForkedCall(ctx, self.call, follow=config.log_output, keep=config.keep_output)


def driver_of(call: Call) -> type[ForkedCallDriver]:
    """A driver that does nothing but this call."""
    return type("ForkedCallDriver", (ForkedCallDriver,), {"call": call, "__module__": __name__})


class ForkedCall(CommandProcess):
    """A command that is a callable. Its outcome is known when `run` returns."""

    def __init__(self, ctx: StepContext, call: Call, *, follow: bool, keep: bool = True) -> None:
        super().__init__(ctx, follow=follow, keep=keep)
        self._call = call
        self._answer = -1

    def run(self, argv: Sequence[str], cwd: Path, environment: Mapping[str, str], stdin: str | None) -> Finished:
        # A file, not a pipe: nobody has to read it while the child runs.
        self._call.outcome = Outcome()
        self._answer = os.memfd_create("outcome", os.MFD_CLOEXEC)
        try:
            finished = super().run(argv, cwd, environment, stdin)
            self._call.outcome = _answered(self._answer)
            return finished
        finally:
            os.close(self._answer)

    def _spawn(
        self,
        argv: Sequence[str],  # noqa: ARG002 - a callable has no words
        cwd: Path,
        environment: Mapping[str, str],
        stdin: int,
        alive: int,  # noqa: ARG002 - a fork has it anyway
    ) -> Child:
        cwd.stat()  # the error that `subprocess` would raise
        for stream in (sys.stdout, sys.stderr):  # what is buffered would come out twice
            if stream is not None:
                stream.flush()
        pipes = [os.pipe2(os.O_CLOEXEC) for _ in range(2)]
        source = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC) if stdin == subprocess.DEVNULL else stdin
        try:
            with warnings.catch_warnings(), between_log_lines():
                # That other threads are not there in the child is what the caller was told.
                warnings.simplefilter("ignore", DeprecationWarning)
                pid = os.fork()
            if pid == 0:
                self._be_child(cwd, environment, source, pipes[0][1], pipes[1][1])
        finally:
            for _, writing in pipes:
                os.close(writing)
            if source != stdin:
                os.close(source)
        return Child(pid, open(pipes[0][0], "rb", buffering=0), open(pipes[1][0], "rb", buffering=0))

    def _be_child(self, cwd: Path, environment: Mapping[str, str], stdin: int, stdout: int, stderr: int) -> NoReturn:
        code = 1
        try:
            os.setsid()
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
                signal.signal(number, signal.SIG_DFL)
            for source, target in ((stdin, 0), (stdout, 1), (stderr, 2)):
                os.dup2(source, target)
            sys.stdin = open(0, closefd=False)  # noqa: SIM115 - for as long as the child lives, as the next two
            before = {id(sys.stdout): _written_to(1), id(sys.stderr): _written_to(2)}
            log_to(before)
            sys.stdout, sys.stderr = before[id(sys.stdout)], before[id(sys.stderr)]
            os.chdir(cwd)
            _become(environment)
            code = self._do()
        except BaseException:  # noqa: BLE001 - nothing of this process may be left in the child, whatever it was
            traceback.print_exc()
        finally:
            os._exit(code)

    def _do(self) -> int:
        try:
            value = self._call.function()
        except SystemExit as exc:
            code = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
            _answer(self._answer, ("raised", "SystemExit", str(exc.code)) if code else ("returned", None))
            return code & 0xFF
        except BaseException as exc:  # noqa: BLE001 - it is told to whoever called
            traceback.print_exc()
            _answer(self._answer, ("raised", type(exc).__name__, str(exc)))
            return 1
        finally:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
        try:
            _answer(self._answer, ("returned", value))
        except Exception as exc:  # noqa: BLE001 - pickle raises what the value's own class does
            message = f"what it returned cannot be handed over: {exc}"
            print(message, file=sys.stderr, flush=True)  # noqa: T201 - the child's own output
            _answer(self._answer, ("raised", type(exc).__name__, message))
            return 1
        return 0


def _become(environment: Mapping[str, str]) -> None:
    """Have this environment and no other; what is the same already is left alone, as most of it is."""
    zone = os.environ.get("TZ")
    for name in set(os.environ) - environment.keys():
        del os.environ[name]
    for name, value in environment.items():
        if os.environ.get(name) != value:
            os.environ[name] = value
    if os.environ.get("TZ") != zone:
        time.tzset()


def _written_to(fd: int) -> TextIO:
    return open(fd, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)


def _answer(fd: int, answer: tuple[Any, ...]) -> None:
    data = memoryview(pickle.dumps(answer))
    while data:
        data = data[os.write(fd, data) :]


def _answered(fd: int) -> Outcome:
    os.lseek(fd, 0, os.SEEK_SET)
    with open(fd, "rb", closefd=False) as file:
        data = file.read()
    if not data:
        return Outcome()
    kind, *rest = pickle.loads(data)  # noqa: S301 - our own child wrote it, into a file that nobody else has
    if kind == "raised":
        return Outcome(raised=(rest[0], rest[1]))
    return Outcome(returned=True, value=rest[0])
