"""`http.extractor` against a real server: who asks and how, pages of every kind, types, TLS, no secret anywhere."""

from __future__ import annotations

import base64
import json
import logging
import ssl
import subprocess
import sys
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from osiris_core import AdapterFactory, DriverRegistry, ExecutionContext, PreparationError, StepError
from osiris_core.errors import FailureClass
from osiris_core.testing import run_driver
from tests.api_server import ApiServer, Seen, Wire, api_server
from tests.test_secret_leaks import assert_no_secret_below

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest.importorskip("httpx")
trustme = pytest.importorskip("trustme")
HTTP = DriverRegistry.get("http.extractor")
SECRET = "hunter2/Šárka&co+more"


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with api_server() as running:
        yield running


def read(folder: Path, config: dict[str, Any], **more: Any) -> Any:
    own = Path(tempfile.mkdtemp(dir=folder))
    return run_driver(HTTP, {"retry_delay_s": 0.01, **config}, own, **more)


def rows(folder: Path, config: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read(folder, config).outputs["df"].to_pylist()
    return found


def failure(folder: Path, config: dict[str, Any]) -> StepError:
    with pytest.raises(StepError) as caught:
        read(folder, config)
    return caught.value


@pytest.mark.parametrize(
    ("auth", "header", "value"),
    [
        ({"auth_type": "bearer", "auth_token": "t-1"}, "authorization", "Bearer t-1"),
        (
            {"auth_type": "basic", "auth_username": "me", "auth_token": "pä:ss"},
            "authorization",
            "Basic " + base64.b64encode("me:pä:ss".encode()).decode(),
        ),
        ({"auth_type": "api_key", "auth_token": "k-1"}, "x-api-key", "k-1"),
        ({"auth_type": "api_key", "auth_token": "k-1", "auth_header_name": "X-Shop"}, "x-shop", "k-1"),
        ({"headers": {"X-Tenant": "seven"}}, "x-tenant", "seven"),
        ({}, "user-agent", "osiris-core/0.1.0"),
    ],
)
def test_how_it_says_who_asks(server: ApiServer, tmp_path: Path, auth: dict[str, Any], header: str, value: str) -> None:
    """Each kind of credential in its header, on every page."""
    server.on("/v2/x", lambda seen, wire: wire.json([] if "page=2" in seen.target else [{"a": 1}]))
    connection = {"base_url": server.url + "/v2", **auth}
    assert rows(tmp_path, {"connection": connection, "url": "x", "pagination": {"type": "page"}}) == [{"a": 1}]
    assert [seen.headers[header] for seen in server.seen] == [value, value]


def test_a_key_in_the_query(server: ApiServer, tmp_path: Path) -> None:
    """It is in every request once, also where the server's own link has it, and in no error."""

    def page(seen: Seen, wire: Wire) -> None:
        more = "p" not in seen.query
        wire.json({"i": [{"a": 1 if more else 2}], "next": f"/x?p=2&key={SECRET[:3]}" if more else None})

    connection = {
        "base_url": server.url,
        "auth_type": "api_key",
        "auth_token": SECRET,
        "auth_query_name": "key",
    }
    config = {"connection": connection, "data_path": "i", "pagination": {"type": "next_url", "path": "next"}}
    server.on("/x", page)
    assert rows(tmp_path, {**config, "url": "x"}) == [{"a": 1}, {"a": 2}]
    assert [seen.query["key"] for seen in server.seen] == [[SECRET], [SECRET]]
    error = failure(tmp_path, {**config, "url": "gone"})
    assert "/gone: the server answered 404" in str(error)
    assert SECRET not in str(error)


def test_addresses_and_parameters(server: ApiServer, tmp_path: Path) -> None:
    """A path goes below the base, whose own path and query stay; lists repeat, null is left out, all is encoded."""
    server.gives("/v2/a%20b/c", [])
    params = {"l": [1, "x y"], "t": True, "n": None, "e": "ä&=+/", "f": 1.5}
    read(tmp_path, {"connection": {"base_url": server.url + "/v2?v=1"}, "url": "/a%20b/c", "params": params})
    assert server.seen[0].query == {"v": ["1"], "l": ["1", "x y"], "t": ["true"], "e": ["ä&=+/"], "f": ["1.5"]}
    assert server.seen[0].target.startswith("/v2/a%20b/c?v=1&l=1&l=x%20y")


ITEMS = [{"id": number} for number in range(7)]


def by_cursor(seen: Seen, wire: Wire) -> None:
    start = int(seen.query.get("after", ["0"])[0])
    more = start + 3 < len(ITEMS)
    wire.json({"data": {"items": ITEMS[start : start + 3], "next": start + 3 if more else None}, "more": more})


def by_cursor_in_body(seen: Seen, wire: Wire) -> None:
    assert seen.json["q"] == "all"
    start = seen.json.get("after") or 0
    wire.json({"data": {"items": ITEMS[start : start + 3], "next": start + 3 if start + 3 < len(ITEMS) else ""}})


def by_page(seen: Seen, wire: Wire) -> None:
    start = (int(seen.query["page"][0]) - 1) * 3
    wire.json(ITEMS[start : start + 3])


def by_offset(seen: Seen, wire: Wire) -> None:
    start = int(seen.query["offset"][0])
    assert seen.query["limit"] == ["100"]
    wire.json(ITEMS[start : start + 2])  # fewer than asked for: no server has to give that many


def by_link(seen: Seen, wire: Wire) -> None:
    start = int(seen.query.get("s", ["0"])[0])
    links = ['</x?s=0>; rel="first"']
    if start + 3 < len(ITEMS):
        links.append(f'</x?s={start + 3}>; rel="next"; title="a, b"')
    wire.json(ITEMS[start : start + 3], Link=", ".join(links))


def by_url(seen: Seen, wire: Wire) -> None:
    start = int(seen.query.get("s", ["0"])[0])
    value = {"value": ITEMS[start : start + 3]}
    wire.json({**value, "@odata.nextLink": f"?s={start + 3}"} if start + 3 < len(ITEMS) else value)


@pytest.mark.parametrize(
    ("route", "config", "requests"),
    [
        (by_cursor, {"data_path": "data.items", "pagination": {"type": "cursor", "cursor_path": "data.next"}}, 3),
        (by_cursor, {"data_path": "data.items", "pagination": {"type": "cursor", "has_more_path": "more"}}, 3),
        (by_cursor_in_body, {"data_path": "data.items", "method": "POST", "body": {"q": "all"}}, 3),
        (by_page, {"pagination": {"type": "page"}}, 4),
        (by_offset, {"pagination": {"type": "offset"}}, 5),
        (by_link, {"pagination": {"type": "link"}}, 3),
        (by_url, {"data_path": "value", "pagination": {"type": "next_url", "path": "['@odata.nextLink']"}}, 3),
    ],
)
def test_every_page_is_read(
    server: ApiServer, tmp_path: Path, route: Any, config: dict[str, Any], requests: int
) -> None:
    """Each way of turning pages gives every record once, in order, and ends by itself."""
    if route in (by_cursor, by_cursor_in_body):
        into = {"into": "body"} if route is by_cursor_in_body else {}
        pagination = {"type": "cursor", "cursor_path": "data.next", "parameter": "after", **into}
        config = {**config, "pagination": {**pagination, **config.get("pagination", {})}}
    done = read(tmp_path, {"url": server.on("/x", route), **config})
    assert done.outputs["df"].to_pylist() == ITEMS
    assert len(server.seen) == requests
    assert done.metrics["rows_read"] == 7


def test_equal_pages_may_be_expected(server: ApiServer, tmp_path: Path) -> None:
    """Where records are equal; and in pages that are not counted, they are no error at all."""
    rows = [{"status": "paid"}] * 4

    def page(seen: Seen, wire: Wire) -> None:
        start = int(seen.query.get("offset", ["0"])[0])
        wire.json(rows[start : start + 2])

    pagination = {"type": "offset", "size": 2, "same_page": "accept"}
    found = read(tmp_path, {"url": server.on("/x", page), "pagination": pagination})
    assert found.outputs["df"].to_pylist() == rows

    def linked(seen: Seen, wire: Wire) -> None:
        last = "at" in seen.query
        wire.answer(b'[{"status": "paid"}]', **({} if last else {"Link": '</y?at=2>; rel="next"'}))

    linked_pages = {"url": server.on("/y", linked), "pagination": {"type": "link"}}
    assert read(tmp_path, linked_pages).outputs["df"].num_rows == 2


@pytest.mark.parametrize(
    ("answer", "pagination", "says"),
    [
        ({"i": [], "n": "same"}, {"type": "cursor", "cursor_path": "n"}, "round in a circle: page 3"),
        ({"i": [{"a": 1}]}, {"type": "page"}, "this page is the same as the page before"),
        ({"i": [{"a": 1}], "n": "/x"}, {"type": "next_url", "path": "n"}, "round in a circle: page 2"),
        ({"i": [], "n": {"x": 1}}, {"type": "cursor", "cursor_path": "n"}, "is no text or number"),
        ({"i": [], "n": 3}, {"type": "next_url", "path": "n"}, "is no text"),
        (
            {"i": [], "m": True},
            {"type": "cursor", "cursor_path": "n", "has_more_path": "m"},
            "the mark of the next page was looked for at n",
        ),
    ],
)
def test_pages_that_lead_nowhere(
    server: ApiServer, tmp_path: Path, answer: Any, pagination: dict[str, Any], says: str
) -> None:
    """A server that does not turn pages, or says that there is more and not where, is an error: no half result."""
    error = failure(tmp_path, {"url": server.gives("/x", answer), "data_path": "i", "pagination": pagination})
    assert says in str(error)
    assert error.failure_class is FailureClass.PROTOCOL
    assert len(server.seen) <= 3


def test_pages_have_a_limit(server: ApiServer, tmp_path: Path) -> None:
    """More than max_pages is an error, or with `stop` a warning."""
    url = server.on("/x", lambda seen, wire: wire.json([{"n": len(server.seen)}]))
    config = {"url": url, "pagination": {"type": "page"}, "max_pages": 3}
    assert "more than 3 pages; raise max_pages" in str(failure(tmp_path, config))
    server.seen.clear()
    done = read(tmp_path, {**config, "on_max_pages": "stop"})
    assert done.outputs["df"].to_pylist() == [{"n": 1}, {"n": 2}, {"n": 3}]
    assert "max_pages says not to read further" in json.dumps(done.events)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("data.itms", "data has no 'itms' (did you mean 'items'?)"),
        ("data.items.id", "data.items is a list, and no object; did you mean data.items[*].id?"),
        ("data[*]", "data is an object, and no list"),
        ("data.items[9]", "data.items has only 3 items"),
        ("more", "neither a list nor an object, but 'True'"),
    ],
)
def test_a_path_that_leads_nowhere(server: ApiServer, tmp_path: Path, path: str, says: str) -> None:
    """The error says what is there instead."""
    error = failure(tmp_path, {"url": server.on("/x", by_cursor), "data_path": path})
    assert says in str(error)
    assert error.failure_class is FailureClass.USER_ERROR


def test_types_hold_for_all_pages(server: ApiServer, tmp_path: Path) -> None:
    """What the last page says of a column holds for the first; no integer loses a digit, null and missing are null."""
    pages = [
        '[{"big": 9007199254740993, "f": 1, "mixed": 1, "b": true, "n": {"x": 1, "deep": {"y": "s"}}, "e": ""}]',
        '[{"big": 9223372036854775807, "f": 2.5, "mixed": "t", "n": null, "tags": [1, {"k": "ž"}], "z": null}]',
        '[{"big": -1, "mixed": 2.5, "b": null, "o": {}}, {"wide": 18446744073709551616, "both": 9007199254740993}]',
        '[{"wide": 1, "both": 0.5, "mixed": true}]',
        "[]",
    ]
    url = server.on("/x", lambda seen, wire: wire.answer(pages[int(seen.query["page"][0]) - 1].encode()))
    done = read(tmp_path, {"url": url, "pagination": {"type": "page"}, "raw_column": "_json"}).outputs["df"]
    types = {field.name: str(field.type) for field in done.schema}
    assert types == {
        "big": "int64", "f": "double", "mixed": "string", "b": "bool", "n.x": "int64", "n.deep.y": "string",
        "e": "string", "_json": "string", "tags": "string", "z": "string", "o": "string", "wide": "string",
        "both": "string",
    }  # fmt: skip
    columns = done.to_pydict()
    assert columns["big"] == [9007199254740993, 9223372036854775807, -1, None, None]
    assert columns["f"] == [1.0, 2.5, None, None, None]
    assert columns["mixed"] == ["1", "t", "2.5", None, "true"]
    assert columns["tags"][1] == '[1,{"k":"ž"}]'
    assert columns["wide"] == [None, None, None, "18446744073709551616", "1"]
    assert columns["both"] == [None, None, None, "9007199254740993", "0.5"]
    assert columns["e"] == ["", None, None, None, None]
    assert columns["_json"][2] == '{"big":-1,"mixed":2.5,"b":null,"o":{}}', "null and missing differ there"


def test_types_asked_for(server: ApiServer, tmp_path: Path) -> None:
    """`columns` and `dtype` give the table its form, also when there is nothing in it; what does not fit is named."""
    url = server.gives("/x", [{"at": "2026-05-01T12:00:00+02:00", "d": "2026-05-01", "p": 12.5, "i": "7", "x": 1}])
    form = {
        "columns": ["p", "at", "d", "i"],
        "dtype": {"at": "timestamptz", "d": "date", "p": "decimal(9,2)", "i": "int64"},
    }
    table = read(tmp_path, {"url": url, **form}).outputs["df"]
    assert [str(kind) for kind in table.schema.types] == [
        "decimal128(9, 2)", "timestamp[us, tz=UTC]", "date32[day]", "int64",
    ]  # fmt: skip
    row = table.to_pylist()[0]
    assert (row["p"], row["at"].isoformat(), row["i"]) == (Decimal("12.50"), "2026-05-01T10:00:00+00:00", 7)
    empty = read(tmp_path, {"url": server.gives("/empty", []), **form}).outputs["df"]
    assert empty.schema == table.schema
    assert empty.num_rows == 0
    bad = server.gives("/bad", [{"i": 1}, {"i": "seven"}])
    assert "column 'i': 'seven' in record 2 is no int64" in str(
        failure(tmp_path, {"url": bad, "dtype": {"i": "int64"}})
    )
    epoch = server.gives("/epoch", [{"t": 1700000000}])
    assert "is no timestamp" in str(failure(tmp_path, {"url": epoch, "dtype": {"t": "timestamp"}}))
    assert "did you mean 'i'" in str(failure(tmp_path, {"url": bad, "columns": ["ii"]}))


def test_decimals(server: ApiServer, tmp_path: Path) -> None:
    """With `decimals` a fraction has all its digits, in a type that is wide enough for every page."""
    body = b'[{"p": 0.1, "q": 1}, {"p": 12345678901234567890.123456789, "q": 1e2}, {"p": 3, "q": null}]'
    url = server.on("/x", lambda seen, wire: wire.answer(body))
    table = read(tmp_path, {"url": url, "decimals": True}).outputs["df"]
    assert table.schema.field("p").type == pa.decimal128(29, 9)
    assert table.column("p").to_pylist()[1] == Decimal("12345678901234567890.123456789")
    assert table.column("q").to_pylist() == [Decimal(1), Decimal(100), None]


def test_nested_objects_and_odd_records(server: ApiServer, tmp_path: Path) -> None:
    """Flattening has its separator, or none; a clash is an error; what is no object is the column `value`."""
    url = server.gives("/x", [{"a": {"b": {"c": 1}}, "l": [1]}])
    assert rows(tmp_path, {"url": url, "separator": "_"}) == [{"a_b_c": 1, "l": "[1]"}]
    assert rows(tmp_path, {"url": url, "flatten_result": False}) == [{"a": '{"b":{"c":1}}', "l": "[1]"}]
    clash = server.gives("/c", [{"a.b": 1, "a": {"b": 2}}])
    assert "record 1: two values of one record belong into column 'a.b'" in str(failure(tmp_path, {"url": clash}))
    assert rows(tmp_path, {"url": server.gives("/v", [1, None, [2]])}) == [{"value": v} for v in ("1", None, "[2]")]
    assert rows(tmp_path, {"url": server.gives("/one", {"a": 1})}) == [{"a": 1}]
    assert rows(tmp_path, {"url": server.gives("/null", None)}) == []
    edges = server.gives("/e", {"edges": [{"node": {"a": 1}}, {"node": {"a": 2}}]})
    assert rows(tmp_path, {"url": edges, "data_path": "edges[*].node"}) == [{"a": 1}, {"a": 2}]


def test_many_pages_do_not_live_in_memory(server: ApiServer, tmp_path: Path) -> None:
    """120 MB of records in 60 pages pass through a process that grows by a fraction of that."""
    page = json.dumps([{"id": 1, "text": "x" * 1000}] * 2000).encode()

    def give(seen: Seen, wire: Wire) -> None:
        number = int(seen.query["page"][0])
        wire.answer(page.replace(b'"id": 1', f'"id": {number}'.encode()) if number <= 60 else b"[]")

    server.on("/x", give)
    script = (
        "import resource, sys; from pathlib import Path\n"
        "from osiris_core import DriverRegistry\nfrom osiris_core.testing import run_driver\n"
        "driver = DriverRegistry.get('http.extractor')\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
        "run = lambda name, n: run_driver(driver, {'url': sys.argv[1], 'pagination': {'type': 'page'}, 'max_pages': n,"
        " 'on_max_pages': 'stop'}, Path(sys.argv[2]) / name, table_budget_bytes=1 << 20).outputs['df'].num_rows\n"
        "[(Path(sys.argv[2]) / name).mkdir() for name in 'ab']\n"
        "run('a', 3); before = peak(); rows = run('b', 100); print(rows, peak() - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, server.url + "/x", str(tmp_path)], capture_output=True, text=True, check=True
    )
    count, grown_mb = done.stdout.split()
    assert int(count) == 120_000
    assert float(grown_mb) < 60


@pytest.fixture(scope="module")
def authority() -> Any:
    return trustme.CA()


@pytest.fixture
def secure(authority: Any) -> Iterator[ApiServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with api_server(tls=context) as running:
        running.gives("/x", [{"a": 1}])
        yield running


def test_certificates_are_verified(secure: ApiServer, authority: Any, tmp_path: Path) -> None:
    """An authority that nobody knows is refused before anything is sent; one that is named is trusted."""
    pem = authority.cert_pem.bytes().decode()
    (tmp_path / "ca.pem").write_text(pem)
    connection = {"base_url": secure.url, "auth_type": "bearer", "auth_token": "hunter2hunter2"}
    error = failure(tmp_path, {"connection": connection, "url": "x"})
    assert "is not trusted" in str(error)
    assert "ca_file or ca_certificates" in str(error)
    assert error.failure_class is FailureClass.USER_ERROR
    assert secure.seen == []
    assert rows(tmp_path, {"connection": {**connection, "ca_certificates": pem}, "url": "x"}) == [{"a": 1}]
    assert rows(tmp_path, {"connection": connection, "url": "x", "ca_file": str(tmp_path / "ca.pem")}) == [{"a": 1}]
    done = read(tmp_path, {"connection": {**connection, "validate_ssl": False}, "url": "x"})
    assert "whoever stands between" in json.dumps(done.events)
    (tmp_path / "bad.pem").write_text("no certificate")
    wrong = failure(tmp_path, {"connection": connection, "url": "x", "ca_file": str(tmp_path / "bad.pem")})
    assert "holds no certificate" in str(wrong)


def test_another_name_in_the_certificate(authority: Any, tmp_path: Path) -> None:
    """A trusted certificate for another host is refused, saying so; plain HTTP on a TLS port too."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("other.example").configure_cert(context)
    pem = authority.cert_pem.bytes().decode()
    with api_server(tls=context) as running:
        error = failure(tmp_path, {"connection": {"base_url": running.url, "ca_certificates": pem}, "url": "x"})
        assert "is for another name" in str(error)
        assert running.seen == []
    with api_server() as plain:
        url = plain.url.replace("http://", "https://")
        assert "does not speak TLS there" in str(failure(tmp_path, {"url": url + "/x"}))


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"url": "orders"}, "without a connection, url must be a whole address"),
        ({"url": "ftp://x/y"}, "url must begin with https:// or http://"),
        ({"url": "https://me:pw@x/y"}, "holds credentials"),
        ({"url": "https://x/y", "body": {}}, "a body is for method POST"),
        ({"url": "https://x/y", "headers": {"A": "b\nC: d"}}, "has a line break"),
        ({"url": "https://x/y", "headers": {"Host": "z"}}, "is set by the client itself"),
        ({"url": "https://x/y", "data_path": "a..b"}, "is no path"),
        ({"url": "https://x/y", "dtype": {"a": "int65"}}, "unknown type 'int65'"),
        ({"url": "https://x/y", "pagination": {"type": "pages"}}, "does not match any of the expected tags"),
        ({"url": "https://x/y", "pagination": {"type": "page", "into": "body"}}, "needs method POST"),
        ({"url": "https://x/y", "timeout": 3}, "there is no such key"),
        ({"connection": "@graphql.x"}, "takes a connection of family 'http', not 'graphql'"),
    ],
)
def test_bad_settings_cost_nothing(tmp_path: Path, config: dict[str, Any], says: str) -> None:
    """They are found before anything is asked."""
    manifest = {"steps": [{"id": "a", "driver": "http.extractor", "config": config}]}
    with pytest.raises(PreparationError) as caught:
        AdapterFactory.create("local").prepare(manifest, ExecutionContext(session_dir=str(tmp_path / "s")))
    assert says in str(caught.value)
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("connection", "says"),
    [
        ("{base_url: 'https://x', auth_type: bearer}", "auth_type bearer needs auth_token"),
        ("{base_url: 'https://x', auth_token: t}", "auth_type is none; say which kind it is"),
        ("{base_url: 'https://x', auth_type: basic, auth_token: t}", "needs auth_username"),
        ("{base_url: 'https://x', auth_query_name: t}", "auth_query_name is for auth_type api_key"),
        ("{base_url: x}", "must begin with https://"),
        ("{base_ur: 'https://x'}", "did you mean 'base_url'"),
    ],
)
def test_a_bad_connection_is_wrong_where_it_is_written(tmp_path: Path, connection: str, says: str) -> None:
    """The problem names the connections file and its line, not only the step."""
    (tmp_path / "c.yaml").write_text(f"connections:\n  http:\n    shop: {connection}\n")
    manifest = {"steps": [{"id": "a", "driver": "http.extractor", "config": {"connection": "@http.shop"}}]}
    context = ExecutionContext(session_dir=str(tmp_path / "s"), connections=str(tmp_path / "c.yaml"))
    with pytest.raises(PreparationError) as caught:
        AdapterFactory.create("local").prepare(manifest, context)
    assert says in str(caught.value)
    assert f"{tmp_path / 'c.yaml'}:3: " in str(caught.value)


@pytest.mark.parametrize(
    "auth",
    [
        "auth_type: bearer",
        "auth_type: basic, auth_username: someone",
        "auth_type: api_key",
        "auth_type: api_key, auth_query_name: apikey",
    ],
)
@pytest.mark.parametrize("literal", [False, True])
def test_no_secret_anywhere(
    server: ApiServer, tmp_path: Path, monkeypatch: Any, caplog: Any, auth: str, literal: bool
) -> None:
    """A server gives every header and the query back in its error: the value is in no file, event, log or error."""
    monkeypatch.setenv("SHOP_TOKEN", SECRET)
    given = SECRET if literal else "${SHOP_TOKEN}"
    text = f"connections:\n  http:\n    shop: {{base_url: '{server.url}', auth_token: '{given}', {auth}}}\n"
    (tmp_path / "c.yaml").write_text(text)

    def echo(seen: Seen, wire: Wire) -> None:
        status = 503 if len(server.seen) == 1 else 403
        wire.json({"you sent": seen.headers, "to": seen.target, "body": seen.body.decode()}, status)

    server.on("/x", echo)
    config = {"connection": "@http.shop", "url": "x", "retry_delay_s": 0.01}
    context = ExecutionContext(
        session_dir=str(tmp_path / "session"), connections=str(tmp_path / "c.yaml"), verbose=True
    )
    with caplog.at_level(logging.DEBUG):
        report = AdapterFactory.create("local").run(
            {"steps": [{"id": "a", "driver": "http.extractor", "config": config}]}, context
        )
    assert report.status == "failed"
    assert "may not do that" in report.error["message"]
    sent = [*server.seen[-1].headers.values(), *server.seen[-1].query.get("apikey", [])]
    as_header = SECRET.encode().decode("latin-1")
    basic = base64.b64encode(f"someone:{SECRET}".encode()).decode()
    assert {SECRET, as_header, f"Bearer {as_header}", f"Basic {basic}"} & set(sent), "it was really sent"
    assert_no_secret_below(tmp_path / "session")
    shown = caplog.text + repr(report.to_json())
    for form in (SECRET, "hunter2", as_header, basic):
        assert form not in shown
