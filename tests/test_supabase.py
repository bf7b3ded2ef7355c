"""
`supabase.*` over REST, against a stand-in for PostgREST (tests/rest_server.py), and which way a connection leads.

By the Postgres server they are `postgres.*`: tests/test_supabase_server.py.
"""

from __future__ import annotations

import datetime
import json
import tempfile
import threading
import time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from osiris_core import AdapterFactory, DriverRegistry, ExecutionContext, PreparationError, StepError
from osiris_core.cancellation import CancelToken
from osiris_core.drivers.supabase_connection import SupabaseConnection
from osiris_core.drivers.supabase_query import OnlyRest, clauses, selected_columns
from osiris_core.errors import FailureClass, RunCancelled
from osiris_core.prepared import PreparedRun
from osiris_core.testing import run_driver
from tests.rest_server import KEY, RestServer, rest_server
from tests.test_secret_leaks import assert_no_secret_below

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.api_server import Seen, Wire

pytest.importorskip("httpx")
EXTRACTOR = DriverRegistry.get("supabase.extractor")
WRITER = DriverRegistry.get("supabase.writer")
PEOPLE = pa.table({"id": [1, 2, 3], "name": ["a", "ž", None]})


@pytest.fixture
def rest() -> Iterator[RestServer]:
    with rest_server() as running:
        running.make("people", "id INTEGER PRIMARY KEY, name TEXT")
        yield running


def connection(rest: RestServer) -> dict[str, Any]:
    return {"url": rest.url, "key": KEY}


def run(driver: Any, rest: RestServer, folder: Path, config: dict[str, Any], data: Any = None, **more: Any) -> Any:
    own = Path(tempfile.mkdtemp(dir=folder))
    settings = {"connection": connection(rest), "table": "people", **config}
    return run_driver(driver, settings, own, {"df": data} if data is not None else None, **more)


def write(rest: RestServer, folder: Path, data: Any = PEOPLE, **config: Any) -> Any:
    return run(WRITER, rest, folder, config, data)


def failure(rest: RestServer, folder: Path, data: Any = PEOPLE, **config: Any) -> StepError:
    with pytest.raises(StepError) as caught:
        write(rest, folder, data, **config)
    return caught.value


def posts(rest: RestServer) -> list[Any]:
    return [seen for seen in rest.seen if seen.method == "POST"]


def test_append_in_one_request(rest: RestServer, tmp_path: Path) -> None:
    """All rows in one request, counted by the server, in the schema that is named."""
    done = write(rest, tmp_path, schema="sales")
    assert rest.rows("people") == [(1, "a"), (2, "ž"), (3, None)]
    assert done.metrics["rows_written"] == 3
    assert len(rest.seen) == 1
    assert rest.seen[0].headers["content-profile"] == "sales"
    assert rest.seen[0].headers["prefer"] == "return=minimal,count=exact"


def test_upsert(rest: RestServer, tmp_path: Path) -> None:
    """Rows that are there are changed, or with ignore-duplicates left; twice is as once."""
    write(rest, tmp_path)
    changed = pa.table({"id": [2, 4], "name": ["changed", "new"]})
    for _ in range(2):
        write(rest, tmp_path, changed, write_mode="upsert", primary_key="id")
    assert rest.rows("people") == [(1, "a"), (2, "changed"), (3, None), (4, "new")]
    ignored = pa.table({"id": [2, 5], "name": ["ignored", "new"]})
    done = write(
        rest, tmp_path, ignored, write_mode="upsert", primary_key=["id"], prefer="resolution=ignore-duplicates"
    )
    assert rest.rows("people")[1] == (2, "changed")
    assert done.metrics["rows_written"] == 1, "as the server counted"


@pytest.mark.parametrize("mode", ["append", "upsert"])
def test_a_row_without_a_key_is_refused(rest: RestServer, tmp_path: Path, mode: str) -> None:
    """Nothing can find it again, so that each try would add it once more."""
    rows = pa.table({"id": pa.array([1, None]), "name": ["a", "b"]})
    assert "column 'id' is null" in str(failure(rest, tmp_path, rows, write_mode=mode, primary_key="id"))
    assert posts(rest) == []


def test_replace(rest: RestServer, tmp_path: Path) -> None:
    """Only with partial_ok; a column that is not there is found before the table is emptied."""
    write(rest, tmp_path)
    new = pa.table({"id": [7, 8], "name": ["x", "y"]})
    with pytest.raises(PreparationError, match="empties the table in one transaction and fills it in another"):
        write(rest, tmp_path, new, write_mode="replace")
    wrong = failure(rest, tmp_path, pa.table({"id": [7], "nme": ["x"]}), write_mode="replace", partial_ok=True)
    assert "no such column" in str(wrong)
    assert len(rest.rows("people")) == 3
    write(rest, tmp_path, new, write_mode="replace", partial_ok=True)
    assert rest.rows("people") == [(7, "x"), (8, "y")]


def test_a_conflict_leaves_nothing(rest: RestServer, tmp_path: Path) -> None:
    """A key that is there already fails all rows of the request, once, and says what to do."""
    write(rest, tmp_path)
    error = failure(rest, tmp_path, pa.table({"id": [9, 1], "name": ["n", "n"]}))
    assert "409" in str(error)
    assert "write_mode upsert changes such rows" in str(error)
    assert error.failure_class is FailureClass.USER_ERROR
    assert len(rest.rows("people")) == 3


def test_too_many_rows_for_one_request(rest: RestServer, tmp_path: Path) -> None:
    """Nothing is sent; with partial_ok they go in parts."""
    table = pa.table({"id": range(1000), "name": ["x" * 20] * 1000})
    error = failure(rest, tmp_path, table, max_request_bytes=10_000)
    assert "partial_ok: true" in str(error)
    assert rest.seen == []
    done = write(rest, tmp_path, table, max_request_bytes=10_000, partial_ok=True, batch_size=150)
    assert done.metrics["rows_written"] == 1000
    assert len(posts(rest)) == 7
    assert len(rest.rows("people")) == 1000
    big = failure(
        rest, tmp_path, pa.table({"id": [1], "name": ["x" * 20_000]}), max_request_bytes=10_000, partial_ok=True
    )
    assert "smaller batch_size" in str(big)


def test_a_value_without_json_sends_nothing(rest: RestServer, tmp_path: Path) -> None:
    """It is found before the first request."""
    table = pa.table({"id": [1], "name": pa.array([datetime.timedelta(1)])})
    assert "for which there is no JSON" in str(failure(rest, tmp_path, table))
    fine = pa.table({"id": [1], "name": pa.array([1], pa.timestamp("ns"))})
    assert "finer than a microsecond" in str(failure(rest, tmp_path, fine))
    assert rest.seen == []


def test_values_arrive_as_they_are(rest: RestServer, tmp_path: Path) -> None:
    """Every digit, every character, null and empty, in the JSON that the server reads."""
    table = pa.table(
        {
            "id": [1],
            "big": [9007199254740993],
            "dec": pa.array([Decimal("12345678901234567890.123456789")], pa.decimal128(38, 9)),
            "f": [0.1],
            "nan": [float("nan")],
            "t": [""],
            "u": ['ž"\\\n\u2028'],
            "b": [b"\x00\xff"],
            "d": [datetime.date(2026, 2, 28)],
            "ts": pa.array([1], pa.timestamp("us", "UTC")),
            "l": [[1, None]],
            "s": [{"k": Decimal("1.50")}],
            "n": pa.array([None], pa.int64()),
            "y": [True],
            "c": pa.array(["x"]).dictionary_encode(),
        }
    )
    rest.make("all", ", ".join(f'"{name}"' for name in table.column_names))
    write(rest, tmp_path, table, table="all")
    assert posts(rest)[0].body.decode() == (
        '[{"id":1,"big":9007199254740993,"dec":12345678901234567890.123456789,"f":0.1,"nan":"NaN","t":"",'
        '"u":"ž\\"\\\\\\n\u2028","b":"\\\\x00ff","d":"2026-02-28","ts":"1970-01-01 00:00:00.000001Z","l":[1,null],'
        '"s":{"k":1.50},"n":null,"y":true,"c":"x"}]'
    )


def lost(rest: RestServer, *numbers: int, when: str) -> None:
    """Break the connection of these POSTs: `before` the server does anything, or `after` it did."""
    left = list(numbers)

    def reset(seen: Seen, wire: Wire) -> bool:
        if seen.method != "POST" or len(posts(rest)) not in left:
            return False
        wire.reset()
        return True

    setattr(rest, when, reset)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_lost_answer_writes_nothing_twice(rest: RestServer, tmp_path: Path, when: str) -> None:
    """By the rows' keys it is asked whether they were written; each is there once in the end."""
    lost(rest, 1, when=when)
    done = write(rest, tmp_path, primary_key="id")
    assert rest.rows("people") == [(1, "a"), (2, "ž"), (3, None)]
    assert done.metrics["rows_written"] == 3
    assert len(posts(rest)) == (2 if when == "before" else 1)


@pytest.mark.parametrize("when", ["before", "after"])
def test_parts_and_a_lost_answer(rest: RestServer, tmp_path: Path, when: str) -> None:
    """The same in the middle of several requests, with keys of two columns that need quoting."""
    rest.make("pairs", "a TEXT, b INTEGER, v TEXT, PRIMARY KEY (a, b)")
    lost(rest, 2, when=when)
    table = pa.table({"a": ['x"y', "p,q", "(z)", "b\\s", "ž"] * 40, "b": range(200), "v": ["v"] * 200})
    write(rest, tmp_path, table, table="pairs", primary_key=["a", "b"], partial_ok=True, batch_size=60)
    assert len(rest.rows("pairs")) == 200


def test_a_lost_answer_without_a_key_is_told(rest: RestServer, tmp_path: Path) -> None:
    """Nobody can tell whether the rows are there: it is not tried again, and the error says how it stands."""
    rest.make("log", "id INTEGER, name TEXT")
    lost(rest, 2, when="after")
    error = failure(rest, tmp_path, table="log", partial_ok=True, batch_size=1)
    assert "1 rows were written before, and whether these 1 were is not known" in str(error)
    assert error.failure_class is FailureClass.USER_ERROR, "no retry policy takes it up by itself"
    assert len(posts(rest)) == 2


def test_a_part_that_fails_says_what_is_there(rest: RestServer, tmp_path: Path) -> None:
    """With partial_ok the earlier parts stay, and the error says so."""
    write(rest, tmp_path, pa.table({"id": [2], "name": ["there"]}))
    error = failure(rest, tmp_path, partial_ok=True, batch_size=1)
    assert "1 rows were written before, and of the next 1 none" in str(error)
    assert error.failure_class is FailureClass.USER_ERROR


def test_some_keys_that_are_there_are_a_conflict(rest: RestServer, tmp_path: Path) -> None:
    """After a lost answer some rows with our keys are no proof that ours were written."""
    write(rest, tmp_path, pa.table({"id": [2], "name": ["there"]}))
    lost(rest, 2, when="before")
    error = failure(rest, tmp_path, primary_key="id")
    assert "1 of 3 rows have a primary_key that is in the table already" in str(error)
    assert rest.rows("people") == [(2, "there")]


def step(rest: RestServer, **config: Any) -> dict[str, Any]:
    return {
        "pipeline": "p",
        "steps": [
            {
                "id": "make",
                "driver": "duckdb.processor",
                "config": {"query": "SELECT i AS id, 'n' AS name FROM range(3) t(i)"},
            },
            {
                "id": "write",
                "driver": "supabase.writer",
                "inputs": {"df": "make"},
                "config": {"connection": connection(rest), "table": "people", "timeout": 0.3, "retries": 0, **config},
                "retry": {"attempts": 3, "backoff_s": 0, "jitter_s": 0},
            },
        ],
    }


@pytest.mark.parametrize(
    ("config", "table", "status", "rows"),
    [
        ({"primary_key": "id"}, "people", "completed", 3),
        ({"write_mode": "upsert", "primary_key": "id"}, "people", "completed", 3),
        ({}, "log", "failed", 3),
    ],
)
def test_a_step_that_is_tried_again_writes_nothing_twice(
    rest: RestServer, tmp_path: Path, config: dict[str, Any], table: str, status: str, rows: int
) -> None:
    """An answer that comes too late fails the try; the next one finds the rows, or does not dare to write any."""
    rest.make("log", "id INTEGER, name TEXT")

    def late(seen: Seen, wire: Wire) -> bool:
        if seen.method == "POST" and len(posts(rest)) == 1:
            time.sleep(0.6)
        return False

    rest.after = late
    context = ExecutionContext(session_dir=str(tmp_path / "session"))
    report = AdapterFactory.create("local").run(step(rest, **{**config, "table": table}), context)
    assert report.status == status, report.error
    assert len(rest.rows(table)) == rows
    assert_no_secret_below(tmp_path / "session")
    for path in (tmp_path / "session").rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes()


def test_a_literal_key_goes_by_name(rest: RestServer, tmp_path: Path) -> None:
    """`key` is no secret by its name, but the driver's model says so: also in the connections file, also in a run that
    went through JSON."""
    (tmp_path / "c.yaml").write_text(f"connections:\n  supabase:\n    main: {{url: '{rest.url}', key: {KEY}}}\n")
    write(rest, tmp_path)
    manifest = {"steps": [{"id": "r", "driver": "supabase.extractor", "config": {"table": "people"}}]}
    manifest["steps"][0]["config"]["connection"] = "@supabase.main"  # type: ignore[index]
    context = ExecutionContext(session_dir=str(tmp_path / "session"), connections=str(tmp_path / "c.yaml"))
    adapter = AdapterFactory.create("local")
    sealed = json.dumps(adapter.prepare(manifest, context).to_json())
    assert KEY not in sealed
    restored = PreparedRun.from_json(json.loads(sealed))
    adapter.execute(restored, context)
    report = adapter.collect(restored, context)
    assert report.succeeded, report.error
    assert report["secret_names"] == ["@supabase.main.key"]
    for path in (tmp_path / "session").rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes()


def test_a_cancel_ends_the_writing(rest: RestServer, tmp_path: Path) -> None:
    """At once, in the middle of a request."""
    rest.before = lambda seen, wire: bool(time.sleep(5)) or True
    token = CancelToken()
    threading.Timer(0.3, token.cancel, [FailureClass.CANCELLED]).start()
    started_s = time.monotonic()
    with pytest.raises(RunCancelled):
        run(WRITER, rest, tmp_path, {}, PEOPLE, token=token)
    assert time.monotonic() - started_s < 2


def test_reading_pages_in_order(rest: RestServer, tmp_path: Path) -> None:
    """Every row once, also when the server gives fewer than asked for; limit and offset count over all pages."""
    table = pa.table({"id": range(25), "name": [str(n) for n in range(25)]})
    write(rest, tmp_path, table)
    rest.max_rows = 10
    rest.seen.clear()
    done = run(EXTRACTOR, rest, tmp_path, {"order": "id.asc", "schema": "sales"})
    assert done.outputs["df"].to_pydict() == table.to_pydict()
    assert rest.seen[0].headers["accept-profile"] == "sales"
    part = run(EXTRACTOR, rest, tmp_path, {"order": "id.desc", "select": "id", "limit": 12, "offset": 2})
    assert part.outputs["df"].to_pydict() == {"id": list(range(22, 10, -1))}
    some = run(EXTRACTOR, rest, tmp_path, {"filter": {"name": ["gte.2", "lt.24"], "id": "in.(2,20,21)"}})
    assert some.outputs["df"]["id"].to_pylist() == [2, 20, 21]


def test_more_rows_than_at_once_need_an_order(rest: RestServer, tmp_path: Path) -> None:
    """Without one, pages may hold any rows: an error, and no wrong result."""
    write(rest, tmp_path, pa.table({"id": range(25), "name": ["n"] * 25}))
    rest.max_rows = 10
    with pytest.raises(StepError, match="set order to columns that are unique") as caught:
        run(EXTRACTOR, rest, tmp_path, {})
    assert caught.value.failure_class is FailureClass.USER_ERROR


def test_a_wrong_key(rest: RestServer, tmp_path: Path) -> None:
    """It is the user's error, with a remedy, and the key the server shows back is masked."""
    wrong = {"connection": {"url": rest.url, "key": "another-key-entirely"}}
    with pytest.raises(StepError) as caught:
        run(EXTRACTOR, rest, tmp_path, wrong)
    assert "check the credentials" in str(caught.value)
    assert "another-key" not in str(caught.value)
    assert '"hint": "***"' in str(caught.value)


@pytest.mark.parametrize(
    ("connection", "says"),
    [
        ({"url": "https://x"}, "needs pg_dsn or password"),
        ({"key": "k"}, "key needs url or project_id"),
        ({"password": "p"}, "password needs host or project_id"),
        ({"pg_dsn": "postgresql://u:p@h/d", "password": "p"}, "give either pg_dsn, or host and password"),
        ({"pg_dsn": "mysql://u:p@h/d"}, "pg_dsn must be postgresql://"),
        ({"pg_dsn": "postgresql://u:p@h:x/d"}, "no address of a server"),
        ({"pg_dsn": "postgresql://u:p@h/d?options=x"}, "options is not known there"),
        ({"pg_dsn": "postgresql://u:p@h/d?sslmode=maybe"}, "tls: "),
        ({"url": "https://u:p@x", "key": "k"}, "holds credentials"),
    ],
)
def test_connections_that_lead_nowhere(connection: dict[str, Any], says: str) -> None:
    """Each with what is missing."""
    with pytest.raises(ValidationError) as caught:
        SupabaseConnection.model_validate(connection)
    assert says in str(caught.value)
    assert "u:p@" not in str(caught.value)


def test_the_server_that_a_connection_names() -> None:
    """A DSN with escapes, or the project's own names."""
    dsn = "postgresql://po%40st:p%2Fw%3A@db.example:6543/shop?sslmode=disable"
    found = SupabaseConnection(pg_dsn=dsn, project_id="abc").postgres()
    assert (found.host, found.port, found.database, found.user, found.tls) == (
        "db.example",
        6543,
        "shop",
        "po@st",
        "off",
    )
    assert found.password is not None
    assert found.password.get_secret_value() == "p/w:"
    own = SupabaseConnection(project_id="abc", password="pw").postgres()
    assert (own.host, own.port, own.database, own.user, own.tls) == (
        "db.abc.supabase.co", 5432, "postgres", "postgres", "require",
    )  # fmt: skip
    assert SupabaseConnection(project_id="abc", key="k").rest_address == "https://abc.supabase.co/rest/v1"


@pytest.mark.parametrize(
    ("asked", "statement"),
    [
        ({}, ""),
        ({"limit": 5, "offset": 2}, " LIMIT 5 OFFSET 2"),
        (
            {"filters": {"a": "eq.it's", "b": ["gte.1", "not.is.null"]}, "order": "a.desc.nullslast,b"},
            " WHERE t.\"a\" = 'it''s' AND t.\"b\" >= '1' AND NOT (t.\"b\" IS NULL) "
            'ORDER BY t."a" DESC NULLS LAST, t."b" ASC',
        ),
        (
            {"filters": {"a": 'in.(1,"b,\\"c")', 'we"ird': "ilike.*x\\*"}},
            ' WHERE t."a" IN (\'1\', \'b,"c\') AND t."we""ird" ILIKE E\'%x\\\\%\'',
        ),
        ({"filters": {"a": 'in.(5" pipe,x)'}}, " WHERE t.\"a\" IN ('5\" pipe', 'x')"),
        ({"filters": {"a": 'in.(a"b)'}}, ' WHERE t."a" IN (\'a"b\')'),
        ({"filters": {"a": "in.(a,,b)"}}, " WHERE t.\"a\" IN ('a', '', 'b')"),
        ({"filters": {"a": 'in.( "x" , y )'}}, " WHERE t.\"a\" IN ('x', 'y')"),
        ({"filters": {"a": "not.in.()"}}, " WHERE NOT (FALSE)"),
    ],
)
def test_the_same_in_sql(asked: dict[str, Any], statement: str) -> None:
    """Names and values are quoted whatever is in them, and none of them is left out."""
    assert clauses("t", **asked) == statement


@pytest.mark.parametrize(
    "asked",
    [
        {"filters": {"a": "fts.x"}},
        {"filters": {"a": "in.(a(b),c)"}},
        {"filters": {"a": "is.x"}},
        {"order": "a->>b"},
        {"filters": {"a": "eq.\0"}},
    ],
)
def test_what_only_rest_can_say(asked: dict[str, Any]) -> None:
    """It is refused, and never half said."""
    with pytest.raises(OnlyRest):
        clauses("t", **asked)


@pytest.mark.parametrize("select", ["id,customer:customers(name)", "id::text"])
def test_columns_are_names(select: str) -> None:
    assert selected_columns("id, na me") == ["id", "na me"]
    with pytest.raises(OnlyRest):
        selected_columns(select)
