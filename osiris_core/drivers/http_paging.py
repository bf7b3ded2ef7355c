"""How an interface says that there is more, and how the next page is asked for. Does no I/O."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, field_validator

from osiris_core.drivers.json_path import NoSuchPath, find, find_or_none, parse_path
from osiris_core.errors import FailureClass

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from osiris_core.drivers.http_client import Answer


@dataclass(frozen=True)
class Turn:
    """What differs between one page's request and another's: parameters, or the whole address."""

    parameters: Mapping[str, Any] = field(default_factory=dict)
    url: str | None = None


@dataclass(frozen=True)
class Page:
    """One answer, and the records in it."""

    answer: Answer
    value: Any
    records: list[Any]


class BadPaging(ValueError):
    """There is no way to go on: the answer does not say how, though it should, or the settings do not allow it."""

    def __init__(self, message: str, failure_class: FailureClass = FailureClass.PROTOCOL) -> None:
        super().__init__(message)
        self.failure_class = failure_class


class Pager(Protocol):
    """Turns pages. One for each reading."""

    def first(self) -> Turn:
        """What the first request has."""
        ...

    def after(self, page: Page) -> Turn | None:
        """
        What the request for the page behind `page` has; None when that was the last one.

        Raises:
            BadPaging: It cannot be told.
        """
        ...


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class _InRequest(_Settings):
    into: Literal["query", "body"] = Field(
        default="query", description="Where the parameters go: the query, or the top level of a JSON body."
    )


class _Counted(_InRequest):
    same_page: Literal["error", "accept"] = Field(
        default="error",
        description="What two equal pages in a row are: a server that does not turn them, or records that are equal.",
    )


class CursorPagination(_InRequest):
    """The answer holds a mark, which the next request gives back."""

    type: Literal["cursor"] = Field(description="Selects this kind.")
    cursor_path: str = Field(min_length=1, description="Where the answer has the mark of the next page.")
    parameter: str = Field(default="cursor", min_length=1, description="What the mark is called in the request.")
    has_more_path: str | None = Field(
        default=None, description="Where the answer says whether there is more; without it: whether there is a mark."
    )

    @field_validator("cursor_path", "has_more_path", mode="after")
    @classmethod
    def _is_path(cls, value: str | None) -> str | None:
        parse_path(value or "")
        return value


class PagePagination(_Counted):
    """Pages are numbered; the first one without records ends it."""

    type: Literal["page"] = Field(description="Selects this kind.")
    parameter: str = Field(default="page", min_length=1, description="What the number is called in the request.")
    first: int = Field(default=1, ge=0, description="The number of the first page.")
    size_parameter: str | None = Field(default=None, min_length=1, description="What the page's size is called.")
    size: int | None = Field(default=None, ge=1, description="How many records to ask for at a time.")


class OffsetPagination(_Counted):
    """Records are counted: the next request begins behind those that came. One without records ends it."""

    type: Literal["offset"] = Field(description="Selects this kind.")
    parameter: str = Field(default="offset", min_length=1, description="What the count is called in the request.")
    size_parameter: str = Field(default="limit", min_length=1, description="What the page's size is called.")
    size: int = Field(default=100, ge=1, description="How many records to ask for at a time; fewer may come.")


class LinkPagination(_Settings):
    """The answer has a `Link` header (RFC 8288)."""

    type: Literal["link"] = Field(description="Selects this kind.")
    rel: str = Field(default="next", min_length=1, description="The relation of the next page.")


class NextUrlPagination(_Settings):
    """The answer's body has the address of the next page."""

    type: Literal["next_url"] = Field(description="Selects this kind.")
    path: str = Field(min_length=1, description="Where the address is, as in `links.next`.")

    @field_validator("path", mode="after")
    @classmethod
    def _is_path(cls, value: str) -> str:
        parse_path(value)
        return value


Pagination = Annotated[
    CursorPagination | PagePagination | OffsetPagination | LinkPagination | NextUrlPagination,
    Field(discriminator="type"),
]


class OnePage:
    """There is one answer and no more."""

    def first(self) -> Turn:
        return Turn()

    def after(self, page: Page) -> Turn | None:  # noqa: ARG002 - the protocol's
        return None


class CursorPager:
    """`strict`: an answer without a place for the mark is an error, and not the last page."""

    def __init__(
        self, cursor_path: str, parameter: str, has_more_path: str | None = None, *, strict: bool = False
    ) -> None:
        self._cursor_path = cursor_path
        self._cursor = parse_path(cursor_path)
        self._has_more = parse_path(has_more_path) if has_more_path else None
        self._parameter = parameter
        self._strict = strict

    def first(self) -> Turn:
        return Turn()

    def after(self, page: Page) -> Turn | None:
        more = None
        if self._has_more is not None:
            more = find_or_none(page.value, self._has_more)
            if more is False or (more is None and not self._strict):
                return None
        try:
            cursor = find(page.value, self._cursor)
        except NoSuchPath as exc:
            if self._strict or more:
                raise BadPaging(f"{exc}; the mark of the next page was looked for at {self._cursor_path}") from None
            return None
        if cursor is None or cursor == "" or cursor is False:
            if more:
                raise BadPaging(f"the answer says that there is more, and has no mark at {self._cursor_path}")
            return None
        if not isinstance(cursor, (str, int, float)):
            raise BadPaging(f"what stands at {self._cursor_path} is no text or number")
        return Turn({self._parameter: cursor})


class CountPager:
    """Counts pages, or with `by_records` the records that came. `same_page`: whether a page may be as the last one."""

    def __init__(
        self, parameter: str, start: int, always: Mapping[str, Any], *, by_records: bool, same_page: bool
    ) -> None:
        self._parameter = parameter
        self._next = start
        self._always = always
        self._by_records = by_records
        self._same_page = same_page
        self._last = b""

    def first(self) -> Turn:
        return Turn({**self._always, self._parameter: self._next})

    def after(self, page: Page) -> Turn | None:
        # A short page is no end: servers give fewer than asked for when they like.
        if not page.records:
            return None
        if not self._same_page:
            body = hashlib.sha256(page.answer.body).digest()
            if body == self._last:
                raise BadPaging(
                    "this page is the same as the page before; the server does not turn pages as it is asked, or its "
                    "records are equal: then set same_page: accept"
                )
            self._last = body
        self._next += len(page.records) if self._by_records else 1
        return self.first()


class AddressPager:
    """Follows the address that the answer gives."""

    def __init__(self, address_of: Callable[[Page], Any]) -> None:
        self._address_of = address_of

    def first(self) -> Turn:
        return Turn()

    def after(self, page: Page) -> Turn | None:
        url = self._address_of(page)
        if url is not None and not isinstance(url, str):
            raise BadPaging("what should be the address of the next page is no text")
        return Turn(url=url) if url else None


def pager_of(settings: Pagination | None) -> Pager:
    """The pager for these settings; without any there is one page."""
    if settings is None:
        return OnePage()
    if isinstance(settings, CursorPagination):
        return CursorPager(settings.cursor_path, settings.parameter, settings.has_more_path)
    same_page = isinstance(settings, _Counted) and settings.same_page == "accept"
    if isinstance(settings, PagePagination):
        always = {settings.size_parameter: settings.size} if settings.size_parameter and settings.size else {}
        return CountPager(settings.parameter, settings.first, always, by_records=False, same_page=same_page)
    if isinstance(settings, OffsetPagination):
        always = {settings.size_parameter: settings.size}
        return CountPager(settings.parameter, 0, always, by_records=True, same_page=same_page)
    if isinstance(settings, LinkPagination):
        return AddressPager(lambda page: page.answer.links.get(settings.rel))
    path = parse_path(settings.path)
    return AddressPager(lambda page: find_or_none(page.value, path))
