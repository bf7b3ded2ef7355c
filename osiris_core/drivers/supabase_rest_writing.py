"""
Rows into a table over the REST interface: as much all or nothing as it allows.

One request is one transaction there, and nothing spans two. So all rows go in one request, unless `partial_ok` says
that parts may stay. What a lost answer leaves open is decided by the keys of the rows, never by sending them blindly.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from osiris_core.drivers.http_address import below, with_parameters
from osiris_core.drivers.http_client import HttpClient, Request
from osiris_core.drivers.http_errors import HttpFailure
from osiris_core.drivers.json_rows import NoJsonType, json_rows
from osiris_core.errors import FailureClass, StepError
from osiris_core.suggestion import did_you_mean
from osiris_core.tables import SpilledTable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from osiris_core.drivers.supabase_config import SupabaseWriterConfig
    from osiris_core.step_context import StepContext
    from osiris_core.tables import Table

KEYS_AT_A_TIME = 50
"""How many keys fit an address with room to spare."""
_COUNT = re.compile(r"(?:\*|\d+-\d+)/(\d+)")


@dataclass(frozen=True)
class Part:
    """What one request carries: its rows, and the keys that tell them apart, where there are any."""

    body: bytes
    num_rows: int
    keys: list[tuple[str, ...]]


class RestWriting:
    """One writing of one table, in one try of a step."""

    def __init__(
        self, client: HttpClient, base: str, config: SupabaseWriterConfig, table: Table, ctx: StepContext
    ) -> None:
        self._client = client
        self._config = config
        self._table = table
        self._ctx = ctx
        self._url = below(base, config.table)
        self._done = 0
        self._names = list(table.schema.names)

    def run(self) -> int:
        """
        Write every row; how many the server counted.

        Raises:
            StepError: With what is in the table now, where that is not nothing.
        """
        config = self._config
        for name in config.primary_key or ():
            if name not in self._names:
                hint = did_you_mean(name, self._names) or f"it has: {', '.join(self._names[:20])}"
                raise _user(f"primary_key: the input has no column {name!r} ({hint})")
        is_repeated = self._ctx.attempt > 1 and config.write_mode == "append"
        if is_repeated and not config.primary_key:
            raise _user(
                "rows were perhaps written by an earlier try, and without primary_key nobody can tell which: look at "
                "the table, then run again; with primary_key, or write_mode upsert, a repeated try is safe"
            )
        parts = self._parts()
        if not config.partial_ok:
            # Made before anything is sent, so that a value without JSON, or too many rows, leave the table as it was.
            parts = iter(list(parts))
        if config.write_mode == "replace":
            self._empty()
        for part in parts:
            self._ctx.raise_if_cancelled()
            if not (is_repeated and self._is_there(part)):
                self._send(part)
            self._ctx.progress(self._done, self._table.num_rows)
        return self._done

    def _parts(self) -> Iterator[Part]:
        config = self._config
        rows = self._rows()
        while batch := list(islice(rows, config.batch_size if config.partial_ok else None)):
            size_bytes = sum(len(text) for text, _ in batch)
            body = (
                f"[{','.join(text for text, _ in batch)}]".encode() if size_bytes <= config.max_request_bytes else b""
            )
            if not body or len(body) > config.max_request_bytes:
                remedy = "smaller batch_size" if config.partial_ok else "partial_ok: true (several requests)"
                raise _user(
                    f"{len(batch)} rows are more than max_request_bytes ({config.max_request_bytes}) in one request; "
                    f"raise it, set {remedy}, or give the connection pg_dsn: the server takes any number, all or none"
                )
            yield Part(body, len(batch), [key for _, key in batch])

    def _rows(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        limit_bytes, size_bytes = self._config.max_request_bytes, 0
        table = self._table
        for batch in table.iter_batches() if isinstance(table, SpilledTable) else table.to_batches():
            keys = self._keys(batch)
            try:
                for text, key in zip(json_rows(batch), keys, strict=True):
                    size_bytes += len(text)
                    yield text, key
                    if not self._config.partial_ok and size_bytes > limit_bytes:
                        return  # enough to know that it is too much
            except NoJsonType as exc:
                raise _user(str(exc)) from exc

    def _keys(self, batch: Any) -> list[tuple[str, ...]]:
        names = self._config.primary_key or []
        if not names:
            return [()] * batch.num_rows
        for name in names:
            if batch.column(name).null_count:
                raise _user(f"primary_key: column {name!r} is null in a row, which nothing can find then; leave it out")
        texts = json_rows(batch.select(names))
        # As the server shows them in its answers: a text as it is, the rest as JSON.
        return [tuple(_shown(value) for value in json.loads(text, parse_float=str).values()) for text in texts]

    def _send(self, part: Part) -> None:
        config = self._config
        by_key = config.write_mode == "upsert" or (config.write_mode == "replace" and bool(config.primary_key))
        parameters = [("columns", ",".join(f'"{name}"' for name in self._names))]
        prefer = ["return=minimal", "count=exact"]
        if by_key:
            parameters.append(("on_conflict", ",".join(config.primary_key or ())))
            ignore = config.prefer == "resolution=ignore-duplicates"
            prefer.append("resolution=ignore-duplicates" if ignore else "resolution=merge-duplicates")
        request = Request(
            with_parameters(self._url, parameters),
            "POST",
            {"Content-Type": "application/json", "Content-Profile": config.schema_, "Prefer": ",".join(prefer)},
            part.body,
            idempotent=by_key,
        )
        for left in range(config.retries, -1, -1):
            try:
                answer = self._client.fetch(request)
            except HttpFailure as exc:
                if not exc.maybe_done or config.write_mode != "append":
                    raise self._told(exc, part) from exc
                if not config.primary_key:
                    raise self._open(exc, part) from exc
                if self._is_there(part):
                    return
                if not left:
                    raise self._told(exc, part) from exc
                self._ctx.log(f"{exc}; its rows are not there, so they are sent again", level="warning")
            else:
                self._done += _counted(answer.headers, part.num_rows)
                return

    def _is_there(self, part: Part) -> bool:
        """
        Whether the rows of a part are in the table. One request is one transaction: all of them are, or none.

        Raises:
            StepError: Some are: those were there before, and ours never will be.
        """
        found = 0
        for start in range(0, part.num_rows, KEYS_AT_A_TIME):
            keys = part.keys[start : start + KEYS_AT_A_TIME]
            url = with_parameters(self._url, [*self._key_filter(keys), ("limit", str(len(keys)))])
            answer = self._client.fetch(Request(url, headers={"Accept-Profile": self._config.schema_}))
            found += len(json.loads(answer.body))
        if found == 0:
            return False
        if found < part.num_rows:
            raise _user(
                f"{found} of {part.num_rows} rows have a primary_key that is in the table already; write_mode upsert "
                "changes such rows"
            )
        self._done += found
        return True

    def _key_filter(self, keys: list[tuple[str, ...]]) -> list[tuple[str, str]]:
        names = self._config.primary_key or []
        select = ("select", ",".join(names))
        if len(names) == 1:
            return [select, (names[0], f"in.({','.join(_quoted(key[0]) for key in keys)})")]
        each = (
            "and(" + ",".join(f"{name}.eq.{_quoted(value)}" for name, value in zip(names, key, strict=True)) + ")"
            for key in keys
        )
        return [select, ("or", f"({','.join(each)})")]

    def _empty(self) -> None:
        """Remove every row; the columns of the input are asked for before, so that a wrong name leaves them alone."""
        profile = {"Accept-Profile": self._config.schema_, "Content-Profile": self._config.schema_}
        columns = ",".join(f'"{name}"' for name in self._names)
        self._client.fetch(Request(with_parameters(self._url, [("select", columns), ("limit", "0")]), headers=profile))
        name = (self._config.primary_key or self._names)[0]
        everything = [("or", f"({name}.is.null,{name}.not.is.null)")]
        self._client.fetch(
            Request(with_parameters(self._url, everything), "DELETE", {**profile, "Prefer": "return=minimal"})
        )

    def _told(self, failure: HttpFailure, part: Part) -> StepError:
        """The failure, with what is in the table where that is not nothing."""
        if not self._done and self._config.write_mode != "replace":
            return failure
        again = self._config.write_mode == "append"
        return StepError(
            f"{failure}; {self._done} rows were written before, and of the next {part.num_rows} none",
            # Trying again would write the earlier ones twice.
            failure_class=FailureClass.USER_ERROR if again and not self._config.primary_key else failure.failure_class,
            details=failure.details,
        )

    def _open(self, failure: HttpFailure, part: Part) -> StepError:
        return StepError(
            f"{failure}; {self._done} rows were written before, and whether these {part.num_rows} were is not known: "
            "look at the table before you run it again. With primary_key, or write_mode upsert, it would be asked",
            failure_class=FailureClass.USER_ERROR,
            details=failure.details,
        )


def _counted(headers: Mapping[str, str], sent: int) -> int:
    match = _COUNT.fullmatch(headers.get("content-range", ""))
    return int(match[1]) if match else sent


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _user(message: str) -> StepError:
    return StepError(message, failure_class=FailureClass.USER_ERROR)
