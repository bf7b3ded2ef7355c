"""`graphql.extractor` against a real server: the query as it is sent, cursors, errors with their path, who asks."""

from __future__ import annotations

import base64
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from osiris_core import AdapterFactory, DriverRegistry, ExecutionContext, PreparationError, StepError
from osiris_core.errors import FailureClass
from osiris_core.testing import run_driver
from tests.api_server import ApiServer, Seen, Wire, api_server

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest.importorskip("httpx")
GRAPHQL = DriverRegistry.get("graphql.extractor")
QUERY = "query ($after: String) { products(after: $after) { nodes { id } pageInfo { hasNextPage endCursor } } }"
PAGED = {
    "query": QUERY,
    "data_path": "data.products.nodes",
    "pagination_enabled": True,
    "pagination_path": "data.products.pageInfo",
}


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with api_server() as running:
        yield running


def read(folder: Path, config: dict[str, Any], **more: Any) -> Any:
    own = Path(tempfile.mkdtemp(dir=folder))
    return run_driver(GRAPHQL, {"retry_delay": 0.01, **config}, own, **more)


def failure(folder: Path, config: dict[str, Any]) -> StepError:
    with pytest.raises(StepError) as caught:
        read(folder, config)
    return caught.value


def products(seen: Seen, wire: Wire) -> None:
    """Five products, two at a time."""
    start = int(seen.json["variables"].get("after") or 0)
    nodes = [{"id": number, "vendor": {"name": "ž"}} for number in range(start, min(start + 2, 5))]
    info = {"hasNextPage": start + 2 < 5, "endCursor": str(start + 2)}
    edges = [{"node": node} for node in nodes]
    wire.json({"data": {"products": {"nodes": nodes, "edges": edges, "pageInfo": info}}})


def test_pages_by_cursor(server: ApiServer, tmp_path: Path) -> None:
    """Each page is asked for once, with the cursor of the one before; the query and the variables go as they are."""
    config = {"endpoint": server.on("/graphql", products), **PAGED, "variables": {"first": 2, "ids": [1, None]}}
    done = read(tmp_path, config)
    assert done.outputs["df"].column_names == ["id", "vendor.name"]
    assert done.outputs["df"]["id"].to_pylist() == [0, 1, 2, 3, 4]
    assert len(server.seen) == 3
    assert server.seen[0].json == {"query": QUERY, "variables": {"first": 2, "ids": [1, None]}}
    assert server.seen[1].json["variables"] == {"first": 2, "ids": [1, None], "after": "2"}
    edges = read(tmp_path, {**config, "data_path": "data.products.edges[*].node", "flatten_result": False})
    assert edges.outputs["df"]["vendor"].to_pylist()[0] == '{"name":"ž"}'
    server.seen.clear()
    two = read(tmp_path, {**config, "max_pages": 2})
    assert two.outputs["df"].num_rows == 4
    assert len(server.seen) == 2


@pytest.mark.parametrize(
    ("answer", "failure_class", "requests", "says"),
    [
        (
            {
                "errors": [
                    {"message": "no field 'x'", "path": ["products", 0, "x"], "locations": [{"line": 3, "column": 7}]}
                ]
            },
            FailureClass.USER_ERROR,
            1,
            "the query failed: no field 'x' (at products.0.x, line 3:7)",
        ),
        (
            {"data": {"products": None}, "errors": [{"message": "half", "path": ["products"]}]},
            FailureClass.USER_ERROR,
            1,
            "half (at products)",
        ),
        (
            {"errors": [{"message": "who?", "extensions": {"code": "UNAUTHENTICATED"}}]},
            FailureClass.USER_ERROR,
            1,
            "check the credentials",
        ),
        (
            {"errors": [{"message": "slow down", "extensions": {"code": "THROTTLED"}}]},
            FailureClass.INFRA_LOST,
            3,
            "slow down (THROTTLED)",
        ),
        ({"errors": ["plain"]}, FailureClass.USER_ERROR, 1, "plain"),
        ({"errors": [{"message": str(n)} for n in range(9)]}, FailureClass.USER_ERROR, 1, "; and 4 more"),
        ({"message": "hello"}, FailureClass.PROTOCOL, 1, "none of GraphQL"),
        ([1], FailureClass.PROTOCOL, 1, "none of GraphQL"),
        ({"data": {"products": {"nodes": []}}}, FailureClass.PROTOCOL, 1, "has no 'pageInfo'"),
        (
            {"data": {"products": {"nodes": [], "pageInfo": {"hasNextPage": True, "endCursor": None}}}},
            FailureClass.PROTOCOL,
            1,
            "says that there is more",
        ),
        (
            {"data": {"products": {"nodes": [], "pageInfo": {"hasNextPage": True, "endCursor": "c"}}}},
            FailureClass.PROTOCOL,
            2,
            "round in a circle",
        ),
    ],
)
def test_errors_are_errors(
    server: ApiServer, tmp_path: Path, answer: Any, failure_class: FailureClass, requests: int, says: str
) -> None:
    """An `errors` array fails the step with path and place, also beside data; so do pages that lead nowhere."""
    error = failure(tmp_path, {"endpoint": server.gives("/g", answer), **PAGED, "max_retries": 2})
    assert says in str(error)
    assert error.failure_class is failure_class
    assert len(server.seen) == requests


def test_a_broken_connection_is_asked_again(server: ApiServer, tmp_path: Path) -> None:
    """A query changes nothing, so a POST whose answer was lost is asked again."""
    endpoint = server.on("/g", lambda seen, wire: wire.reset() if len(server.seen) == 1 else products(seen, wire))
    assert read(tmp_path, {"endpoint": endpoint, **PAGED}).outputs["df"].num_rows == 5


@pytest.mark.parametrize(
    ("connection", "config", "header"),
    [
        (None, {"auth_type": "bearer", "auth_token": "tok-1"}, {"authorization": "Bearer tok-1"}),
        (
            None,
            {"auth_type": "basic", "auth_username": "u", "auth_token": "tok-1"},
            {"authorization": "Basic " + base64.b64encode(b"u:tok-1").decode()},
        ),
        (None, {"auth_type": "api_key", "auth_token": "tok-1"}, {"x-api-key": "tok-1"}),
        ({"auth_type": "bearer", "auth_token": "tok-1"}, {}, {"authorization": "Bearer tok-1"}),
        # As Osiris splits it: the token in the connection, its kind in the step.
        (
            {"auth_token": "tok-1"},
            {"auth_type": "api_key", "auth_header_name": "X-Shopify-Access-Token"},
            {"x-shopify-access-token": "tok-1"},
        ),
        ({"headers": {"X-Hasura-Admin-Secret": "tok-1"}}, {"auth_type": "none"}, {"x-hasura-admin-secret": "tok-1"}),
    ],
)
def test_who_is_asking(
    server: ApiServer, tmp_path: Path, connection: Any, config: dict[str, Any], header: dict[str, str]
) -> None:
    """By the connection, by the step, or by both together, on every page."""
    endpoint = server.on("/g", products)
    where = {"endpoint": endpoint} if connection is None else {"connection": {"endpoint": endpoint, **connection}}
    read(tmp_path, {**where, **PAGED, **config})
    assert len(server.seen) == 3
    assert all(seen.headers[name] == value for seen in server.seen for name, value in header.items())


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"query": "mutation { x }"}, "is a mutation; an extractor only reads"),
        ({"query": "# c\n  subscription S { x }"}, "is a subscription"),
        ({"query": ", mutation { x }"}, "is a mutation"),
        ({"query": "\ufeffmutation { x }"}, "is a mutation"),
        ({"query": "fragment F on T { a } mutation { x { ...F } }"}, "is a mutation"),
        ({"query": 'query A($a: I = {b: "}"}) @c(d: {e: 1}) { x } subscription B { y }'}, "is a subscription"),
        ({"query": "{ x }", "endpoint": None}, "endpoint is missing, or a connection"),
        ({"query": "{ x }", "endpoint": "graphql"}, "endpoint must begin with https://"),
        ({"query": "{ x }", "auth_type": "bearer"}, "auth_type bearer needs auth_token"),
        ({"query": "{ x }", "connection": {"endpoint": "https://x", "auth_type": "basic"}}, "needs auth_token"),
        (
            {"query": "{ x }", "connection": {"endpoint": "https://x"}, "auth_token": "t"},
            "auth_token is said here and belongs into the connection",
        ),
        (
            {
                "query": "{ x }",
                "auth_type": "api_key",
                "connection": {"endpoint": "https://x", "auth_type": "bearer", "auth_token": "t"},
            },
            "auth_type is said here and belongs into the connection",
        ),
        ({"query": "{ x }", "pagination_path": "a[b"}, "is no path"),
    ],
)
def test_bad_settings_cost_nothing(tmp_path: Path, config: dict[str, Any], says: str) -> None:
    """They are found before anything is asked."""
    settings = {"endpoint": "https://x/graphql", **config}
    manifest = {"steps": [{"id": "a", "driver": "graphql.extractor", "config": settings}]}
    with pytest.raises(PreparationError) as caught:
        AdapterFactory.create("local").prepare(manifest, ExecutionContext(session_dir=str(tmp_path / "s")))
    assert says in str(caught.value)


def test_a_mutation_within_a_name_is_a_query(server: ApiServer, tmp_path: Path) -> None:
    """Only an operation at the top is one, not what stands in a name, a text, a comment or a variable."""
    endpoint = server.gives("/g", {"data": {"mutations": [{"a": 1}]}})
    query = (
        'query mutation($a: I = {b: 1}) { mutations(a: "} mutation {", b: """} mutation {""") { a } }  # } mutation {'
    )
    config = {"endpoint": endpoint, "query": query, "data_path": "data.mutations"}
    assert read(tmp_path, config).outputs["df"].to_pylist() == [{"a": 1}]
