"""Reads every page of an interface into a table: what all drivers that read over HTTP have in common."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from osiris_core.drivers.http_client import HttpClient
from osiris_core.drivers.http_errors import Aborted, HttpFailure, snippet
from osiris_core.drivers.http_paging import BadPaging, Page
from osiris_core.drivers.json_exact import NotJson, read_json
from osiris_core.drivers.json_path import NoSuchPath, Step, find
from osiris_core.drivers.json_table import BadRecord
from osiris_core.errors import FailureClass, RunCancelled, StepError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from osiris_core.drivers.http_client import Answer, HttpLimits, Request
    from osiris_core.drivers.http_connection import ApiConnection
    from osiris_core.drivers.http_paging import Pager, Turn
    from osiris_core.drivers.json_table import RecordTable
    from osiris_core.step_context import StepContext


@dataclass(frozen=True)
class Reading:
    """
    What to read and how far.

    Attributes:
        request: The request for a turn.
        check: Looks at the parsed answer, and raises for an error that it tells.
        max_pages: None for no limit; with `stop_at_max` the rest is left, otherwise that there is more is an error.
    """

    request: Callable[[Turn], Request]
    pager: Pager
    data_path: list[Step]
    decimals: bool = False
    max_pages: int | None = None
    stop_at_max: bool = False
    check: Callable[[Any, str], object] | None = None


@contextmanager
def http_client(
    connection: ApiConnection, limits: HttpLimits, ctx: StepContext, step_id: str, ca_file: str | None = None
) -> Iterator[HttpClient]:
    """
    A client for one step: it ends with a cancel of the step, and tells of every try and of how many requests it made.

    A cancelled request comes out as the cancel or timeout of the step.
    """

    def on_retry(failure: HttpFailure, number: int, delay_s: float) -> None:
        ctx.log(f"{failure}; try {number} in {delay_s:.1f} s", level="warning")

    if not connection.validate_ssl:
        ctx.log("validate_ssl is false: whoever stands between can read and change everything", level="warning")
    with HttpClient(connection, limits, ctx.redactor, ca_file=ca_file, on_retry=on_retry) as client:
        ctx.on_cancel(client.cancel)
        try:
            yield client
        except Aborted:
            ctx.raise_if_cancelled()
            raise RunCancelled("the request was given up", step_id=step_id) from None
        except StepError as exc:
            exc.step_id = exc.step_id or step_id
            raise
        finally:
            if not ctx.cancelled:
                ctx.metric("http_requests", client.requests)


def read_pages(client: HttpClient, reading: Reading, table: RecordTable, ctx: StepContext) -> int:
    """
    Put the records of every page into `table`; how many pages there were.

    Raises:
        HttpFailure: A request failed, an answer is no JSON or has no records where they should be, pages go round in a
            circle, or there are more than `max_pages`.
        Aborted: The step is to stop.
    """
    turn: Turn | None = reading.pager.first()
    seen: set[bytes] = set()
    pages = 0
    while turn is not None:
        ctx.raise_if_cancelled()
        request = reading.request(turn)
        where = client.where(request)
        key = hashlib.sha256(f"{request.url}\0".encode() + (request.body or b"")).digest()[:16]
        if key in seen:
            raise _wrong(f"{where}: pages go round in a circle: page {pages + 1} was asked for before", where)
        seen.add(key)
        page = _fetch(client, request, where, reading, ctx)
        pages += 1
        try:
            table.add(page.records)
        except BadRecord as exc:
            raise HttpFailure(f"{where}: {exc}", failure_class=FailureClass.USER_ERROR) from exc
        ctx.progress(table.num_rows)
        try:
            turn = reading.pager.after(page)
        except BadPaging as exc:
            raise HttpFailure(f"{where}: {exc}", failure_class=exc.failure_class) from exc
        if turn is not None and pages == reading.max_pages:
            message = f"there are more than {pages} pages"
            if not reading.stop_at_max:
                raise HttpFailure(f"{where}: {message}; raise max_pages", failure_class=FailureClass.USER_ERROR)
            ctx.log(f"{message}; max_pages says not to read further", level="warning")
            turn = None
    return pages


def _fetch(client: HttpClient, request: Request, where: str, reading: Reading, ctx: StepContext) -> Page:
    parsed: list[Any] = []

    def parse(answer: Answer) -> None:
        parsed[:] = [_parse(answer, where, reading, ctx)]
        if reading.check is not None:
            reading.check(parsed[0], where)

    answer = client.fetch(request, parse)
    (value,) = parsed
    try:
        found = find(value, reading.data_path)
    except NoSuchPath as exc:
        message = f"{where}: data_path leads nowhere: {exc}"
        raise HttpFailure(message, failure_class=FailureClass.USER_ERROR) from exc
    if found is None:
        return Page(answer, value, [])
    if not isinstance(found, (list, dict)):
        message = f"{where}: what is at data_path is neither a list nor an object, but {str(found)[:60]!r}"
        raise HttpFailure(message, failure_class=FailureClass.USER_ERROR)
    return Page(answer, value, found if isinstance(found, list) else [found])


def _parse(answer: Answer, where: str, reading: Reading, ctx: StepContext) -> Any:
    if not answer.body.strip() and answer.status in (204, 205):
        return None
    try:
        return read_json(answer.body, decimals=reading.decimals)
    except NotJson as exc:
        text = snippet(answer.body, ctx.redactor)
        kind = answer.headers.get("content-type", "no content type")
        message = f"{where}: the answer ({kind}) is no JSON: {exc}" + (f"; it begins: {text[:200]}" if text else "")
        raise HttpFailure(message, failure_class=FailureClass.PROTOCOL, details={"request": where}) from None


def _wrong(message: str, where: str) -> HttpFailure:
    return HttpFailure(message, failure_class=FailureClass.PROTOCOL, details={"request": where})
