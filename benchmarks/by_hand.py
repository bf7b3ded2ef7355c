"""
CSV → SQL → CSV without us, the yardsticks: `python benchmarks/by_hand.py fused|three IN OUT`.

`fused` is one DuckDB statement. `three` is what a careful person writes: read, query and write as three statements
with Arrow between them, and both ends hashed.
"""

from __future__ import annotations

import hashlib
import sys

import duckdb

from benchmarks.orders_query import QUERY


def fused(source: str, target: str) -> None:
    statement = QUERY.replace("FROM orders", f"FROM read_csv('{source}')")
    duckdb.execute(f"COPY ({statement}) TO '{target}' (HEADER)")


def three(source: str, target: str) -> None:
    with duckdb.connect() as connection:
        read = connection.sql(f"SELECT * FROM read_csv('{source}')").to_arrow_table()
    with duckdb.connect() as connection:
        connection.register("orders", read)
        selected = connection.sql(QUERY).to_arrow_table()
    with duckdb.connect() as connection:
        connection.register("selected", selected)
        connection.execute(f"COPY selected TO '{target}' (HEADER)")
    for path in (source, target):
        with open(path, "rb") as file:
            hashlib.file_digest(file, "sha256")


if __name__ == "__main__":
    {"fused": fused, "three": three}[sys.argv[1]](sys.argv[2], sys.argv[3])
