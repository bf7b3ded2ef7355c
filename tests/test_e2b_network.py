"""What a sandbox may reach: nothing, but for what the manifest's connections and the configuration name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("e2b", reason="the extra [e2b] is not installed")

from adapters.e2b_cloud.network import Host, HostUnknown, network_options, reach_of, rules
from adapters.e2b_cloud.network_config import NetworkConfig
from osiris_core import AdapterFactory, ExecutionContext
from osiris_core.driver import DriverRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from osiris_core.prepared import PreparedRun
    from tests.e2b_server import E2BServer


class Reader:
    """Reads from a database, it says."""

    needs_network = True

    def run(self, step_id: str, config: Any, inputs: Any, ctx: Any) -> None:
        return None


@pytest.fixture(autouse=True)
def reader() -> Iterator[None]:
    DriverRegistry.register("net.reader", Reader)
    yield
    DriverRegistry.unregister("net.reader")


CONNECTIONS = """
connections:
  mysql:
    billing: {default: true, host: localhost, port: 3307, user: u, password: "${DB_PASSWORD}"}
  postgres:
    local: {dsn: "postgresql://u:${DB_PASSWORD}@127.0.0.1:5433/db"}
  supabase:
    main: {url: "https://abc.supabase.example.org", key: "${DB_PASSWORD}"}
  filesystem:
    here: {base_dir: .}
"""


def prepared(tmp_path: Path, *steps: dict[str, Any]) -> PreparedRun:
    (tmp_path / "osiris_connections.yaml").write_text(CONNECTIONS)
    context = ExecutionContext(
        session_dir=str(tmp_path / "s"),
        connections=str(tmp_path / "osiris_connections.yaml"),
        environment={"DB_PASSWORD": "hunter2hunter2"},
    )
    return AdapterFactory.create("local").prepare({"pipeline": "p", "steps": list(steps)}, context)


def read(step_id: str, **config: Any) -> dict[str, Any]:
    return {"id": step_id, "driver": "net.reader", "config": config}


SQL = {"id": "sql", "driver": "duckdb.processor", "config": {"query": "SELECT 'https://nobody.example.org' AS x"}}


def test_nothing_is_reached_without_a_reason(tmp_path: Path) -> None:
    """A manifest that names nobody gets a sandbox that reaches nobody; a URL in a query is no reason."""
    options = network_options(NetworkConfig(), reach_of(prepared(tmp_path, SQL)), None)
    assert options == {"allow_public_traffic": False, "deny_out": ["0.0.0.0/0"]}


def test_connections_are_reached(tmp_path: Path) -> None:
    """By name on 80 and 443, by address elsewhere; only those that a step names, and no password is near them."""
    run = prepared(
        tmp_path,
        read("a", connection="@mysql.billing"),
        read("b", connection="@postgres.local"),
        read("c", connection="@supabase.main"),
        SQL,
    )
    options = network_options(NetworkConfig(), reach_of(run), None)
    assert options["deny_out"] == ["0.0.0.0/0"]
    assert options["allow_out"] == ["127.0.0.1", "abc.supabase.example.org"]
    assert "hunter2" not in str(options)
    only_one = network_options(NetworkConfig(), reach_of(prepared(tmp_path, read("a", connection="@mysql"))), None)
    assert only_one["allow_out"] == ["127.0.0.1"]


@pytest.mark.parametrize(
    ("driver", "connection", "expected"),
    [
        ("supabase", {"project_id": "abc", "key": "${K}"}, [("abc.supabase.co", 443)]),
        ("supabase", {"project_id": "abc", "password": "${K}"}, [("db.abc.supabase.co", 5432)]),
        ("supabase", {"pg_dsn": "postgresql://u:${K}@10.0.0.1:6543/d"}, [("10.0.0.1", 6543)]),
        ("postgres", {"database": "d", "user": "u"}, [("localhost", 5432)]),
        ("mysql", {"host": "10.0.0.2", "database": "d", "user": "u"}, [("10.0.0.2", 3306)]),
        ("mysql", {"host": "/run/mysqld/mysqld.sock", "database": "d", "user": "u"}, []),
    ],
)
def test_a_connection_says_itself_where_it_goes(
    tmp_path: Path, driver: str, connection: dict[str, Any], expected: list[tuple[str, int]]
) -> None:
    """Also where no field has the name of a host: what is known does not open the network."""
    lines = json.dumps({"version": 1, "connections": {driver: {"main": connection}}})
    (tmp_path / "osiris_connections.yaml").write_text(lines)
    context = ExecutionContext(
        session_dir=str(tmp_path / "s"),
        connections=str(tmp_path / "osiris_connections.yaml"),
        environment={"K": "hunter2hunter2"},
    )
    config = {"connection": f"@{driver}.main", "table": "t"}
    step = {"id": "a", "driver": f"{driver}.extractor", "config": config}
    reach = reach_of(AdapterFactory.create("local").prepare({"pipeline": "p", "steps": [step]}, context))
    assert [(host.name, host.port) for host in reach.hosts] == expected
    assert reach.unknown == ()


def test_urls_of_a_step_that_needs_a_network_are_reached(tmp_path: Path) -> None:
    """Also where they are deep in its configuration."""
    run = prepared(tmp_path, read("a", request={"urls": ["https://api.example.org/v1", "http://127.0.0.1:8080/x"]}))
    assert network_options(NetworkConfig(), reach_of(run), None)["allow_out"] == ["api.example.org", "127.0.0.1"]


def test_a_need_without_a_name_opens_the_network(tmp_path: Path) -> None:
    """A driver that needs a network and names nobody gets one, unless the configuration says whom it means."""
    reach = reach_of(prepared(tmp_path, read("a")))
    assert reach.unknown == ("a",)
    assert network_options(NetworkConfig(), reach, None) == {"allow_public_traffic": False}
    named = network_options(NetworkConfig(allow_out=("api.example.org",)), reach, None)
    assert named["allow_out"] == ["api.example.org"]
    assert named["deny_out"] == ["0.0.0.0/0"]
    assert network_options(NetworkConfig(access="none"), reach, None)["deny_out"] == ["0.0.0.0/0"]


def test_the_configuration_has_the_last_word(tmp_path: Path) -> None:
    """all is all but what is denied; none is what it allows itself, whatever the connections name."""
    reach = reach_of(prepared(tmp_path, read("a", connection="@supabase.main")))
    opened = NetworkConfig(access="all", deny_out=("10.0.0.0/8",), dns_servers=("9.9.9.9",))
    assert network_options(opened, reach, None) == {
        "allow_public_traffic": False,
        "deny_out": ["10.0.0.0/8"],
        "dns_servers": ["9.9.9.9"],
    }
    closed = NetworkConfig(access="none", allow_out=("10.1.2.3", "localhost:5432", "*.example.org"))
    assert network_options(closed, reach, None)["allow_out"] == ["10.1.2.3", "127.0.0.1", "*.example.org"]
    proxied = NetworkConfig(egress_proxy={"address": "proxy.example.org:1080", "username": "u", "password": "${P}"})
    assert network_options(proxied, reach, "pw")["egress_proxy"] == {
        "address": "proxy.example.org:1080",
        "username": "u",
        "password": "pw",
    }


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (Host("api.example.org", 443, ""), ["api.example.org"]),
        (Host("localhost", 5432, ""), ["127.0.0.1"]),
        (Host("10.2.3.4", 5432, ""), ["10.2.3.4"]),
        (Host("localhost", None, ""), ["localhost", "127.0.0.1"]),
    ],
)
def test_a_host_is_allowed_as_the_firewall_knows_it(host: Host, expected: list[str]) -> None:
    """By its name where that is read from the traffic, by its addresses elsewhere."""
    assert list(rules(host)) == expected


def test_a_host_without_an_address_is_named(tmp_path: Path) -> None:
    """With who wants to reach it."""
    with pytest.raises(HostUnknown, match=r"step 'a': db\.invalid cannot be resolved"):
        list(rules(Host("db.invalid", 5432, "step 'a'")))


def test_what_the_sandbox_gets(tmp_path: Path, e2b_server: E2BServer) -> None:
    """The rules are in the request that makes it: there is no moment in which more is open."""
    far = {"api_key": e2b_server.api_key, "api_url": e2b_server.api_url, "sandbox_url": e2b_server.sandbox_url}
    manifest = {"pipeline": "p", "steps": [SQL]}
    with AdapterFactory.create("e2b", **far, template="osiris-ready", network={"allow_out": ["10.0.0.1"]}) as adapter:
        assert adapter.run(manifest, ExecutionContext(session_dir=str(tmp_path / "s"))).succeeded
    network = e2b_server.sandbox.create_body["network"]
    assert network == {"allowPublicTraffic": False, "allowOut": ["10.0.0.1"], "denyOut": ["0.0.0.0/0"]}
    assert e2b_server.seen.count("network") == 0
