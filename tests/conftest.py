"""
What all tests share: in CI no test may quietly not run.

Elsewhere a test may skip when something it needs is not on this machine. With `CI=true` such a skip fails, because
there everything is meant to be installed. What an adapter cannot do at all is no missing component: that skip
says so with `NAMED_GAP` at the start of its reason.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.fault_plugin import (
    pytest_addoption,
    pytest_collection_modifyitems,
    pytest_configure,
    pytest_sessionfinish,
    pytest_sessionstart,
    pytest_terminal_summary,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path
    from typing import Any

    from tests.e2b_server import E2BServer, FarEnd
    from tests.slurm_runs import SlurmRun

__all__ = [
    "pytest_addoption",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_sessionfinish",
    "pytest_sessionstart",
    "pytest_terminal_summary",
]
"""Hooks that write and check the fault matrix."""
NAMED_GAP = "named gap: "


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if os.environ.get("CI") != "true" or report.outcome != "skipped" or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if not reason.removeprefix("Skipped: ").startswith(NAMED_GAP):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI, where nothing may be missing: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _refuse_skip(report)
    return report


DOCKER_BASE = "osiris-base:bookworm"


@pytest.fixture(scope="session")
def docker_client() -> Generator[Any, None, None]:
    """A client of the real engine, with the base image there."""
    from contextlib import closing

    from osiris_core.errors import OsirisError

    try:
        from adapters.docker_engine.client import connect

        client = connect()
    except (ImportError, OsirisError) as exc:
        pytest.skip(f"Docker Engine is not running: {exc}")
    with closing(client):
        if not client.images.list(DOCKER_BASE):
            pytest.skip(f"there is no image {DOCKER_BASE}; make it with bash .ci/docker")
        yield client


@pytest.fixture(scope="session")
def worker_image(docker_client: Any) -> str:
    """The tag of an image that workers can run in; built once and left for the next time."""
    from adapters.docker_engine.config import DockerConfig
    from adapters.docker_image.ensure import ensure_image

    return ensure_image(docker_client, DockerConfig(base_image=DOCKER_BASE), lambda line: None).tag


@pytest.fixture
def direct_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy between the tests and this machine; the SDK would use one even for that."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1,localhost")


@pytest.fixture
def e2b_server(tmp_path: Path, direct_connections: None) -> Generator[E2BServer, None, None]:
    """A local server that speaks E2B's protocols; new for each test."""
    pytest.importorskip("e2b", reason="the extra [e2b] is not installed")
    from tests.e2b_server import E2BServer

    with E2BServer(tmp_path / "e2b") as server:
        yield server


FAR_ENDS = ("local", pytest.param("cloud", marks=pytest.mark.cloud))


@pytest.fixture(params=FAR_ENDS)
def e2b_far_end(
    request: pytest.FixtureRequest, tmp_path: Path, direct_connections: None
) -> Generator[FarEnd, None, None]:
    """Wherever E2B is in this run: `-m cloud` with E2B_API_KEY set means the real one."""
    with _far_end(request.param, tmp_path) as found:
        yield found


@pytest.fixture(scope="class", params=FAR_ENDS)
def lasting_e2b_far_end(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Generator[FarEnd, None, None]:
    """The same, one for all tests of a class."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.setenv(name, "127.0.0.1,localhost")
        with _far_end(request.param, tmp_path_factory.mktemp("far-end")) as found:
            yield found


@contextmanager
def _far_end(which: str, folder: Path) -> Generator[FarEnd, None, None]:
    pytest.importorskip("e2b", reason="the extra [e2b] is not installed")
    from tests.e2b_server import far_end

    if which == "cloud" and not os.environ.get("E2B_API_KEY"):
        pytest.skip("E2B_API_KEY is not set")
    with far_end(which, folder / "e2b") as found:
        yield found


@pytest.fixture(scope="session")
def postgres_server() -> Generator[Any, None, None]:
    """A PostgreSQL server of this session's own."""
    from tests.database_server import PostgresServer

    server = PostgresServer()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def mariadb_server() -> Generator[Any, None, None]:
    """A MariaDB server of this session's own."""
    from tests.database_server import MariadbServer

    server = MariadbServer()
    yield server
    server.remove()


@pytest.fixture
def postgres(postgres_server: Any) -> Generator[Any, None, None]:
    """A database of one test's own."""
    from tests.databases import PostgresDatabase

    database = PostgresDatabase(postgres_server)
    yield database
    database.remove()


@pytest.fixture
def mariadb(mariadb_server: Any) -> Generator[Any, None, None]:
    """A database of one test's own."""
    from tests.databases import MariadbDatabase

    database = MariadbDatabase(mariadb_server)
    yield database
    database.remove()


@pytest.fixture(params=["postgres", "mariadb"])
def database(request: pytest.FixtureRequest) -> Any:
    """A database of one test's own, on each kind of server."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def slurm_cluster() -> str:
    """A real cluster whose nodes are ready: the name of its partition."""
    import shutil
    import subprocess

    if shutil.which("sinfo") is None:
        pytest.skip("there is no Slurm here; bash .ci/slurm makes one of two nodes")
    asked = subprocess.run(["sinfo", "-hN", "-p", "main", "-o", "%T"], capture_output=True, text=True, timeout=60)
    states = asked.stdout.split()
    if asked.returncode or len(states) < 2 or not set(states) <= {"idle", "allocated", "mixed", "completing"}:
        pytest.skip(f"Slurm is not ready ({' '.join(states) or asked.stderr.strip()}); start it with bash .ci/slurm")
    return "main"


@pytest.fixture(scope="session")
def slurm_shared(slurm_cluster: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder that every node sees, with a name that no shell would like."""
    folder = tmp_path_factory.mktemp("slurm") / "shared; $(touch pwned) 'n' \"q\" %j"
    folder.mkdir()
    return str(folder)


@pytest.fixture
def go(tmp_path: Path, slurm_shared: str) -> Iterator[Callable[..., SlurmRun]]:
    """Starts runs on the cluster; none is left behind by a test that fails."""
    from tests.slurm_runs import SlurmRun

    runs: list[SlurmRun] = []

    def start(*steps: dict[str, Any], **settings: Any) -> SlurmRun:
        run = SlurmRun(tmp_path / f"run {len(runs)}", slurm_shared, list(steps), **settings)
        runs.append(run)
        return run

    yield start
    for run in runs:
        run.adapter.cancel("the test is over")
    for run in runs:
        run._thread.join(60)


@pytest.fixture
def full_cluster(slurm_cluster: str) -> Iterator[list[str]]:
    """Both nodes are taken by somebody else."""
    import subprocess

    from tests.slurm_runs import is_gone, slurm, state_of, wait_until

    argv = ["sbatch", "--parsable", "--partition=urgent", "--output=/dev/null", "--wrap=sleep 60"]
    jobs = [slurm(*argv).strip() for _ in range(2)]
    wait_until(lambda: all(state_of(job_id) == "RUNNING" for job_id in jobs))
    yield jobs
    subprocess.run(["scancel", *jobs], check=False)
    wait_until(lambda: all(is_gone(job_id) for job_id in jobs))
