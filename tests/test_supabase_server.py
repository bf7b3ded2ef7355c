"""`supabase.*` by the Postgres server, a real one: the keys of Osiris in SQL, exact types, and no password anywhere."""

from __future__ import annotations

import json
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pyarrow as pa
import pytest

from osiris_core import AdapterFactory, DriverRegistry, ExecutionContext, PreparationError, StepError
from osiris_core.cli.connection_checks import check_connections
from osiris_core.errors import FailureClass
from osiris_core.testing import run_driver

if TYPE_CHECKING:
    from tests.databases import PostgresDatabase

pytest.importorskip("adbc_driver_postgresql")
pytest.importorskip("httpx")
EXTRACTOR = DriverRegistry.get("supabase.extractor")
WRITER = DriverRegistry.get("supabase.writer")
PEOPLE = pa.table(
    {
        "id": [1, 2, 3],
        "name": ["it's", 'b\\s "q"', None],
        "amount": pa.array([Decimal("1.10"), Decimal("12345678901234567.89"), None], pa.decimal128(38, 2)),
    }
)


def dsn(database: PostgresDatabase, password: str | None = None, query: str = "") -> str:
    c = database.connection
    secret = quote(password or c["password"], safe="")
    return f"postgresql://{c['user']}:{secret}@{c['host']}:{c['port']}/{c['database']}{query}"


def run(driver: Any, database: PostgresDatabase, folder: Path, config: dict[str, Any], data: Any = None) -> Any:
    settings = {"connection": {"pg_dsn": dsn(database)}, "schema": database.schema, "table": "people", **config}
    own = Path(tempfile.mkdtemp(dir=folder))
    return run_driver(driver, settings, own, {"df": data} if data is not None else None)


def read(database: PostgresDatabase, folder: Path, **config: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = run(EXTRACTOR, database, folder, config).outputs["df"].to_pylist()
    return found


def test_a_table_is_made_and_written(postgres: PostgresDatabase, tmp_path: Path) -> None:
    """With create_if_missing, in one transaction, over TLS; then upserted and replaced without partial_ok."""
    making = {"create_if_missing": True, "primary_key": "id"}
    done = run(WRITER, postgres, tmp_path, making, PEOPLE)
    assert done.metrics["rows_written"] == 3
    assert postgres.rows("SELECT id, name, amount::text FROM people ORDER BY id") == [
        (1, "it's", "1.10"),
        (2, 'b\\s "q"', "12345678901234567.89"),
        (3, None, None),
    ]
    run(WRITER, postgres, tmp_path, {"write_mode": "upsert", "primary_key": "id"}, pa.table({"id": [3], "name": ["c"]}))
    assert postgres.value("SELECT name FROM people WHERE id = 3") == "c"
    run(WRITER, postgres, tmp_path, {"write_mode": "replace"}, pa.table({"id": [9], "name": ["n"]}))
    assert postgres.rows("SELECT id, name FROM people") == [(9, "n")]


def test_what_is_read(postgres: PostgresDatabase, tmp_path: Path) -> None:
    """Columns, filters, order, limit and offset as PostgREST says them, in the server's own types."""
    run(WRITER, postgres, tmp_path, {"create_if_missing": True}, PEOPLE)
    assert read(postgres, tmp_path, order="id") == PEOPLE.to_pylist()
    assert read(postgres, tmp_path, select="id", filter={"name": "not.is.null"}, order="id.desc") == [
        {"id": 2},
        {"id": 1},
    ]
    assert read(postgres, tmp_path, select="id", filter={"amount": ["gte.1.1", "lt.2"]}) == [{"id": 1}]
    assert read(postgres, tmp_path, select="id", filter={"id": "not.in.(1,3)"}) == [{"id": 2}]
    assert read(postgres, tmp_path, select="id", order="name.asc.nullsfirst", limit=1) == [{"id": 3}]
    assert read(postgres, tmp_path, select="id", order="id", limit=1, offset=1) == [{"id": 2}]
    assert len(read(postgres, tmp_path, limit=2)) == 2


def test_a_type_that_arrow_does_not_have_is_text_also_where_rows_are_chosen(
    postgres: PostgresDatabase, tmp_path: Path
) -> None:
    """As from a table that is read whole; and the server compares and orders by its own type, not by the text."""
    postgres.run("CREATE TABLE people (id int, ip inet)", "INSERT INTO people VALUES (1, '10.0.0.1'), (2, '9.0.0.1')")
    assert read(postgres, tmp_path, order="ip", filter={"ip": "lt.11.0.0.0"}) == [
        {"id": 2, "ip": "9.0.0.1/32"},
        {"id": 1, "ip": "10.0.0.1/32"},
    ]
    with pytest.raises(StepError, match="did you mean 'ip'"):
        read(postgres, tmp_path, select="ipp", order="id")


@pytest.mark.parametrize(
    "value",
    ["it's", 'b\\s "q"', "'; DROP TABLE people; --", "\\'; DROP TABLE people; --", "$$", "%s", "{}", "\u2028"],
)
def test_a_value_is_a_value(postgres: PostgresDatabase, tmp_path: Path, value: str) -> None:
    """Whatever is in it, it finds what is equal to it, and is never SQL."""
    postgres.run("CREATE TABLE people (id int, name text)")
    run(WRITER, postgres, tmp_path, {}, pa.table({"id": pa.array([1, 2], pa.int32()), "name": [value, "other"]}))
    assert read(postgres, tmp_path, filter={"name": f"eq.{value}"}) == [{"id": 1, "name": value}]
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    assert read(postgres, tmp_path, filter={"name": f'in.("{escaped}")'}) == [{"id": 1, "name": value}]


def test_names_are_names(postgres: PostgresDatabase, tmp_path: Path) -> None:
    """A column with a quote in it is quoted; one that is not there is the user's error."""
    postgres.run('CREATE TABLE "pe""ople" ("a""b" int)')
    data = pa.table({'a"b': pa.array([7], pa.int32())})
    run(WRITER, postgres, tmp_path, {"table": 'pe"ople'}, data)
    assert read(postgres, tmp_path, table='pe"ople', filter={'a"b': "eq.7"}) == data.to_pylist()
    with pytest.raises(StepError) as caught:
        read(postgres, tmp_path, table='pe"ople', filter={"zzz": "eq.1"})
    assert caught.value.failure_class is FailureClass.USER_ERROR
    assert "zzz" in str(caught.value)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"select": "id,customer:customers(name)"}, "is more than a column's name; set via: rest"),
        ({"filter": {"a": "fts.word"}}, "is an operator of the REST interface; set via: rest"),
        ({"filter": {"a": "paid"}}, "a condition is an operator and a value"),
        ({"raw_column": "_json"}, "raw_column: over REST only"),
        ({"via": "rest"}, "via rest needs key"),
        ({"limt": 3}, "did you mean 'limit'"),
    ],
)
def test_what_cannot_be_asked_is_refused_beforehand(tmp_path: Path, config: dict[str, Any], says: str) -> None:
    """At prepare, with what to do."""
    settings = {"connection": {"pg_dsn": "postgresql://u:hunter2-x@db.example/d"}, "table": "t", **config}
    manifest = {"steps": [{"id": "a", "driver": "supabase.extractor", "config": settings}]}
    with pytest.raises(PreparationError) as caught:
        AdapterFactory.create("local").prepare(manifest, ExecutionContext(session_dir=str(tmp_path / "s")))
    assert says in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("adapter", ["local", "process"])
def test_no_password_anywhere(postgres: PostgresDatabase, tmp_path: Path, adapter: str) -> None:
    """A DSN as a literal: a run that works and one that is refused leave neither it nor its password behind."""
    postgres.run("CREATE TABLE people (id int)")
    wrong = "another/pass:word@x"
    (tmp_path / "c.yaml").write_text(
        "connections:\n  supabase:\n"
        f"    good: {{pg_dsn: '{dsn(postgres, query='?sslmode=require')}'}}\n"
        f"    wrong: {{pg_dsn: '{dsn(postgres, wrong)}'}}\n"
    )
    for alias, status in (("good", "completed"), ("wrong", "failed")):
        config = {"connection": f"@supabase.{alias}", "table": "people", "schema": postgres.schema}
        manifest = {"steps": [{"id": "a", "driver": "supabase.extractor", "config": config}]}
        session = tmp_path / alias
        context = ExecutionContext(session_dir=str(session), connections=str(tmp_path / "c.yaml"))
        with AdapterFactory.create(adapter) as running:
            report = running.run(manifest, context)
        assert report.status == status, report.error
        text = json.dumps(report.to_json()) + "".join(
            path.read_text(errors="replace") for path in session.rglob("*") if path.is_file()
        )
        for secret in (postgres.password, wrong, quote(wrong, safe="")):
            assert secret not in text
    good, refused = check_connections(str(tmp_path / "c.yaml"), 10)
    assert (good.state, refused.state) == ("ok", "broken")
    assert "PostgreSQL" in good.detail
    assert "password authentication failed" in refused.detail
    assert wrong not in refused.detail
