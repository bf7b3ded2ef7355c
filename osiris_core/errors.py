"""The one error tree: what went wrong, whose fault it is, and whether trying again can help."""

from __future__ import annotations

import errno
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


class FailureClass(StrEnum):
    """Why something failed, decided from evidence; the same words on every adapter and in retry policies."""

    USER_ERROR = "user_error"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    OUT_OF_MEMORY = "out_of_memory"
    RESOURCE_DENIED = "resource_denied"
    PREEMPTED = "preempted"
    INFRA_LOST = "infra_lost"
    PROTOCOL = "protocol"
    ADAPTER_BUG = "adapter_bug"


class OsirisError(Exception):
    """Base of every error this package raises on purpose."""

    failure_class: FailureClass = FailureClass.USER_ERROR


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a run, and where: a step, a key, a file with its line."""

    message: str
    step_id: str | None = None
    key: str | None = None
    file: str | None = None
    line: int | None = None
    hint: str | None = None

    def __str__(self) -> str:
        place = ""
        if self.file:
            place = f"{self.file}:{self.line}: " if self.line else f"{self.file}: "
        where = f"step '{self.step_id}'" if self.step_id else ""
        if self.key:
            where = f"{where}, {self.key}" if where else self.key
        hint = f" ({self.hint})" if self.hint else ""
        return f"{place}{where}{': ' if where else ''}{self.message}{hint}"

    def to_json(self) -> dict[str, Any]:
        """The fields that are set, as plain JSON."""
        return {name: value for name, value in asdict(self).items() if value is not None}


class PreparationError(OsirisError):
    """A run that cannot start. Carries every problem found, not only the first; nothing was started."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def __reduce__(self) -> tuple[type[PreparationError], tuple[list[Problem]]]:
        return type(self), (self.problems,)


class ManifestError(PreparationError):
    """A manifest, configuration or connection file that cannot be read as one."""


class ConfigError(PreparationError):
    """A driver or adapter configuration that does not fit its model."""


class JournalDamaged(PreparationError):
    """A line of a session's journal is no event: it cannot be told any more what happened there."""


class PhaseError(OsirisError):
    """A phase was asked for out of order; nothing was changed."""


class ExecutionError(OsirisError):
    """A run that started and did not complete. `step_id` names the first step that failed, if one did."""

    def __init__(
        self,
        message: str,
        *,
        step_id: str | None = None,
        failure_class: FailureClass | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.step_id = step_id
        self.details = details or {}
        if failure_class is not None:
            known = str(failure_class) in FailureClass._value2member_map_
            self.failure_class = FailureClass(failure_class) if known else FailureClass.USER_ERROR


class StepError(ExecutionError):
    """Raised by a driver to fail its step with a class of its own choosing and facts for the event."""


class RunCancelled(ExecutionError):
    """The run was cancelled from outside."""

    failure_class = FailureClass.CANCELLED


class RunTimeout(ExecutionError):
    """The run, or a step that decided it, used up its time."""

    failure_class = FailureClass.TIMEOUT


class NeverPlaced(ExecutionError):
    """A run whose controller died before anything of it ran. It can be run again."""

    failure_class = FailureClass.INFRA_LOST


class NotAttached(ExecutionError):
    """A run that cannot be taken over now, because its place cannot be asked. Nothing was changed; try again later."""

    failure_class = FailureClass.INFRA_LOST


class StepFenced(OsirisError):
    """This attempt was given up: it may publish nothing more. Raised inside the abandoned attempt only."""

    failure_class = FailureClass.CANCELLED


class CollectError(OsirisError):
    """An artifact exists but cannot be brought home."""

    failure_class = FailureClass.INFRA_LOST


class PublishError(CollectError):
    """A declared output cannot be copied to where it is published. What is in the way there is the user's to move."""

    failure_class = FailureClass.USER_ERROR

    def __init__(self, message: str, cause: Exception | None = None) -> None:
        super().__init__(message)
        if cause is not None:
            self.failure_class = classify(cause)


class TooLarge(CollectError):
    """What a run left is more than its limit allows to bring home."""

    failure_class = FailureClass.RESOURCE_DENIED


class NoRoom(CollectError):
    """The disk here is too small, or too full, for what a run left."""

    failure_class = FailureClass.RESOURCE_DENIED


class SealBroken(ExecutionError):
    """A manifest, configuration or input file changed between prepare and execute."""


class SessionBusy(OsirisError):
    """Another live process owns this session directory."""

    failure_class = FailureClass.RESOURCE_DENIED


class UnknownAdapter(OsirisError):
    """No adapter of that name is registered."""


class AdapterNotInstalled(OsirisError):
    """The adapter exists, but an optional package that it needs is not installed."""


class AdapterClash(OsirisError):
    """Two sources claim one adapter name, or one claims a built-in name."""


class UnknownDriver(OsirisError):
    """No driver of that name is registered."""


class DriverNotInstalled(UnknownDriver):
    """The driver's module is here, and a package that it needs is not."""


_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """A disk that is full within is one of `path`: of a file that is open already, the system does not say which."""
    try:
        yield
    except OSError as exc:
        if exc.errno in _DISK and exc.filename is None:
            exc.filename = str(path)
        raise


_LOST = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN}
_DENIED = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.EROFS}


def classify(error: BaseException) -> FailureClass:
    """
    The failure class of any exception that came out of a step.

    Our own errors know theirs; of the others only what the evidence carries is claimed: memory, a denied
    resource, a connection that broke or did not answer. The rest is the user's.
    """
    if isinstance(error, OsirisError):
        return error.failure_class
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryException":
        return FailureClass.OUT_OF_MEMORY
    if isinstance(error, (ConnectionError, TimeoutError)) or (isinstance(error, OSError) and error.errno in _LOST):
        return FailureClass.INFRA_LOST
    if isinstance(error, OSError) and error.errno in _DENIED:
        return FailureClass.RESOURCE_DENIED
    return FailureClass.USER_ERROR
