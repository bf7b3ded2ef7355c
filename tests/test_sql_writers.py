"""Writing to PostgreSQL and MariaDB: the modes, all or nothing, once, and what is never touched."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from osiris_core.cancellation import CancelToken
from osiris_core.errors import FailureClass, RunCancelled, StepError
from osiris_core.tables import write_ipc
from tests.databases import in_thread

if TYPE_CHECKING:
    from pathlib import Path

ODD = 'x"y`z; DROP TABLE orders; -- %s'
ROWS = pa.table({"id": [1, 2, 3], "name": ["a", None, ""], "n": [Decimal("1.10"), Decimal("2.20"), None]})


def quoted(database: Any, name: str) -> str:
    mark = '"' if database.family == "postgres" else "`"
    return mark + name.replace(mark, mark * 2) + mark


@pytest.fixture
def orders(database: Any) -> Any:
    """Two orders, 1 and 9."""
    database.run(
        "CREATE TABLE orders (id integer PRIMARY KEY, name varchar(20) DEFAULT 'none', n decimal(12,2))",
        "INSERT INTO orders VALUES (1, 'old', 1), (9, 'kept', 9)",
    )
    return database


def shown(database: Any, table: str) -> list[tuple[Any, ...]]:
    """What is in a table, exact numbers as texts."""
    found = database.rows(f"SELECT id, name, n FROM {table} ORDER BY id")
    return [(number, name, None if n is None else str(n)) for number, name, n in found]


def ids(database: Any) -> list[int]:
    return [row[0] for row in database.rows("SELECT id FROM orders ORDER BY id")]


def test_append_adds_rows(orders: Any, tmp_path: Path) -> None:
    """By name, whatever the order of the columns; `rows_written` is the server's count."""
    found = orders.write(tmp_path, ROWS.slice(1).select(["n", "id", "name"]), table="orders")
    assert found.metrics["rows_written"] == 2
    assert shown(orders, "orders") == [
        (1, "old", "1.00"), (2, None, "2.20"), (3, "", None), (9, "kept", "9.00"),
    ]  # fmt: skip


def test_a_column_that_the_input_lacks_gets_its_default(orders: Any, tmp_path: Path) -> None:
    orders.write(tmp_path, pa.table({"id": [5]}), table="orders")
    assert orders.rows("SELECT name, n FROM orders WHERE id = 5") == [("none", None)]


def test_replace_leaves_the_table_and_changes_the_rows(orders: Any, tmp_path: Path) -> None:
    """Its definition, keys and defaults stay as they are."""
    found = orders.write(tmp_path, ROWS, table="orders", write_mode="replace")
    assert (ids(orders), found.metrics["rows_written"]) == ([1, 2, 3], 3)
    with pytest.raises(StepError, match=r"[Dd]uplicate"):
        orders.write(tmp_path, pa.table({"id": [4, 4]}), table="orders", write_mode="replace")
    assert ids(orders) == [1, 2, 3]


def test_upsert_changes_what_is_there_and_adds_the_rest(orders: Any, tmp_path: Path) -> None:
    """Columns that the input lacks are left alone."""
    found = orders.write(tmp_path, ROWS.select(["id", "name"]), table="orders", write_mode="upsert", primary_key=["id"])
    assert found.metrics["rows_written"] == 3
    assert shown(orders, "orders") == [
        (1, "a", "1.00"), (2, None, None), (3, "", None), (9, "kept", "9.00"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("config", "table", "message"),
    [
        ({"primary_key": ["name"]}, ROWS.slice(0, 1), "upsert needs"),
        ({"primary_key": ["id"]}, pa.concat_tables([ROWS, ROWS]), "two rows of the input have the same primary_key"),
        ({"primary_key": ["id"]}, ROWS.drop_columns(["id"]), "the input has no column 'id'"),
    ],
)
def test_an_upsert_that_is_not_clear_is_refused(
    orders: Any, tmp_path: Path, config: dict[str, Any], table: pa.Table, message: str
) -> None:
    with pytest.raises(StepError, match=message):
        orders.write(tmp_path, table, table="orders", write_mode="upsert", **config)
    assert orders.rows("SELECT id, name FROM orders ORDER BY id") == [(1, "old"), (9, "kept")]


def test_an_upsert_without_a_key_in_a_row_is_refused(database: Any, tmp_path: Path) -> None:
    """No row is equal to it, so that each try would add it once more."""
    database.run("CREATE TABLE loose (k integer UNIQUE, v integer)")
    rows = pa.table({"k": pa.array([1, None], pa.int32()), "v": pa.array([1, 2], pa.int32())})
    with pytest.raises(StepError, match="column 'k' is null"):
        database.write(tmp_path, rows, table="loose", write_mode="upsert", primary_key="k")
    assert database.rows("SELECT * FROM loose") == []


def test_a_table_is_made_only_when_that_is_asked_for(database: Any, tmp_path: Path) -> None:
    with pytest.raises(StepError, match="create_if_missing: true"):
        database.write(tmp_path, ROWS, table="fresh")
    database.write(tmp_path, ROWS, table="fresh", create_if_missing=True, primary_key="id")
    again = database.write(tmp_path, ROWS, table="fresh", create_if_missing=True, write_mode="upsert", primary_key="id")
    assert again.metrics["rows_written"] == 3
    assert shown(database, "fresh") == [
        (1, "a", "1.10"), (2, None, "2.20"), (3, "", None),
    ]  # fmt: skip


def test_a_table_that_is_there_is_never_altered(orders: Any, tmp_path: Path) -> None:
    """A column that it does not have is an error in every mode, with the nearest name."""
    for mode in ("append", "replace", "upsert"):
        table = ROWS.rename_columns(["id", "nam", "n"])
        with pytest.raises(StepError, match="did you mean 'name'"):
            orders.write(tmp_path, table, table="orders", write_mode=mode, primary_key="id", create_if_missing=True)
    assert ids(orders) == [1, 9]


@pytest.mark.parametrize("mode", ["append", "replace", "upsert"])
def test_names_and_values_may_be_anything(database: Any, tmp_path: Path, mode: str) -> None:
    """What looks like SQL in a name or a value is a name or a value."""
    database.run("CREATE TABLE orders (id integer)")
    evil = [
        "'; DROP TABLE orders; --",
        '"; DELETE',
        "\\'; \\",
        "%s %(x)s {}",
        "a\tb\nc\rd\\N",
        "NULL",
        "\\.",
        "$1",
        "{1}",
    ]
    table = pa.table({ODD: list(range(len(evil))), "v": evil})
    database.write(tmp_path, table, table=ODD, write_mode=mode, primary_key=[ODD], create_if_missing=True)
    name = quoted(database, ODD)
    assert [row[0] for row in database.rows(f"SELECT v FROM {name} ORDER BY {name}")] == evil
    assert database.value("SELECT COUNT(*) FROM orders") == 0


@pytest.mark.parametrize("mode", ["append", "replace", "upsert"])
def test_all_or_nothing(orders: Any, tmp_path: Path, mode: str) -> None:
    """A row that fails after a hundred thousand good ones leaves the table as it was, and no table beside it."""
    good = pa.table({"id": range(10, 100_010), "name": ["x"] * 100_000})
    bad = pa.table({"id": [100_010], "name": ["much too long for a column of twenty"]})
    before = orders.tables()
    with pytest.raises(StepError):
        orders.write(
            tmp_path,
            pa.concat_tables([good, bad]),
            table="orders",
            write_mode=mode,
            primary_key="id",
            exactly_once=False,
        )
    assert ids(orders) == [1, 9]
    assert orders.tables() == before


def test_a_spilled_table_is_written_from_the_disk(orders: Any, tmp_path: Path) -> None:
    table = pa.table({"id": range(10, 50_010)})
    spilled = write_ipc(tmp_path / "table.arrow", table.schema, table.to_batches(max_chunksize=1_000))
    found = orders.write(tmp_path, spilled, table="orders", batch_size=333)
    assert found.metrics["rows_written"] == 50_000
    assert orders.value("SELECT SUM(id) FROM orders WHERE id >= 10") == sum(range(10, 50_010))


def test_a_second_try_of_an_append_does_not_write_again(orders: Any, tmp_path: Path) -> None:
    """Neither with the same rows, nor with others; another run does."""
    rows = ROWS.slice(1)
    first = orders.write(tmp_path / "1", rows, table="orders", harness={"run_key": "monday"})
    second = orders.write(tmp_path / "2", rows, table="orders", harness={"run_key": "monday"})
    assert (first.metrics["rows_written"], second.metrics["rows_written"]) == (2, 2)
    assert any("not written again" in event.get("message", "") for event in second.events)
    assert ids(orders) == [1, 2, 3, 9]
    cut = pa.concat_tables([rows.slice(0, 1), rows.slice(1)])  # as other batches of the same rows arrive
    third = orders.write(tmp_path / "cut", cut, table="orders", harness={"run_key": "monday"})
    assert third.metrics["rows_written"] == 2
    with pytest.raises(StepError, match="wrote 2 other rows"):
        orders.write(tmp_path / "3", pa.table({"id": [4]}), table="orders", harness={"run_key": "monday"})
    orders.write(tmp_path / "4", pa.table({"id": [4]}), table="orders", harness={"run_key": "tuesday"})
    assert ids(orders) == [1, 2, 3, 4, 9]


def test_a_second_try_with_other_categories_is_no_second_try(database: Any, tmp_path: Path) -> None:
    """Values behind a dictionary are values: rows that are not written are not said to be."""
    database.run("CREATE TABLE kinds (k varchar(9))")
    for number, values in enumerate((["x", "y"], ["p", "q"])):
        rows = pa.table({"k": pa.array(values).dictionary_encode()})
        settings = {"table": "kinds", "harness": {"run_key": "monday"}}
        if number:
            with pytest.raises(StepError, match="wrote 2 other rows"):
                database.write(tmp_path / str(number), rows, **settings)
        else:
            database.write(tmp_path / str(number), rows, **settings)


def test_a_second_try_waits_for_the_first_one_at_the_server(orders: Any, tmp_path: Path) -> None:
    """A try whose answer was lost may still be at work there: the next one sees what becomes of it."""
    markers = orders.open_transaction(
        "CREATE TABLE osiris_writes (run_key varchar(64), step_id varchar(128), target text, rows_written bigint, "
        "content varchar(64), written_at timestamp, PRIMARY KEY (run_key, step_id))",
        "INSERT INTO osiris_writes (run_key, step_id, target) VALUES ('monday', 'step', 'x')",
    )
    rows = ROWS.slice(1)
    attempt = in_thread(lambda: orders.write(tmp_path, rows, table="orders", harness={"run_key": "monday"}))
    time.sleep(0.7)
    assert not attempt.done()
    assert ids(orders) == [1, 9]
    markers.rollback()  # the first one came to nothing
    markers.close()
    assert attempt.exception(10) is None
    assert ids(orders) == [1, 2, 3, 9]


def test_without_exactly_once_no_table_is_left(orders: Any, tmp_path: Path) -> None:
    before = orders.tables()
    orders.write(tmp_path, ROWS.slice(1), table="orders", exactly_once=False)
    assert orders.tables() == before
    assert ids(orders) == [1, 2, 3, 9]


def test_a_deadlock_is_worth_another_try(orders: Any, tmp_path: Path) -> None:
    """Two transactions that wait for each other: the one that the server ends may be tried again."""
    rows = pa.table({"id": pa.array([9, 1], pa.int32()), "name": ["x", "y"]})
    # Each server takes its locks in an order of its own: the input's, or the key's.
    theirs, ours = (1, 9) if orders.family == "postgres" else (9, 1)
    other = orders.open_transaction(f"UPDATE orders SET n = 5 WHERE id = {theirs}")
    attempt = in_thread(lambda: orders.write(tmp_path, rows, table="orders", write_mode="upsert", primary_key="id"))
    orders.wait_until_active("orders")
    time.sleep(0.3)
    others: list[BaseException] = []
    try:
        orders.execute(other, f"UPDATE orders SET n = 6 WHERE id = {ours}")
        other.commit()
    except Exception as exc:  # noqa: BLE001 - two client libraries
        others.append(exc)
        other.rollback()
    other.close()
    error = attempt.exception(20)
    assert (error is None) == bool(others)  # one of them was ended
    if error is not None:
        assert isinstance(error, StepError)
        assert error.failure_class is FailureClass.INFRA_LOST
        assert "retry" in str(error)


def test_a_cancel_ends_a_write_that_waits_and_leaves_nothing(orders: Any, tmp_path: Path) -> None:
    other = orders.open_transaction("UPDATE orders SET n = 5 WHERE id = 1")
    token = CancelToken()
    attempt = in_thread(
        lambda: orders.write(tmp_path, ROWS, table="orders", write_mode="replace", harness={"token": token})
    )
    orders.wait_until_active("DELETE")
    token.cancel(FailureClass.CANCELLED)
    assert isinstance(attempt.exception(4), RunCancelled)
    orders.wait_until_idle()
    other.rollback()
    other.close()
    assert ids(orders) == [1, 9]


def test_a_connection_that_is_lost_in_a_write_leaves_nothing(orders: Any, tmp_path: Path) -> None:
    """An administrator ends it while it waits for a lock: the try is worth another, and the rows are as before."""
    other = orders.open_transaction("UPDATE orders SET n = 5 WHERE id = 1")
    attempt = in_thread(lambda: orders.write(tmp_path, ROWS, table="orders", write_mode="replace"))
    orders.wait_until_active("DELETE")
    orders.end_statements_with("DELETE")
    error = attempt.exception(10)
    assert isinstance(error, StepError)
    assert error.failure_class is FailureClass.INFRA_LOST
    other.rollback()
    other.close()
    assert ids(orders) == [1, 9]


def test_who_may_not_make_the_marker_is_told_what_to_do(orders: Any, tmp_path: Path) -> None:
    """The statement for an administrator, or the option; and nothing was written."""
    reader = orders.user_who_may_only("orders", "SELECT, INSERT")
    table, schema = ROWS.slice(1), orders.schema
    with pytest.raises(StepError, match="let an administrator make it: CREATE TABLE") as caught:
        orders.write(tmp_path, table, table="orders", schema=schema, connection=reader)
    assert "exactly_once: false" in str(caught.value)
    assert ids(orders) == [1, 9]
    orders.write(tmp_path, table, table="orders", schema=schema, connection=reader, exactly_once=False)
    with pytest.raises(StepError, match=r"lacks a right|GRANT"):
        orders.write(tmp_path, table, table="orders", schema=schema, connection=reader, write_mode="replace")
    assert ids(orders) == [1, 2, 3, 9]


@pytest.mark.parametrize("mode", ["append", "upsert"])
def test_rows_are_counted_also_where_the_server_keeps_no_numbers(postgres: Any, tmp_path: Path, mode: str) -> None:
    """With track_counts off: those that are there, less those that a trigger kept out."""
    postgres.run(
        "CREATE TABLE orders (id integer PRIMARY KEY)",
        "INSERT INTO orders VALUES (7), (8)",
        "CREATE FUNCTION keep_out() RETURNS trigger LANGUAGE plpgsql "
        "AS 'BEGIN IF NEW.id = 2 THEN RETURN NULL; END IF; RETURN NEW; END'",
        "CREATE TRIGGER keep_out BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION keep_out()",
    )
    postgres.ask_admin(f"ALTER ROLE {postgres.user} SET track_counts = off")
    rows = pa.table({"id": pa.array([1, 2, 3], pa.int32())})
    found = postgres.write(tmp_path, rows, table="orders", write_mode=mode, primary_key="id")
    assert found.metrics["rows_written"] == 2
    assert ids(postgres) == [1, 3, 7, 8]
