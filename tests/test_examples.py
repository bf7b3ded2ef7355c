"""The examples run as they stand, and give what lies beside them."""

from __future__ import annotations

from pathlib import Path

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
