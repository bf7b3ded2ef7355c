"""The `command` driver of `engine: host`: the same driver, but its commands run in containers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar

from adapters.docker_engine.exec import CommandPlace, ContainerCommand, as_signal
from adapters.docker_engine.handshake import RECEIVER
from adapters.docker_engine.spec import SCRATCH, WORKSPACE_DIR
from osiris_core.driver import DriverRegistry
from osiris_core.drivers.command import CommandDriver
from osiris_core.errors import FailureClass, Problem, StepError, UnknownDriver

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import PurePath

    from osiris_core.drivers.command_config import CommandConfig
    from osiris_core.drivers.command_process import Finished
    from osiris_core.plan import StepPlan
    from osiris_core.step_context import StepContext

DRIVER = "command"
CANNOT_EXECUTE, NOT_FOUND = 126, 127


def driver_finder(place: CommandPlace, declared: Collection[str]) -> Callable[[str], type[Any]]:
    """What an engine asks for its drivers: `command`, executed in `place`, and nothing else."""
    members = {"place": place, "declared": frozenset(declared), "owners_change": place.config.user is not None}
    bound = type("CommandDriver", (ContainerCommandDriver,), members)

    def find(name: str) -> type[Any]:
        if name != DRIVER:
            raise UnknownDriver(_refusal(name))
        return bound

    return find


def other_drivers(steps: Sequence[StepPlan]) -> Iterator[Problem]:
    """Why a run of these steps cannot be had with `engine: host`."""
    for step in steps:
        if step.driver != DRIVER:
            yield Problem(_refusal(step.driver), step.id, "driver", hint="set engine: worker")


def _refusal(driver: str) -> str:
    DriverRegistry.get(driver)
    return f"driver '{driver}' is Python, and engine: host runs `command` steps only"


class ContainerCommandDriver(CommandDriver):
    """
    Runs commands in containers. `place` says where.

    PATH and HOME are the image's and the step's own, unless they were `declared`.
    """

    place: ClassVar[CommandPlace]
    declared: ClassVar[frozenset[str]] = frozenset()

    def execute(
        self,
        config: CommandConfig,
        argv: Sequence[str],
        cwd: PurePath,
        environment: Mapping[str, str],
        ctx: StepContext,
    ) -> Finished:
        own = self.declared | config.env.keys()
        environment = {
            name: value for name, value in environment.items() if name in own or name not in ("PATH", "HOME")
        }
        environment.setdefault("HOME", SCRATCH)
        workspace = None if config.workspace is None else Path(config.workspace)
        if workspace is not None:
            cwd = PurePosixPath(WORKSPACE_DIR, cwd.relative_to(workspace))
            environment |= {"PWD": str(cwd), "OSIRIS_WORK_DIR": str(cwd)}
        command = ContainerCommand(
            ctx, self.place, follow=config.log_output, keep=config.keep_output, workspace=workspace
        )
        try:
            finished = command.run(argv, cwd, environment, config.stdin)
        except ValueError as exc:
            raise StepError(f"{exc}, and the values of this run are secret", step_id=ctx.step_id) from exc
        if ctx.cancelled or finished.exit_code in config.success_exit_codes:
            return finished
        self._check_started(finished, argv, ctx)
        return replace(finished, exit_code=as_signal(finished.exit_code))

    def _check_started(self, finished: Finished, argv: Sequence[str], ctx: StepContext) -> None:
        """Raise the error of a program that did not come to life, as far as that can be told from its end."""
        words = finished.stderr_tail.strip().rpartition("\n")[2]
        by_init, by_shell = words.startswith("[FATAL tini"), f"exec: {argv[0]}: " in words
        if not (by_init or (by_shell and finished.exit_code in (CANNOT_EXECUTE, NOT_FOUND))):
            return
        program, image = ctx.redactor.text(argv[0]), self.place.image_name
        if by_init and f"exec {RECEIVER[0]} " in words and self.place.hides_values:
            message = (
                f"image {image} has no {RECEIVER[0]}, and the values of this run are secret: without a shell they could"
                " only be handed over where `docker inspect` shows them"
            )
        elif "Exec format error" in words:
            message = f"{program!r} cannot run on this processor, or lacks its first line (#!)"
        elif "ermission denied" in words:
            message = f"{program!r} is not executable in image {image}; set its x bit, or give its interpreter first"
        else:
            message = f"{program!r} was not found in image {image}"
        details = {"exit_code": finished.exit_code, "stderr_tail": finished.stderr_tail}
        raise StepError(message, step_id=ctx.step_id, failure_class=FailureClass.USER_ERROR, details=details)
