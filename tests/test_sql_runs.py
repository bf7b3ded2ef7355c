"""Databases in whole runs: the same on every adapter, no secret anywhere, and once whatever is lost or killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from osiris_core import AdapterFactory, ExecutionContext
from tests.conftest import DOCKER_BASE
from tests.lossy_proxy import LossyProxy

if TYPE_CHECKING:
    from collections.abc import Generator


def write_connections(folder: Path, **connections: dict[str, Any]) -> Path:
    """A connections file in which every password stands for a variable."""
    families = {
        family: {"default": {**values, "password": f"${{{family.upper()}_PASSWORD}}"}}
        for family, values in connections.items()
    }
    path = folder / "osiris_connections.yaml"
    path.write_text(json.dumps({"version": 1, "connections": families}))
    return path


def everything_in(folder: Path) -> bytes:
    return b"\n".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


TOTALS = "SELECT country, sum(amount) AS total, max(moment) AS moment FROM orders GROUP BY 1 ORDER BY 1"
INTO_MARIADB = {"table": "totals", "write_mode": "upsert", "primary_key": ["country"], "create_if_missing": True}
FROM_MARIADB = {"query": "SELECT country, total, moment FROM totals ORDER BY country"}


def step(step_id: str, driver: str, source: str | None, config: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": step_id, "driver": driver, "inputs": {"orders": source} if source else {}, "config": config, **more}


COPY = {
    "pipeline": "copy",
    "steps": [
        step("read", "postgres.extractor", None, {"table": "orders", "order_by": ["id"]}),
        step("total", "duckdb.processor", "read", {"query": TOTALS}),
        step("write", "mysql.writer", "total", INTO_MARIADB),
        step("back", "mysql.extractor", None, FROM_MARIADB, needs=["write"]),
        step("append", "postgres.writer", "back", {"table": "log", "create_if_missing": True}),
        step("file", "filesystem.csv_writer", "back", {"path": "totals.csv"}),
    ],
}


@pytest.mark.parametrize("adapter", ["local", "process", pytest.param("docker", marks=pytest.mark.timeout(240))])
def test_the_same_run_everywhere(
    adapter: str, postgres: Any, mariadb: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """From PostgreSQL through SQL to MariaDB and back, with the same values; no password in any file of it."""
    settings: dict[str, Any] = {}
    host = "127.0.0.1"
    if adapter == "docker":
        request.getfixturevalue("docker_client")
        settings, host = {"base_image": DOCKER_BASE}, "host.docker.internal"
    postgres.run(
        "CREATE TABLE orders (id integer, country text, amount numeric(12,2), moment timestamptz)",
        "INSERT INTO orders SELECT i, (array['CZ', 'DE', NULL])[1 + i % 3], i / 4.0, '2026-01-01' FROM "
        "generate_series(1, 3000) AS i WHERE i % 3 < 2",
    )
    connections = write_connections(
        tmp_path, postgres={**postgres.connection, "host": host}, mysql={**mariadb.connection, "host": host}
    )
    environment = {"POSTGRES_PASSWORD": postgres.password, "MYSQL_PASSWORD": mariadb.password}
    context = ExecutionContext(
        session_dir=str(tmp_path / "session"), connections=str(connections), environment=environment,
        publish_dir=str(tmp_path / "out"), timeout=200,
    )  # fmt: skip
    report = AdapterFactory.create(adapter, **settings).run(COPY, context)
    assert report["status"] == "completed", report["error"]
    sums = postgres.rows("SELECT country, sum(amount)::text FROM orders GROUP BY 1 ORDER BY 1")
    found = mariadb.rows("SELECT country, total FROM totals ORDER BY country")
    assert [(country, str(total)) for country, total in found] == sums
    lines = [f"{country},{total},2026-01-01T00:00:00Z\n" for country, total in sums]
    assert (tmp_path / "out" / "totals.csv").read_text() == "country,total,moment\n" + "".join(lines)
    assert postgres.value("SELECT count(*) FROM log") == 2
    steps = {step["step_id"]: step for step in report["steps"]}
    assert (steps["read"]["rows_read"], steps["write"]["rows_written"], steps["append"]["rows_written"]) == (2000, 2, 2)
    written = everything_in(tmp_path / "session")
    for password in environment.values():
        assert password.encode() not in written


def test_steps_of_a_run_go_on_with_a_connection(database: Any, tmp_path: Path) -> None:
    """One after another they use the same one, clean of what the other set, and none is left after the run."""
    own = {"postgres": "pg_backend_pid()", "mysql": "CONNECTION_ID()"}[database.family]
    family, setting = database.family, {"postgres": "current_setting('x.y', true)", "mysql": "@y"}[database.family]
    dirty = {"postgres": "set_config('x.y', 'left', false)", "mysql": "@y := 'left'"}[family]
    steps = [
        step(f"s{number}", f"{family}.extractor", None, {"query": query}, needs=[f"s{number - 1}"] if number else [])
        for number, query in enumerate([f"SELECT {own} AS pid, {dirty} AS x", f"SELECT {own} AS pid, {setting} AS x"])
    ]
    files = [step(f"f{number}", "filesystem.csv_writer", f"s{number}", {"path": f"{number}.csv"}) for number in (0, 1)]
    context = run_context(database, tmp_path)
    context.publish_dir = str(tmp_path / "out")
    report = AdapterFactory.create("local").run({"steps": [*steps, *files]}, context)
    assert report["status"] == "completed", report["error"]
    first, second = ((tmp_path / "out" / f"{number}.csv").read_text().splitlines()[1] for number in (0, 1))
    assert first.partition(",")[0] == second.partition(",")[0]
    assert first.partition(",")[2] == "left"
    assert second.partition(",")[2] in ("", '""')
    database.wait_until_gone(int(first.partition(",")[0]))


@pytest.fixture
def proxied(database: Any) -> Generator[Any, None, None]:
    """A database with a table of orders, and a wire to it that loses the answer to the first commit."""
    database.run("CREATE TABLE orders (id integer)")
    proxy = LossyProxy(database.server.port, COMMIT[database.family])
    yield database, proxy
    proxy.close()


def append_manifest(database: Any, *, exactly_once: bool = True, **more: Any) -> dict[str, Any]:
    config = {"table": "orders", "exactly_once": exactly_once}
    made = step("make", "duckdb.processor", None, {"query": "SELECT i::INT AS id FROM range(500) t(i)"})
    return {"pipeline": "append", "steps": [made, step("append", f"{database.family}.writer", "make", config, **more)]}


def run_context(database: Any, folder: Path, **changes: Any) -> ExecutionContext:
    """Of a run in `folder` whose connection is the database's, with changes."""
    return ExecutionContext(
        session_dir=str(folder / "session"),
        connections=str(write_connections(folder, **{database.family: {**database.connection, **changes}})),
        environment={f"{database.family.upper()}_PASSWORD": database.password},
        memory_budget_bytes=64 << 20,
    )


COMMIT = {"postgres": b"COMMIT", "mysql": b"\x03COMMIT"}
"""The statement on the wire, and not the word in SET AUTOCOMMIT."""
RETRY = {"attempts": 3, "backoff_s": 0.1, "jitter_s": 0}


def test_a_lost_answer_to_a_commit_is_no_second_write(proxied: Any, tmp_path: Path) -> None:
    """The rows are there, the connection is gone: the retry finds them, and the run is right."""
    database, proxy = proxied
    context = run_context(database, tmp_path, port=proxy.port, tls="off")
    manifest = append_manifest(database, retry=RETRY)
    report = AdapterFactory.create("local").run(manifest, context)
    assert proxy.broke.is_set()
    assert report["status"] == "completed", report["error"]
    assert [step["attempts"] for step in report["steps"] if step["step_id"] == "append"] == [2]
    assert report.metrics["rows_written"] == 500
    assert database.value("SELECT COUNT(*) FROM orders") == 500


def test_without_a_marker_a_lost_commit_is_not_tried_again(proxied: Any, tmp_path: Path) -> None:
    """Nobody knows whether the rows are there: the run fails and says so, whatever the retry policy."""
    database, proxy = proxied
    context = run_context(database, tmp_path, port=proxy.port, tls="off")
    manifest = append_manifest(database, exactly_once=False, retry=RETRY)
    report = AdapterFactory.create("local").run(manifest, context)
    assert report["status"] == "failed"
    assert "the answer to the commit was lost" in report["error"]["message"]
    assert report["error"]["failure_class"] == "protocol"
    assert database.value("SELECT COUNT(*) FROM orders") in (0, 500)


@pytest.mark.parametrize("moment", ["commit", "marker"])
def test_a_killed_process_resumes_without_a_second_write(database: Any, tmp_path: Path, moment: str) -> None:
    """Killed when it had sent its commit, or before it wrote a row: after `--resume` the rows are there, once."""
    database.run("CREATE TABLE orders (id integer)")
    process: list[subprocess.Popen[bytes]] = []
    marker = COMMIT[database.family] if moment == "commit" else b"INSERT INTO"
    proxy = LossyProxy(database.server.port, marker, lambda: os.killpg(process[0].pid, signal.SIGKILL))
    connections = write_connections(
        tmp_path, **{database.family: {**database.connection, "port": proxy.port, "tls": "off"}}
    )
    manifest = tmp_path / "manifest.yaml"
    manifest.write_text(json.dumps(append_manifest(database)))
    command = [
        Path(sys.executable).with_name("osiris"), "run", manifest, "--connections", connections,
        "--session-dir", tmp_path / "session",
    ]  # fmt: skip
    environment = {**os.environ, f"{database.family.upper()}_PASSWORD": database.password}
    silent = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process.append(subprocess.Popen(command, env=environment, start_new_session=True, **silent))  # type: ignore[call-overload]
    assert process[0].wait(40) == -signal.SIGKILL
    database.wait_until_idle()
    assert database.value("SELECT COUNT(*) FROM orders") == (500 if moment == "commit" else 0)
    resumed = subprocess.run(
        [*command, "--resume", "--json"], env=environment, capture_output=True, check=False, timeout=50
    )
    assert resumed.returncode == 0, resumed.stderr.decode()
    assert json.loads(resumed.stdout)["metrics"]["rows_written"] == 500
    assert database.value("SELECT COUNT(*) FROM orders") == 500
    subprocess.run(command, env=environment, capture_output=True, check=True, timeout=50)
    assert database.value("SELECT COUNT(*) FROM orders") == 1000  # a new run is a new write
    proxy.close()


def test_a_server_that_restarts_in_the_middle(tmp_path: Path) -> None:
    """The step fails as lost, is tried again until the server answers, and the result is whole."""
    from tests.database_server import PostgresServer
    from tests.databases import PostgresDatabase, in_thread

    server = PostgresServer()
    try:
        database = PostgresDatabase(server)
        context = run_context(database, tmp_path)
        retry = {"attempts": 8, "backoff_s": 0.3, "max_backoff_s": 1, "jitter_s": 0}
        query = {"query": "SELECT i FROM generate_series(1, 3000000) AS i"}
        manifest = {
            "steps": [
                step("read", "postgres.extractor", None, query, retry=retry),
                step("count", "duckdb.processor", "read", {"query": "SELECT count(*) AS n, sum(i) AS s FROM orders"}),
                step("w", "filesystem.csv_writer", "count", {"path": "n.csv"}),
            ]
        }
        run = in_thread(lambda: AdapterFactory.create("local").run(manifest, context))
        database.wait_until_active("3000000")
        server.stop(signal.SIGQUIT)
        server.start()
        report = run.result(50)
        assert report["status"] == "completed", report["error"]
        assert report["steps"][0]["attempts"] > 1
        assert (tmp_path / "session/artifacts/w/n.csv").read_text() == "n,s\n3000000,4500001500000\n"
        database.remove()
    finally:
        server.remove()


def test_secrets_are_in_no_command_line_and_no_environment(database: Any, tmp_path: Path) -> None:
    """While a query runs in a worker: not in the arguments, title or environment of any process of the run."""
    import psutil

    from tests.databases import in_thread

    context = run_context(database, tmp_path)
    query = {"query": database.sleep.format(3)}
    manifest = {"steps": [step("q", f"{database.family}.extractor", None, query, timeout_s=2)]}
    run = in_thread(lambda: AdapterFactory.create("process").run(manifest, context))
    database.wait_until_active("3")
    shown = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # one that has ended meanwhile shows nothing
            shown += [" ".join(process.cmdline()), process.name(), json.dumps(process.environ())]
    report = run.result(20)
    assert shown
    assert database.password not in "\n".join(shown)
    assert report["status"] == "timeout"
    database.wait_until_idle()
    assert database.password.encode() not in everything_in(tmp_path / "session")
