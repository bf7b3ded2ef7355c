"""
A stand-in for PostgREST, which is not to be had where the tests run: as much of its interface as `supabase.*` uses.

What is written is really written, into SQLite: unique keys, transactions and conflicts are a database's, not made up.
It answers as PostgREST's documentation says; it is not PostgREST.
"""

from __future__ import annotations

import json
import re
import sqlite3
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.api_server import ApiServer, Seen, Wire, api_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEY = "service-key-of-the-project"


class RestServer:
    """Tables in SQLite. `before` and `after` may break a request, before it is done or after."""

    def __init__(self, server: ApiServer) -> None:
        self.url = server.url
        self.seen = server.seen
        self.max_rows = 1000
        self.before: Callable[[Seen, Wire], bool] = lambda seen, wire: False
        self.after: Callable[[Seen, Wire], bool] = lambda seen, wire: False
        self._server = server
        self._lock = threading.Lock()
        self._db = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)

    def make(self, table: str, columns: str) -> None:
        self._db.execute(f'CREATE TABLE "{table}" ({columns})')
        self._server.on(f"/rest/v1/{table}", lambda seen, wire: self._handle(table, seen, wire))

    def rows(self, table: str) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._db.execute(f'SELECT * FROM "{table}" ORDER BY 1, 2').fetchall()

    def _handle(self, table: str, seen: Seen, wire: Wire) -> None:
        if seen.headers.get("apikey") != KEY or seen.headers.get("authorization") != f"Bearer {KEY}":
            wire.json({"message": "Invalid API key", "hint": seen.headers.get("apikey")}, 401)
            return
        if self.before(seen, wire):
            return
        with self._lock:
            status, value, headers = self._do(table, seen)
        if not self.after(seen, wire):
            wire.answer(b"" if value is None else json.dumps(value).encode(), status, **headers)

    def _do(self, table: str, seen: Seen) -> tuple[int, Any, dict[str, str]]:
        query = {name: values for name, values in seen.query.items() if name not in ("columns", "on_conflict")}
        try:
            if seen.method == "POST":
                return self._insert(table, seen)
            where, values = _where(query)
            if seen.method == "DELETE":
                if not where:
                    return 400, {"code": "21000", "message": "DELETE requires a WHERE clause"}, {}
                self._db.execute(f'DELETE FROM "{table}" WHERE {where}', values)
                return 204, None, {}
            return self._select(table, query, where, values)
        except sqlite3.IntegrityError as exc:
            return 409, {"code": "23505", "message": f"duplicate key value: {exc}"}, {}
        except sqlite3.Error as exc:
            return 400, {"code": "42703", "message": str(exc)}, {}

    def _select(self, table: str, query: dict[str, list[str]], where: str, values: list[Any]) -> Any:
        columns = ", ".join(_name(name) for name in query.get("select", ["*"])[0].split(","))
        text = f'SELECT {columns} FROM "{table}"' + (f" WHERE {where}" if where else "")
        if order := query.get("order", [""])[0]:
            parts = (part.split(".") for part in order.split(","))
            text += " ORDER BY " + ", ".join(f"{_name(part[0])} {(part[1:] or ['asc'])[0]}" for part in parts)
        limit = min(int(query.get("limit", [self.max_rows])[0]), self.max_rows)
        found = self._db.execute(f"{text} LIMIT {limit} OFFSET {int(query.get('offset', [0])[0])}", values)
        names = [item[0] for item in found.description]
        return 200, [dict(zip(names, row, strict=True)) for row in found.fetchall()], {}

    def _insert(self, table: str, seen: Seen) -> Any:
        columns = [name.strip('"') for name in seen.query["columns"][0].split(",")]
        prefer = seen.headers.get("prefer", "")
        text = f'INSERT INTO "{table}" ({", ".join(map(_name, columns))}) VALUES ({", ".join("?" * len(columns))})'
        if "on_conflict" in seen.query:
            keys = seen.query["on_conflict"][0].split(",")
            changed = ", ".join(f"{_name(n)} = excluded.{_name(n)}" for n in columns if n not in keys)
            merge = "resolution=merge-duplicates" in prefer and changed
            text += f" ON CONFLICT ({', '.join(map(_name, keys))}) DO " + (
                f"UPDATE SET {changed}" if merge else "NOTHING"
            )
        self._db.execute("BEGIN")
        try:
            done = 0
            for row in json.loads(seen.body):
                values = [json.dumps(v) if isinstance(v, (dict, list)) else v for v in map(row.get, columns)]
                done += self._db.execute(text, values).rowcount
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")
        return 201, None, {"Content_Range": f"*/{done}"} if "count=exact" in prefer else {}


def _name(text: str) -> str:
    # Backticks: SQLite takes an unknown name in double quotes for a text.
    return text if text == "*" else "`" + text.strip('"') + "`"


def _where(query: dict[str, list[str]]) -> tuple[str, list[Any]]:
    conditions, values = [], []
    for name, texts in query.items():
        for text in texts:
            if name in ("select", "order", "limit", "offset"):
                continue
            found = _any_of(text, values) if name == "or" else _one(name, text, values)
            conditions.append(found)
    return " AND ".join(conditions), values


def _any_of(text: str, values: list[Any]) -> str:
    """`(and(a.eq."1",b.eq."2"),…)` or `(a.is.null,a.not.is.null)`."""
    groups = re.findall(r'and\(((?:[^"()]|"(?:[^"\\]|\\.)*")*)\)', text)
    if not groups:
        return "(" + " OR ".join(_one(*part.split(".", 1), values) for part in text[1:-1].split(",")) + ")"
    parts = []
    for group in groups:
        each = re.findall(r'([^.,]+)\.(eq\."(?:[^"\\]|\\.)*")', group)
        parts.append("(" + " AND ".join(_one(name, condition, values) for name, condition in each) + ")")
    return "(" + " OR ".join(parts) + ")"


def _one(name: str, condition: str, values: list[Any]) -> str:
    operator, _, value = condition.removeprefix("not.").partition(".")
    if operator == "is":
        return f"{_name(name)} IS {'NOT ' if condition.startswith('not.') else ''}NULL"
    if operator == "in":
        listed = [_plain(part) for part in re.findall(r'"(?:[^"\\]|\\.)*"|[^,()]+', value)]
        values.extend(listed)
        return f"CAST({_name(name)} AS TEXT) IN ({', '.join('?' * len(listed))})"
    values.append(_plain(value))
    compared = {"eq": "=", "gte": ">=", "lt": "<"}[operator]
    return f"CAST({_name(name)} AS TEXT) {compared} ?"


def _plain(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if text.startswith('"') else text


@contextmanager
def rest_server() -> Iterator[RestServer]:
    with api_server() as server:
        yield RestServer(server)
