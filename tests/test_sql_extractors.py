"""Reading from PostgreSQL and MariaDB: what is read, where an error is, how much memory it takes, how it is stopped."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from osiris_core.cancellation import CancelToken
from osiris_core.errors import FailureClass, RunCancelled, RunTimeout, StepError
from osiris_core.tables import SpilledTable
from tests.databases import in_thread

if TYPE_CHECKING:
    from pathlib import Path

IS_ENCRYPTED = {
    "postgres": "SELECT ssl::int AS x FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
    "mysql": "SELECT variable_value <> '' AS x FROM information_schema.session_status "
    "WHERE variable_name = 'Ssl_cipher'",
}
ODD = 'x"y`z; DROP TABLE orders; -- %s'


@pytest.fixture
def orders(database: Any) -> Any:
    """Five orders."""
    database.run(
        "CREATE TABLE orders (id integer PRIMARY KEY, country varchar(10), amount decimal(12,2))",
        "INSERT INTO orders VALUES (1, 'CZ', 1.5), (2, 'DE', 2.5), (3, NULL, NULL), (4, '', 0), (5, 'PL', 99.99)",
    )
    return database


def many_rows(database: Any, count: int) -> str:
    """A statement that gives rows for a long time."""
    if database.family == "postgres":
        return f"SELECT i, repeat('x', 20) AS t FROM generate_series(1, {count}) AS i"
    return f"SELECT seq AS i, REPEAT('x', 20) AS t FROM seq_1_to_{count}"


def test_columns_order_and_part_of_a_table(orders: Any, tmp_path: Path) -> None:
    table = orders.read(tmp_path, table="orders", columns=["country", "id"], order_by=["id"], limit=2, offset=1)
    assert table.to_pydict() == {"country": ["DE", None], "id": [2, 3]}


def test_null_and_an_empty_text_stay_apart(orders: Any, tmp_path: Path) -> None:
    table = orders.read(tmp_path, query="SELECT country FROM orders WHERE id IN (3, 4) ORDER BY id")
    assert table["country"].to_pylist() == [None, ""]


def test_batches_have_at_most_the_rows_that_were_asked_for(orders: Any, tmp_path: Path) -> None:
    table = orders.read(tmp_path, table="orders", order_by=["id"], batch_size=2)
    assert [batch.num_rows for batch in table.to_batches()] == [2, 2, 1]


def test_the_names_of_tables_and_columns_may_be_anything(database: Any, tmp_path: Path) -> None:
    """An identifier is an identifier: what looks like SQL in it is not run."""
    quote = '"{}"'.format(ODD.replace('"', '""')) if database.family == "postgres" else f"`{ODD.replace('`', '``')}`"
    database.run(
        "CREATE TABLE orders (id integer)", f"CREATE TABLE {quote} ({quote} integer)", f"INSERT INTO {quote} VALUES (7)"
    )
    table = database.read(tmp_path, table=ODD, columns=[ODD], order_by=[ODD])
    assert table.to_pydict() == {ODD: [7]}
    assert database.value("SELECT COUNT(*) FROM orders") == 0


@pytest.mark.parametrize(
    ("config", "message", "place"),
    [
        ({"query": "SELECT id,\n  nope FROM orders"}, "nope", (2, 3)),
        ({"query": "SELECT *\nFROM\n  nobody"}, "nobody", (3, 3)),
        ({"query": "SELECT id FROM orders\nWHERE WHERE id = 1"}, "syntax", (2, 7)),
        ({"table": "ordres"}, "did you mean 'orders'", None),
        ({"table": "orders", "columns": ["contry"]}, "did you mean 'country'", None),
        ({"table": "orders", "schema": "nowhere"}, "nowhere", None),
        ({"query": "DELETE FROM orders"}, "only reads|no rows", None),
        ({"query": "INSERT INTO orders VALUES (9, 'x', 1)"}, "only reads|no rows", None),
        ({"query": "CREATE TABLE more (id integer)"}, "only reads|no rows", None),
        ({"query": "DROP TABLE orders"}, "only reads|no rows", None),
        ({"query": "SELECT 1; DELETE FROM orders"}, "syntax|multiple", None),
    ],
)
def test_what_is_refused_names_its_place_and_changes_nothing(
    orders: Any, tmp_path: Path, config: dict[str, Any], message: str, place: tuple[int, int] | None
) -> None:
    with pytest.raises(StepError, match=message) as caught:
        orders.read(tmp_path, **config)
    assert caught.value.failure_class is FailureClass.USER_ERROR
    if place is not None:
        assert (caught.value.details["line"], caught.value.details["column"]) == place
    assert orders.value("SELECT COUNT(*) FROM orders") == 5


@pytest.mark.parametrize(
    ("change", "failure_class", "remedy"),
    [
        ({"port": 1}, FailureClass.INFRA_LOST, "check the connection's host and port"),
        ({"host": "nobody.invalid"}, FailureClass.INFRA_LOST, "check the connection's host"),
        ({"password": "wrong-secret-1"}, FailureClass.USER_ERROR, "check user and password"),
        ({"user": "nobody"}, FailureClass.USER_ERROR, "check user and password"),
        ({"database": "nowhere"}, FailureClass.USER_ERROR, "check the connection's database|lacks a right|password"),
    ],
)
def test_no_connection_says_whose_fault_it_is(
    database: Any, tmp_path: Path, change: dict[str, Any], failure_class: FailureClass, remedy: str
) -> None:
    """With the class that decides over a retry, and no password in any text of it."""
    connection = {**database.connection, **change}
    with pytest.raises(StepError, match=remedy) as caught:
        database.read(tmp_path, query="SELECT 1", connection=connection)
    assert caught.value.failure_class is failure_class
    shown = f"{caught.value} {caught.value.details} {caught.value.__cause__} {caught.value.__context__!r}"
    assert connection["password"] not in shown


def test_an_error_in_the_middle_of_the_rows_is_the_users(database: Any, tmp_path: Path) -> None:
    """The connection is there: it is the statement that does not work, and another try would not help."""
    if database.family == "postgres":
        query = "SELECT i / (i - 90000) AS x FROM generate_series(1, 100000) AS i"
    else:
        query = "SELECT EXP(IF(seq = 90000, 1000, 1)) AS x FROM seq_1_to_100000"
    with pytest.raises(StepError, match=r"division by zero|out of range") as caught:
        database.read(tmp_path, query=query)
    assert caught.value.failure_class is FailureClass.USER_ERROR


def test_a_large_result_goes_through_the_disk(database: Any, tmp_path: Path) -> None:
    """What does not fit the budget is spilled while it arrives, and is whole."""
    found = database.start_reading(
        tmp_path, query=many_rows(database, 200_000), harness={"table_budget_bytes": 1 << 20}
    )
    table = found.outputs["df"]
    assert isinstance(table, SpilledTable)
    assert sum(batch.column("i").to_numpy().sum() for batch in table.iter_batches()) == 200_000 * 200_001 // 2
    assert max(batch.nbytes for batch in table.iter_batches()) < 8 << 20
    assert found.metrics["rows_read"] == 200_000


@pytest.mark.parametrize("reason", [FailureClass.CANCELLED, FailureClass.TIMEOUT])
@pytest.mark.parametrize("streams", [True, False])
def test_a_stop_ends_the_query_at_the_server(
    database: Any, tmp_path: Path, reason: FailureClass, streams: bool
) -> None:
    """The statement is gone from the server's list within moments, before its first row and in the middle of them."""
    token = CancelToken()
    query = many_rows(database, 1_000_000_000) if streams else database.sleep.format(60)
    attempt = in_thread(
        lambda: database.read(tmp_path, query=query, harness={"token": token, "table_budget_bytes": 1 << 16})
    )
    database.wait_until_active("1000000000" if streams else "60")
    token.cancel(reason)
    started_s = time.monotonic()
    error = attempt.exception(10)
    assert time.monotonic() - started_s < 4
    assert isinstance(error, RunTimeout if reason is FailureClass.TIMEOUT else RunCancelled)
    database.wait_until_idle()


def test_a_statement_timeout_is_the_servers(database: Any, tmp_path: Path) -> None:
    connection = {**database.connection, "statement_timeout_s": 0.2}
    query = "SELECT pg_sleep(20)::text"
    if database.family == "mysql":  # where SLEEP just ends sooner
        query = "SELECT SUM(a.seq * b.seq % 7) AS x FROM seq_1_to_1000000 a JOIN seq_1_to_1000000 b"
    with pytest.raises(StepError, match="statement_timeout_s") as caught:
        database.read(tmp_path, query=query, connection=connection)
    assert caught.value.failure_class is FailureClass.TIMEOUT
    database.wait_until_idle()


def test_a_connection_that_is_lost_in_the_middle_is_worth_another_try(database: Any, tmp_path: Path) -> None:
    """An administrator ends it while rows stream: nothing that was read so far is taken for the whole."""
    query = many_rows(database, 900_000_000)
    attempt = in_thread(lambda: database.read(tmp_path, query=query, harness={"table_budget_bytes": 1 << 16}))
    database.wait_until_active("900000000")
    time.sleep(0.2)
    database.end_connections()
    error = attempt.exception(10)
    assert isinstance(error, StepError)
    assert error.failure_class is FailureClass.INFRA_LOST
    assert "connection was lost" in str(error)


@pytest.mark.parametrize("tls", ["require", "verify-ca", "verify-full"])
def test_tls_is_what_it_says(database: Any, tmp_path: Path, tls: str) -> None:
    """Encrypted with a certificate that is trusted; not at all with one that is not."""
    question = IS_ENCRYPTED[database.family]
    trusted = {"tls_ca": database.server.ca_pem} if tls != "require" else {}
    connection = {**database.connection, "tls": tls, **trusted}
    assert database.read(tmp_path / "good", query=question, connection=connection)["x"].to_pylist() == [1]
    if tls == "require":
        return
    stranger = {**connection, "tls_ca": other_authority()}
    with pytest.raises(StepError, match="certificate") as caught:
        database.read(tmp_path / "bad", query=question, connection=stranger)
    assert caught.value.failure_class is FailureClass.USER_ERROR


def test_tls_can_be_left_out(database: Any, tmp_path: Path) -> None:
    question = IS_ENCRYPTED[database.family]
    connection = {**database.connection, "tls": "off"}
    assert database.read(tmp_path, query=question, connection=connection)["x"].to_pylist() == [0]


def test_a_socket_is_a_place_too(database: Any, tmp_path: Path) -> None:
    """By the folder of PostgreSQL's, by the file of MariaDB's."""
    folder = database.server.folder
    host = str(folder if database.family == "postgres" else folder / "socket")
    connection = {**database.connection, "host": host}
    assert database.read(tmp_path, query="SELECT 1 AS x", connection=connection)["x"].to_pylist() == [1]


def other_authority() -> str:
    import trustme

    return trustme.CA().cert_pem.bytes().decode()


def test_a_check_of_the_connection_says_who_answered(database: Any) -> None:
    said = database.extractor.check_connection(database.connection, 5.0)
    name = "PostgreSQL 1" if database.family == "postgres" else "MariaDB 1"
    assert said.startswith(name)
    assert database.name in said
    assert database.password not in said
