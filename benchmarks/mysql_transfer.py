"""Rows out of MariaDB and into it: our drivers beside the fastest client libraries alone, and pandas."""

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

MODULE = "benchmarks.mysql_transfer"
BUDGET_BYTES = 256 << 20
ORDERS = """
CREATE TABLE orders (order_id bigint PRIMARY KEY, customer_id int, country varchar(8), amount decimal(12,2),
  quantity int, paid tinyint(1), product varchar(40), ordered_at datetime)
AS SELECT seq AS order_id, seq * 7919 % 50000 AS customer_id, ELT(1 + seq % 5, 'CZ', 'DE', 'PL', 'NA', 'AT') AS country,
  ROUND(seq * 31 % 100000 / 100.0, 2) AS amount, seq % 20 AS quantity, seq % 3 = 0 AS paid,
  CONCAT('product ', seq % 1000) AS product, TIMESTAMP('2026-01-01') + INTERVAL seq % 300 DAY AS ordered_at
FROM seq_1_to_{rows}
"""


def _uri(place: dict[str, Any]) -> str:
    return "mysql://{user}:{password}@{host}:{port}/{database}".format(**place)


def ours_out(place: dict[str, Any]) -> Callable[[], object]:
    return our_read("mysql.extractor", place, BUDGET_BYTES)


def connectorx_out(place: dict[str, Any]) -> Callable[[], object]:
    """The fastest that there is; its decimals have ten places whatever the column says, and no TLS."""
    import connectorx  # type: ignore[import-not-found, import-untyped, unused-ignore]

    return lambda: connectorx.read_sql(_uri(place), "SELECT * FROM orders", return_type="arrow")


def pandas_out(place: dict[str, Any]) -> Callable[[], object]:
    import pandas as pd  # type: ignore[import-untyped, unused-ignore]
    import sqlalchemy  # type: ignore[import-not-found, unused-ignore]

    engine = sqlalchemy.create_engine(_uri(place).replace("mysql:", "mysql+pymysql:"))
    return lambda: pd.read_sql_query("SELECT * FROM orders", engine)


def _orders(place: dict[str, Any]) -> Any:
    from pathlib import Path
    from tempfile import mkdtemp

    from osiris_core.drivers.mysql_extractor import MysqlExtractor
    from osiris_core.testing import run_driver

    config = {"connection": place, "table": "orders"}
    return run_driver(MysqlExtractor, config, Path(mkdtemp()), table_budget_bytes=4 << 30).outputs["df"]


def ours_in(place: dict[str, Any]) -> Callable[[], object]:
    return our_write("mysql.writer", place, _orders(place))


def load_data_in(place: dict[str, Any]) -> Callable[[], object]:
    """LOAD DATA LOCAL of a file that is there already: what the server itself takes."""
    import tempfile

    import pyarrow.csv
    import pymysql  # type: ignore[import-untyped, unused-ignore]

    table = _orders(place)
    paid = table.schema.get_field_index("paid")
    table = table.set_column(paid, "paid", table.column(paid).cast("int8"))
    file = tempfile.NamedTemporaryFile(suffix=".csv")  # noqa: SIM115 - lives as long as the process
    pyarrow.csv.write_csv(table, file.name, pyarrow.csv.WriteOptions(include_header=False))
    connection = pymysql.connect(**place, local_infile=True)

    def transfer() -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                f"LOAD DATA LOCAL INFILE '{file.name}' INTO TABLE written CHARACTER SET utf8mb4 "
                "FIELDS TERMINATED BY ',' OPTIONALLY ENCLOSED BY '\"'"
            )
        connection.commit()

    return transfer


def pandas_in(place: dict[str, Any]) -> Callable[[], object]:
    import sqlalchemy

    frame = _orders(place).to_pandas()
    engine = sqlalchemy.create_engine(_uri(place).replace("mysql:", "mysql+pymysql:"))
    types = {"amount": sqlalchemy.Numeric(12, 2)}
    return lambda: frame.to_sql("written", engine, if_exists="append", index=False, chunksize=10_000, dtype=types)


CANDIDATES = {
    "ours_out": ours_out, "connectorx_out": connectorx_out, "pandas_out": pandas_out,
    "ours_in": ours_in, "load_data_in": load_data_in, "pandas_in": pandas_in,
}  # fmt: skip
LABELS = {
    "connectorx_out": ("connectorx", "1.3"), "pandas_out": ("pandas", "-"),
    "load_data_in": ("LOAD DATA of a ready file", "-"), "pandas_in": ("pandas", "-"),
}  # fmt: skip


def measure(quick: bool) -> Iterator[Row]:
    rows, repeats = (1_000, 1) if quick else (1_000_000, 5)
    with database_place("Mariadb") as database:
        if database is None:
            yield Row("MariaDB", "not measured: it is not installed")
            return
        database.run(ORDERS.format(rows=rows), "ANALYZE TABLE orders")
        pandas = is_installed("pandas", "sqlalchemy")

        def fresh() -> None:
            database.run("DROP TABLE IF EXISTS written", "CREATE TABLE written LIKE orders")

        fast = {"out": ["connectorx_out"] if is_installed("connectorx") else [], "in": ["load_data_in"]}
        for way, others in fast.items():
            found = measure_transfers(MODULE, database, [f"ours_{way}", *others], repeats, fresh)
            found |= measure_transfers(MODULE, database, [f"pandas_{way}"] if pandas else [], 1, fresh)
            ours = found.pop(f"ours_{way}")
            for name, other in found.items():
                label, reach = LABELS[name]
                ratio = ours.median_s / other.median_s
                yield Row(f"{rows:,} x 8 {way}, over {label}", f"{ours}", f"{other}", ratio, reach)
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
