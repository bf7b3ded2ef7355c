"""Rows out of PostgreSQL and into it: our drivers beside COPY through client libraries alone, and pandas."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from benchmarks.database_place import (
    database_place,
    is_installed,
    measure_transfers,
    our_read,
    our_write,
    run_candidate,
)
from benchmarks.table import Row, main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MODULE = "benchmarks.postgres_transfer"
BUDGET_BYTES = 256 << 20
ORDERS = """
CREATE TABLE orders AS SELECT i::bigint AS order_id, (i::bigint * 7919 % 50000)::int AS customer_id,
  (array['CZ', 'DE', 'PL', 'NA', 'AT'])[1 + i % 5] AS country,
  (i::bigint * 31 % 100000 / 100.0)::numeric(12,2) AS amount, i % 20 AS quantity, i % 3 = 0 AS paid,
  'product ' || i % 1000 AS product,
  timestamp '2026-01-01' + i % 300 * interval '1 day' AS ordered_at
FROM generate_series(1, {rows}) AS i
"""


def _uri(place: dict[str, Any]) -> str:
    return "postgresql://{user}:{password}@{host}:{port}/{database}".format(**place)


def _adbc(place: dict[str, Any]) -> Any:
    import adbc_driver_postgresql.dbapi  # type: ignore[import-untyped, unused-ignore]

    return adbc_driver_postgresql.dbapi.connect(_uri(place))


def _orders(place: dict[str, Any]) -> Any:
    """The table that is written, with exact types, as our extractor gives it."""
    from pathlib import Path
    from tempfile import mkdtemp

    from osiris_core.drivers.postgres_extractor import PostgresExtractor
    from osiris_core.testing import run_driver

    config = {"connection": place, "table": "orders"}
    return run_driver(PostgresExtractor, config, Path(mkdtemp()), table_budget_bytes=4 << 30).outputs["df"]


def ours_out(place: dict[str, Any]) -> Callable[[], object]:
    return our_read("postgres.extractor", place, BUDGET_BYTES)


def adbc_out(place: dict[str, Any]) -> Callable[[], object]:
    _adbc(place).close()

    def transfer() -> None:
        with _adbc(place) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT * FROM orders")
            for _ in cursor.fetch_record_batch():
                pass

    return transfer


def psycopg_out(place: dict[str, Any]) -> Callable[[], object]:
    """COPY TO of bytes that nobody looks at."""
    import psycopg  # type: ignore[import-not-found, unused-ignore]

    psycopg.connect(_uri(place)).close()

    def transfer() -> None:
        statement = "COPY orders TO STDOUT (FORMAT binary)"
        with psycopg.connect(_uri(place)) as connection, connection.cursor().copy(statement) as copy:
            for _ in copy:
                pass

    return transfer


def pandas_out(place: dict[str, Any]) -> Callable[[], object]:
    import pandas as pd  # type: ignore[import-untyped, unused-ignore]
    import sqlalchemy  # type: ignore[import-not-found, unused-ignore]

    engine = sqlalchemy.create_engine(_uri(place).replace("postgresql:", "postgresql+psycopg:"))
    return lambda: pd.read_sql_query("SELECT * FROM orders", engine)


def ours_in(place: dict[str, Any]) -> Callable[[], object]:
    return our_write("postgres.writer", place, _orders(place))


def adbc_in(place: dict[str, Any]) -> Callable[[], object]:
    table = _orders(place)

    def transfer() -> None:
        with _adbc(place) as connection:
            with connection.cursor() as cursor:
                cursor.adbc_ingest("written", table, mode="append")
            connection.commit()

    return transfer


def psycopg_in(place: dict[str, Any]) -> Callable[[], object]:
    """COPY FROM of bytes that are there already: what the server itself takes."""
    import psycopg

    connection = psycopg.connect(_uri(place))
    with connection.cursor().copy("COPY orders TO STDOUT (FORMAT binary)") as copy:
        payload = memoryview(b"".join(bytes(part) for part in copy))

    def transfer() -> None:
        with connection.cursor().copy("COPY written FROM STDIN (FORMAT binary)") as copy:
            for start in range(0, len(payload), 1 << 17):
                copy.write(payload[start : start + (1 << 17)])
        connection.commit()

    return transfer


def pandas_in(place: dict[str, Any]) -> Callable[[], object]:
    import sqlalchemy

    frame = _orders(place).to_pandas()
    engine = sqlalchemy.create_engine(_uri(place).replace("postgresql:", "postgresql+psycopg:"))
    types = {"amount": sqlalchemy.Numeric(12, 2)}
    return lambda: frame.to_sql("written", engine, if_exists="append", index=False, chunksize=10_000, dtype=types)


CANDIDATES = {
    "ours_out": ours_out, "adbc_out": adbc_out, "psycopg_out": psycopg_out, "pandas_out": pandas_out,
    "ours_in": ours_in, "adbc_in": adbc_in, "psycopg_in": psycopg_in, "pandas_in": pandas_in,
}  # fmt: skip


def measure(quick: bool) -> Iterator[Row]:
    rows, repeats = (1_000, 1) if quick else (1_000_000, 5)
    with database_place("Postgres") as database:
        if database is None:
            yield Row("PostgreSQL", "not measured: it is not installed")
            return
        database.run(ORDERS.format(rows=rows), "ANALYZE orders")
        extra = ["psycopg"] if is_installed("psycopg") else []
        slow = ["pandas"] if is_installed("pandas", "sqlalchemy", "psycopg") else []

        def fresh() -> None:
            database.run("DROP TABLE IF EXISTS written", "CREATE TABLE written (LIKE orders)")

        for way, words, reach in (("out", "COPY TO", "1.3"), ("in", "COPY FROM", "1.5")):
            names = [f"{name}_{way}" for name in ("ours", "adbc", *extra)]
            found = measure_transfers(MODULE, database, names, repeats, fresh)
            found |= measure_transfers(MODULE, database, [f"{name}_{way}" for name in slow], 1, fresh)
            ours = found[f"ours_{way}"]
            labels = {"adbc": f"{words} by ADBC", "psycopg": f"{words} by psycopg, bytes only", "pandas": "pandas"}
            for name, label in labels.items():
                if (other := found.get(f"{name}_{way}")) is not None:
                    ratio = ours.median_s / other.median_s
                    limit = "-" if name == "pandas" else reach
                    yield Row(f"{rows:,} x 8 {way}, over {label}", f"{ours}", f"{other}", ratio, limit)
        yield from _memory(database, 2_000 if quick else 10_000_000)


def _memory(database: Any, rows: int) -> Iterator[Row]:
    database.run("DROP TABLE orders", ORDERS.format(rows=rows))
    found = measure_transfers(MODULE, database, ["ours_out"], 1)["ours_out"]
    what = f"{rows:,} x 8 out, peak memory above idle, budget {BUDGET_BYTES >> 20} MiB"
    yield Row(what, f"{found.above_idle_mib:.0f} MiB, {found.median_s:.1f} s", reach="512 MiB")


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] in CANDIDATES:
        run_candidate(sys.argv[1], CANDIDATES)
    else:
        main(measure)
