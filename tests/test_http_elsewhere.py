"""The same reading over HTTP on every adapter: equal bytes, no secret anywhere, packages and a network as needed."""

from __future__ import annotations

import ipaddress
import json
import os
import threading
import time
from importlib import metadata
from typing import TYPE_CHECKING, Any

import pytest

from adapters.docker_engine.config import DockerConfig
from adapters.docker_image.packages import with_packages
from osiris_core import AdapterFactory, DriverRegistry, ExecutionContext, PreparationError
from osiris_core.driver_packages import missing_packages, packages_of, remedy
from tests.api_server import ApiServer, Seen, Wire, api_server
from tests.conftest import DOCKER_BASE
from tests.test_secret_leaks import SECRET, assert_no_secret_below, assert_no_secret_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest.importorskip("httpx")
IMAGE_TIMEOUT_S = 300
RECORDS = [{"id": number, "price": number / 4, "customer": {"name": f"ž-{number}"}} for number in range(1000)]


def orders(seen: Seen, wire: Wire) -> None:
    """A hundred at a time, for who has the token; busy the first time."""
    if seen.headers.get("authorization") != f"Bearer {SECRET.encode().decode('latin-1')}":
        wire.json({"sent": seen.headers}, 401)
    elif seen.query["offset"] == ["300"] and sum(other.query["offset"] == ["300"] for other in wire.seen) == 1:
        wire.json({}, 503, Retry_After="0")
    else:
        start = int(seen.query["offset"][0])
        wire.json(RECORDS[start : start + 100])


def steps(folder: Path, url: str) -> dict[str, Any]:
    (folder / "c.yaml").write_text(
        f"connections:\n  http:\n    shop: {{base_url: '{url}', auth_type: bearer, auth_token: '${{SHOP_TOKEN}}'}}\n"
    )
    config = {"connection": "@http.shop", "url": "orders", "pagination": {"type": "offset"}, "retry_delay_s": 0.01}
    return {
        "pipeline": "http-elsewhere",
        "steps": [
            {"id": "read", "driver": "http.extractor", "config": config},
            {"id": "write", "driver": "filesystem.csv_writer", "inputs": {"df": "read"}, "config": {"path": "o.csv"}},
        ],
    }


def context(folder: Path, name: str) -> ExecutionContext:
    return ExecutionContext(
        session_id=f"{name}-{os.urandom(6).hex()}",
        session_dir=str(folder / name),
        connections=str(folder / "c.yaml"),
    )


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_TOKEN", SECRET)


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with api_server() as running:
        running.on("/orders", orders)
        yield running


def check(report: Any, folder: Path, name: str) -> bytes:
    assert report.status == "completed", report.error
    assert report.metrics["rows_read"] == 1000
    warnings = [
        event["message"]
        for event in map(json.loads, (folder / name / "events.jsonl").read_text().splitlines())
        if event["event"] == "log" and event["level"] == "warning"
    ]
    assert len(warnings) == 1
    assert "503" in warnings[0]
    assert_no_secret_below(folder / name)
    return (folder / name / "artifacts/write/o.csv").read_bytes()


def test_local_and_process(server: ApiServer, tmp_path: Path) -> None:
    """A worker process gives the bytes that this one gives."""
    found = {}
    for name in ("local", "process"):
        server.seen.clear()
        with AdapterFactory.create(name) as adapter:
            found[name] = check(adapter.run(steps(tmp_path, server.url), context(tmp_path, name)), tmp_path, name)
        assert len(server.seen) == 12
    assert found["local"] == found["process"]
    assert found["local"].startswith(b"id,price,customer.name\n0,0.0,\xc5\xbe-0\n")


def test_a_worker_process_stops_at_once(server: ApiServer, tmp_path: Path) -> None:
    """A cancel ends the request that a worker waits for."""
    server.on("/orders", lambda seen, wire: time.sleep(30))
    adapter = AdapterFactory.create("process")
    reports: list[Any] = []
    running = threading.Thread(
        target=lambda: reports.append(adapter.run(steps(tmp_path, server.url), context(tmp_path, "s")))
    )
    running.start()
    deadline_s = time.monotonic() + 30
    while not server.seen and time.monotonic() < deadline_s:
        time.sleep(0.02)
    started_s = time.monotonic()
    adapter.cancel("enough")
    running.join(20)
    assert time.monotonic() - started_s < 4, "within the grace"
    assert reports[0].status == "cancelled"


@pytest.mark.timeout(IMAGE_TIMEOUT_S)  # the first use builds an image with httpx in it
def test_docker(docker_client: Any, tmp_path: Path) -> None:
    """A container gets httpx and a network because the driver says so, and its token through stdin only."""
    subnet = docker_client.api.inspect_network("bridge")["IPAM"]["Config"][0]["Subnet"]
    gateway = str(next(ipaddress.ip_network(subnet).hosts()))  # this machine, as containers see it
    seen: list[str] = []
    with api_server(gateway) as server:

        def looks(request: Seen, wire: Wire) -> None:
            if not seen:
                for container in docker_client.api.containers(filters={"label": f"osiris.session={there.session_id}"}):
                    seen.append(json.dumps(docker_client.api.inspect_container(container["Id"])))
            orders(request, wire)

        server.on("/orders", looks)
        manifest, there = steps(tmp_path, server.url), context(tmp_path, "docker")
        report = AdapterFactory.create("docker", base_image=DOCKER_BASE).run(manifest, there)
        inside = check(report, tmp_path, "docker")
        server.seen.clear()
        here = check(AdapterFactory.create("local").run(manifest, context(tmp_path, "here")), tmp_path, "here")
    assert inside == here
    assert len(seen) == 1
    assert_no_secret_in(seen[0].encode(), "docker inspect")


def test_what_a_driver_needs_goes_into_the_image(tmp_path: Path) -> None:
    """In this host's version; what `requirements` names, and an image that is ready, stay as they are."""
    drivers = ["http.extractor", "graphql.extractor", "duckdb.processor"]
    pinned = f"httpx=={metadata.version('httpx')}"
    config = DockerConfig(requirements=("polars",))
    assert with_packages(config, drivers).requirements == ("polars", pinned)
    assert with_packages(config, ["duckdb.processor"]) is config
    named = DockerConfig(requirements=("HTTPX<1",))
    assert with_packages(named, drivers) is named
    ready = DockerConfig(image="x")
    assert with_packages(ready, drivers) is ready
    assert with_packages(DockerConfig(wheels_dir=str(tmp_path)), drivers).requirements == ("httpx>=0.27,<1",)


def test_what_a_driver_needs(tmp_path: Path) -> None:
    """A package that is missing is said before anything runs, with the extra that has it."""
    assert packages_of(["http.extractor", "duckdb.processor", "no.such"]) == ["httpx>=0.27,<1"]

    class Needs:
        packages = ("httpx>=0.27", "no-such-package-here>=1")

        def run(self, step_id: str, config: Any, inputs: Any, ctx: Any) -> None: ...

    assert missing_packages(Needs) == ["no-such-package-here>=1"]
    DriverRegistry.register("t.needs", Needs)
    try:
        with pytest.raises(PreparationError, match=r"'t\.needs' needs no-such-package-here>=1"):
            AdapterFactory.create("local").prepare(
                {"steps": [{"id": "a", "driver": "t.needs"}]}, ExecutionContext(session_dir=str(tmp_path / "s"))
            )
    finally:
        DriverRegistry.unregister("t.needs")
    assert remedy(["httpx>=0.27", "no_such.Package>=1"]) == "pip install 'osiris-core[http]' 'no_such.Package>=1'"
