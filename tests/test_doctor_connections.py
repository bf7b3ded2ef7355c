"""`osiris doctor --connections`: every connection is really tried, and no secret is shown, whatever comes of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from osiris_core.cli.connection_checks import check_connections
from osiris_core.driver import DriverRegistry
from tests.api_server import ApiServer, Seen, Wire, api_server
from tests.rest_server import KEY, rest_server
from tests.test_secret_leaks import SECRET, assert_no_secret_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

pytest.importorskip("httpx")


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with api_server() as running:
        yield running


def needs_token(seen: Seen, wire: Wire) -> None:
    """Shows back whatever it was sent."""
    good = seen.headers.get("authorization", "").endswith(SECRET.encode().decode("latin-1"))
    wire.json({"data": {}, "sent": seen.headers, "to": seen.target}, 200 if good else 401)


def doctor(folder: Path, text: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    (folder / "c.yaml").write_text(text)
    return subprocess.run(
        [sys.executable, "-m", "osiris_core.cli.main", "doctor", "--connections", str(folder / "c.yaml"), *arguments],
        env={**{name: value for name, value in os.environ.items() if name != "NOWHERE"}, **environment},
        capture_output=True,
        timeout=50,
        check=False,
    )


def test_every_connection_is_tried(server: ApiServer, tmp_path: Path) -> None:
    """Good, refused, wrong, unreachable, unknown: a line for each, exit code 1, one document with --json."""
    server.on("/v2", needs_token)
    server.on("/graphql", needs_token)
    server.gives("/errors", {"errors": [{"message": "no", "extensions": {"code": "UNAUTHENTICATED"}}], "data": None})
    server.on("/echo", lambda seen, wire: wire.json({"sent": seen.headers, "to": seen.target}, 403))
    with rest_server() as rest:
        text = f"""
connections:
  http:
    good: {{base_url: "{server.url}/v2", auth_type: bearer, auth_token: "${{SHOP_TOKEN}}"}}
    literal: {{base_url: "{server.url}/v2", auth_type: bearer, auth_token: "{SECRET}"}}
    refused: {{base_url: "{server.url}/v2", auth_type: bearer, auth_token: "a-stale-token"}}
    echo: {{base_url: "{server.url}/echo", auth_type: api_key, auth_token: "{SECRET}", auth_query_name: k}}
    root: {{base_url: "{server.url}/nothing-here"}}
    unset: {{base_url: "{server.url}/v2", auth_type: bearer, auth_token: "${{NOWHERE}}"}}
    typo: {{base_ur: "{server.url}/v2"}}
    closed: {{base_url: "http://127.0.0.1:9"}}
  graphql:
    good: {{endpoint: "{server.url}/graphql", auth_type: bearer, auth_token: "${{SHOP_TOKEN:-{SECRET}}}"}}
    refused: {{endpoint: "{server.url}/errors", auth_type: bearer, auth_token: "a-stale-token"}}
    html: {{endpoint: "{server.url}/nothing-here"}}
  supabase:
    rest: {{url: "{rest.url}", key: "{KEY}"}}
  filesystem:
    landing: {{base_dir: "{tmp_path}"}}
    gone: {{base_dir: "{tmp_path}/gone"}}
  acme:
    other: {{password: "{SECRET}"}}
"""
        done = doctor(tmp_path, text, "--json", SHOP_TOKEN=SECRET)
        shown = doctor(tmp_path, text, SHOP_TOKEN=SECRET)
    assert done.returncode == shown.returncode == 1
    for stream in (done.stdout, done.stderr, shown.stdout, shown.stderr):
        assert_no_secret_in(stream, "a stream")
        assert b"a-stale-token" not in stream
        assert KEY.encode() not in stream
    found: dict[str, dict[str, Any]] = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert {name: check["state"] for name, check in found.items()} == {
        "@acme.other": "note",
        "@filesystem.gone": "broken",
        "@filesystem.landing": "ok",
        "@graphql.good": "ok",
        "@graphql.html": "broken",
        "@graphql.refused": "broken",
        "@http.closed": "broken",
        "@http.echo": "broken",
        "@http.good": "ok",
        "@http.literal": "ok",
        "@http.refused": "broken",
        "@http.root": "ok",
        "@http.typo": "broken",
        "@http.unset": "broken",
        "@supabase.rest": "ok",
    }
    details = {name: check["detail"] for name, check in found.items()}
    assert details["@http.good"] == f"{server.url[7:]} answers 200 OK, bearer credentials sent"
    assert "check the credentials" in details["@http.refused"]
    assert "check the credentials" in details["@graphql.refused"]
    assert details["@http.unset"] == f"{tmp_path / 'c.yaml'}:9: the variable NOWHERE is not set"
    assert f"{tmp_path / 'c.yaml'}:10: base_ur: there is no such key" in details["@http.typo"]
    assert "nobody answers" in details["@http.closed"]
    assert "8 problems found" in shown.stdout.decode()


def test_a_server_that_hangs_holds_nobody_up(server: ApiServer, tmp_path: Path) -> None:
    """Three connections that never answer take the time of one."""
    server.on("/x", lambda seen, wire: time.sleep(20))
    aliases = "".join(f"    a{n}: {{base_url: '{server.url}/x'}}\n" for n in range(3))
    started_s = time.monotonic()
    done = doctor(tmp_path, f"connections:\n  http:\n{aliases}", "--timeout", "0.5", "--json")
    assert time.monotonic() - started_s < 8
    assert [check["state"] for check in json.loads(done.stdout)["checks"]] == ["broken"] * 3
    assert done.returncode == 1


def test_a_driver_that_never_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check of somebody else's that does not keep its time is given up."""

    class Hangs:
        connection_family = "acme"

        @classmethod
        def check_connection(cls, connection: Mapping[str, Any], timeout_s: float) -> str:
            if connection["n"] == 1:
                time.sleep(30)
            raise SystemError(f"no {connection['password']}")

        def run(self, step_id: str, config: Any, inputs: Any, ctx: Any) -> None: ...

    monkeypatch.setattr("osiris_core.cli.connection_checks.GRACE_S", 0.1)
    (tmp_path / "c.yaml").write_text(
        "connections:\n  acme:\n    a: {n: 1, password: hunter2-x}\n    b: {n: 2, password: hunter2-y}\n"
    )
    DriverRegistry.register("acme.thing", Hangs)
    try:
        hangs, raises = check_connections(str(tmp_path / "c.yaml"), 0.2)
    finally:
        DriverRegistry.unregister("acme.thing")
    assert (hangs.state, hangs.detail) == ("broken", "did not answer within 0.2 s")
    assert (raises.state, raises.detail) == ("broken", "no ***")


def test_more_checks_than_places_that_never_return(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is given up makes place for the next."""

    class Hangs:
        connection_family = "acme"

        @classmethod
        def check_connection(cls, connection: Mapping[str, Any], timeout_s: float) -> str:
            if connection["n"] < 3:
                time.sleep(30)
            return "there"

        def run(self, step_id: str, config: Any, inputs: Any, ctx: Any) -> None: ...

    monkeypatch.setattr("osiris_core.cli.connection_checks.GRACE_S", 0.1)
    monkeypatch.setattr("osiris_core.cli.connection_checks.AT_A_TIME", 2)
    aliases = "".join(f"    a{n}: {{n: {n}}}\n" for n in range(4))
    (tmp_path / "c.yaml").write_text(f"connections:\n  acme:\n{aliases}")
    DriverRegistry.register("acme.thing", Hangs)
    started_s = time.monotonic()
    try:
        found = check_connections(str(tmp_path / "c.yaml"), 0.2)
    finally:
        DriverRegistry.unregister("acme.thing")
    assert time.monotonic() - started_s < 5
    assert [check.state for check in found] == ["broken"] * 3 + ["ok"]


def test_no_file_is_no_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a connections file there is nothing to check; a named one that is missing is bad input."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OSIRIS_HOME", raising=False)
    assert [check.state for check in check_connections(None, 1)] == ["note"]
    done = subprocess.run(
        [sys.executable, "-m", "osiris_core.cli.main", "doctor", "--connections", "missing.yaml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "missing.yaml" in done.stderr
