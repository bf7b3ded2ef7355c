"""The examples run as they stand, and give what lies beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet

from osiris_core import AdapterFactory, ExecutionContext

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def test_orders(tmp_path):
    """The report's files are equal to the expected ones byte for byte, on every run."""
    context = ExecutionContext(session_dir=str(tmp_path / "session"), publish_dir=str(tmp_path / "out"))
    report = AdapterFactory.create("local").run(EXAMPLES / "orders" / "manifest.yaml", context)
    assert report.succeeded, report.error
    for expected in (EXAMPLES / "orders" / "expected").iterdir():
        assert (tmp_path / "out" / "report" / expected.name).read_bytes() == expected.read_bytes()
    sales = pyarrow.parquet.read_table(tmp_path / "out" / "sales.parquet")
    assert sales.num_rows == 3182
    assert "NA" in sales.column("country").to_pylist(), "Namibia is no missing value"


def test_orders_since_another_day(tmp_path):
    """A parameter changes what is read, by the day that was asked for."""
    context = ExecutionContext(session_dir=str(tmp_path / "session"), params={"since": "2026-10-01"})
    report = AdapterFactory.create("local").run(EXAMPLES / "orders" / "manifest.yaml", context)
    sales = pyarrow.parquet.read_table(tmp_path / "session" / "artifacts" / "write-sales" / "sales.parquet")
    assert report.succeeded
    assert min(sales.column("ordered_at").to_pylist()).isoformat() >= "2026-10-01"


def test_databases(postgres: Any, mariadb: Any, tmp_path: Path) -> None:
    """From one real server to the other, twice: the second time changes no row."""
    for statement in (EXAMPLES / "databases" / "shop.sql").read_text().split(";\n"):
        if statement.strip():
            postgres.run(statement)
    places = {"SHOP": postgres, "BILLING": mariadb}
    environment = {
        f"{prefix}_{key.upper()}": str(database.connection[key])
        for prefix, database in places.items()
        for key in ("host", "port", "database", "user", "password")
    }
    for attempt in ("first", "second"):
        context = ExecutionContext(
            session_dir=str(tmp_path / attempt), publish_dir=str(tmp_path / "out"), environment=environment
        )
        report = AdapterFactory.create("local").run(EXAMPLES / "databases" / "manifest.yaml", context)
        assert report.succeeded, report.error
    expected = (EXAMPLES / "databases" / "expected" / "accounts.csv").read_text()
    assert (tmp_path / "out" / "accounts.csv").read_text() == expected
    rows = mariadb.rows("SELECT customer_id, paid, owed FROM accounts ORDER BY customer_id")
    assert ["customer_id,paid,owed", *(",".join(map(str, row)) for row in rows)] == expected.splitlines()
