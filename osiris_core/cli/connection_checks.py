"""Every connection of a file, really tried: does it answer, and does it let us in. Shows no secret."""

from __future__ import annotations

import threading
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osiris_core.cli.catalogue import drivers
from osiris_core.cli.check import Check
from osiris_core.connections import ConnectionBook
from osiris_core.errors import DriverNotInstalled, Problem
from osiris_core.lifting import connection_models, marked_in_connection
from osiris_core.redaction import Redactor
from osiris_core.secret_sources import find_value, how_to_give
from osiris_core.secrets import references, substitute

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

GRACE_S = 2.0
"""How much longer than its time a check may take before it is given up."""
AT_A_TIME = 8


def check_connections(file: str | None, timeout_s: float) -> list[Check]:
    """
    One check for each `@family.alias`, in the order of their names, whatever became of the others.

    Raises:
        ManifestError: The file is missing or not well formed.
    """
    book = ConnectionBook.find(file, Path.cwd())
    if not book.names():
        return [Check("connections", "note", f"no connection in {book.file}" if book.file else "no connections file")]
    drivers = _checking_drivers()
    slots = threading.BoundedSemaphore(AT_A_TIME)
    waiting = [(name, _begin(name, book, drivers, timeout_s, slots)) for name in book.names()]
    return [begun if isinstance(begun, Check) else begun.result() for _, begun in waiting]


def _checking_drivers() -> dict[str, type[Any]]:
    """The driver that checks the connections of each family."""
    found: dict[str, type[Any]] = {}
    for entry in drivers().entries():
        family = getattr(entry.cls, "connection_family", None)
        if entry.cls is not None and family is not None and callable(getattr(entry.cls, "check_connection", None)):
            found.setdefault(family, entry.cls)
    return found


class _Attempt:
    """One connection being tried, in a thread that nobody has to wait for: a client library may hang."""

    def __init__(self, name: str, check: Callable[[], Check], timeout_s: float, slots: threading.Semaphore) -> None:
        self._name = name
        self._check = check
        self._timeout_s = timeout_s
        self._slots = slots
        self._answer: Future[Check] = Future()
        threading.Thread(target=self._wait, name=f"osiris-checks-{name}", daemon=True).start()

    def _wait(self) -> None:
        """Wait for a place, and then so long for an answer; the place is somebody else's when it is given up."""
        with self._slots:
            ended = threading.Event()
            threading.Thread(target=self._work, args=(ended,), name=f"osiris-check-{self._name}", daemon=True).start()
            ended.wait(self._timeout_s + GRACE_S)
        with suppress(InvalidStateError):
            self._answer.set_result(Check(self._name, "broken", f"did not answer within {self._timeout_s:g} s"))

    def _work(self, ended: threading.Event) -> None:
        with suppress(InvalidStateError):  # given up meanwhile
            self._answer.set_result(self._check())
        ended.set()

    def result(self) -> Check:
        return self._answer.result()


def _begin(
    name: str, book: ConnectionBook, drivers: Mapping[str, type[Any]], timeout_s: float, slots: threading.Semaphore
) -> Check | _Attempt:
    """What is wrong before anything is reached, or the attempt to reach it."""
    family = name[1:].partition(".")[0]
    driver = drivers.get(family)
    if driver is None:
        return Check(name, "note", f"no driver here knows how to check a connection of family '{family}'")
    connection = book.get(name, marked_in_connection(driver))
    values: dict[str, str] = dict(book.lifted)
    for variable, default in references(connection):
        found = None if variable in values else find_value(variable)
        if found is not None:
            values[variable] = found
        elif variable not in values and default is None:
            message = f"{book.file}:{book.line_of(name)}: the variable {variable} is not set"
            return Check(name, "broken", message, how_to_give(variable, to_run=False))
    given = substitute(connection, values)
    redactor = Redactor(values.values())
    return _Attempt(name, lambda: _check(name, driver, given, timeout_s, redactor, book), timeout_s, slots)


def _check(
    name: str, driver: type[Any], given: dict[str, Any], timeout_s: float, redactor: Redactor, book: ConnectionBook
) -> Check:
    try:
        return Check(name, "ok", redactor.text(str(driver.check_connection(given, timeout_s))))
    except DriverNotInstalled as exc:
        return Check(name, "note", redactor.text(str(exc)))
    except Exception as exc:  # noqa: BLE001 - whatever it is, it is this connection's
        return Check(name, "broken", redactor.text(_words(exc, book, name, driver, given)))


def _words(error: Exception, book: ConnectionBook, name: str, driver: type[Any], given: dict[str, Any]) -> str:
    from pydantic import ValidationError

    from osiris_core.pydantic_words import findings

    if not isinstance(error, ValidationError):
        return str(error) or type(error).__name__
    found = []
    for item in findings(error, given, next(iter(connection_models(driver)), None)):
        line = book.line_of(name, item.path) or book.line_of(name)
        found.append(str(Problem(item.message, key=item.key or None, file=book.file, line=line, hint=item.hint)))
    return "; ".join(found)
