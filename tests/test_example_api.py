"""examples/api as it stands, against local servers that answer as its shop and its project do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from osiris_core import AdapterFactory, ExecutionContext
from tests.api_server import Seen, Wire, api_server
from tests.rest_server import KEY, RestServer, rest_server
from tests.test_secret_leaks import SECRET, assert_no_secret_below

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest.importorskip("httpx")
EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "api"
ORDERS = [
    {"id": 1, "product": {"id": 10, "sku": "a"}, "amount": 2.35, "ordered_at": "2026-03-01T10:00:00Z"},
    {"id": 2, "product": {"id": 11, "sku": "b"}, "amount": "0.10", "ordered_at": "2026-03-01T12:00:00+02:00"},
    {"id": 3, "product": {"id": 10, "sku": "a"}, "amount": 2.35, "ordered_at": None},
    {"id": 4, "product": {"id": 12, "sku": "c"}, "amount": 2.35, "ordered_at": "2026-03-02T10:00:00Z"},
    {"id": 5, "product": {"id": 11, "sku": "b"}, "amount": 1001, "ordered_at": "2026-03-03T10:00:00Z"},
]
PRODUCTS = [
    {"id": 10, "title": "x", "vendor": {"name": "Acme"}},
    {"id": 11, "title": "y", "vendor": {"name": "Žák"}},
    {"id": 12, "title": "z", "vendor": {"name": "Acme"}},
]
WIRE_SECRET = SECRET.encode().decode("latin-1")


def orders(seen: Seen, wire: Wire) -> None:
    assert seen.headers["authorization"] == f"Bearer {WIRE_SECRET}"
    assert seen.query["since"] == ["2026-01-01"]
    assert seen.query["status"] == ["paid", "shipped"]
    start = int(seen.query.get("after", ["0"])[0])
    wire.json({"data": {"items": ORDERS[start : start + 2], "next": str(start + 2) if start + 2 < 5 else None}})


def products(seen: Seen, wire: Wire) -> None:
    assert seen.headers["x-shop-token"] == WIRE_SECRET
    start = int(seen.json["variables"].get("after") or 0)
    info = {"hasNextPage": start + 2 < 3, "endCursor": str(start + 2)}
    nodes = PRODUCTS[start : start + seen.json["variables"]["first"]]
    wire.json({"data": {"products": {"nodes": nodes, "pageInfo": info}}})


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch) -> Iterator[RestServer]:
    with api_server() as shop, rest_server() as running:
        shop.on("/v2/orders", orders)
        shop.on("/graphql", products)
        running.make("vendors", "vendor TEXT PRIMARY KEY, orders INTEGER, amount NUMERIC")
        given = {"SHOP_URL": shop.url, "SHOP_TOKEN": SECRET, "REPORTS_URL": running.url, "REPORTS_KEY": KEY}
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        yield running


@pytest.mark.parametrize("adapter", ["local", "process"])
def test_it_runs_as_it_stands(tmp_path: Path, project: RestServer, adapter: str) -> None:
    """The file is equal to the expected one byte for byte, the table has its rows, and no secret is left anywhere."""
    context = ExecutionContext(session_dir=str(tmp_path / "session"), publish_dir=str(tmp_path / "out"))
    with AdapterFactory.create(adapter) as running:
        report = running.run(EXAMPLE / "manifest.yaml", context)
    assert report.succeeded, report.error
    assert (tmp_path / "out/vendors.csv").read_bytes() == (EXAMPLE / "expected/vendors.csv").read_bytes()
    assert project.rows("vendors") == [("Acme", 3, 7.05), ("Žák", 2, 1001.1)]
    assert_no_secret_below(tmp_path / "session")
