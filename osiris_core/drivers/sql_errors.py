"""What a database said, as the failure of a step: whose fault it is, and what to do. Shared by all families."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from osiris_core.container import in_container
from osiris_core.errors import FailureClass, StepError
from osiris_core.suggestion import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from osiris_core.drivers.sql_connection import SqlConnection
    from osiris_core.step_context import StepContext

MIN_HIDDEN_CHARS = 3
"""A shorter secret would take the message with it; no client library is known to show one."""
CONTAINER_HINT = (
    "; in a container, as here, {host} is the container itself: write host.docker.internal and let the server listen "
    "on Docker's bridge, or mount the folder of its socket (docs/databases.md)"
)


class DatabaseFailed(Exception):
    """
    What a client library raised, in our words. The step's code turns it into a `StepError`.

    Attributes:
        code: The server's own: an SQLSTATE or an error number; empty for what the client found.
        position: Where in the statement, in characters from 1.
    """

    def __init__(
        self,
        message: str,
        failure_class: FailureClass = FailureClass.USER_ERROR,
        *,
        code: str = "",
        remedy: str = "",
        position: int | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.failure_class = failure_class
        self.code = code
        self.remedy = remedy
        self.position = position
        self.details = details or {}

    @property
    def is_lost(self) -> bool:
        return self.failure_class is FailureClass.INFRA_LOST

    def with_remedy(self, remedy: str) -> DatabaseFailed:
        self.remedy = remedy
        return self

    def __str__(self) -> str:
        message = str(self.args[0])
        return f"{message}; {self.remedy}" if self.remedy else message


@dataclass(frozen=True)
class Meaning:
    """What a code of a server means for a run."""

    failure_class: FailureClass
    remedy: str = ""


@contextmanager
def failures_of_step(step_id: str, ctx: StepContext, statement: str | None = None) -> Iterator[None]:
    """
    Inside, what a database refuses fails the step, with its class, its remedy, and the place in `statement`.

    The client library's own exception is not chained: its text is in ours, and it may hold what was sent.

    Raises:
        StepError: As said.
        RunCancelled, RunTimeout: The step was asked to stop, and the statement ended because of that.
    """
    try:
        yield
    except DatabaseFailed as exc:
        ctx.raise_if_cancelled()
        message, details = str(exc), {"code": exc.code, **exc.details} if exc.code else dict(exc.details)
        if statement is not None and exc.position is not None:
            line, column = line_and_column(statement, exc.position)
            message = f"query, line {line}, column {column}: {message}"
            details |= {"line": line, "column": column}
        raise StepError(message, step_id=step_id, failure_class=exc.failure_class, details=details) from None


def line_and_column(statement: str, position: int) -> tuple[int, int]:
    """Where a character, counted from 1, stands in a text of several lines; both from 1."""
    before = statement[: max(0, position - 1)]
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


def cannot_connect(connection: SqlConnection, message: str, meaning: Meaning, code: str = "") -> DatabaseFailed:
    """No connection could be made; in a container, why the loopback address is of no use."""
    remedy = meaning.remedy
    if meaning.failure_class is FailureClass.INFRA_LOST and connection.is_loopback and in_container():
        remedy += CONTAINER_HINT.format(host=connection.host)
    said = hidden(message, connection)
    return DatabaseFailed(
        f"no connection to {connection.describe()}: {said}", meaning.failure_class, code=code, remedy=remedy
    )


def hidden(message: str, connection: SqlConnection) -> str:
    """A client library's text without the connection's secrets, on one line."""
    for secret in sorted(connection.secrets, key=len, reverse=True):
        if len(secret) >= MIN_HIDDEN_CHARS:
            message = message.replace(secret, "***")
    return " ".join(message.split())


def no_such_column(name: str, known: Iterable[str], table: str) -> DatabaseFailed:
    known = list(known)
    hint = did_you_mean(name, known) or f"it has: {', '.join(known[:30])}"
    return DatabaseFailed(f"table {table} has no column {name!r}; {hint}", details={"column": name})
