"""Whole runs in a container: the same result as anywhere, everything refused in time, and nothing left."""

from __future__ import annotations

import json
import os
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from osiris_core import AdapterFactory, ExecutionContext, PreparationError, read_events
from osiris_core.errors import ExecutionError

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "correct-horse-battery"
LITERAL = "staple-in-the-configuration"
IMAGE_TIMEOUT_S = 300

pytestmark = pytest.mark.timeout(IMAGE_TIMEOUT_S)  # the first use builds the worker image


def context(tmp_path: Path, name: str = "session", **settings: Any) -> ExecutionContext:
    # A name that no other run has: containers are found by it.
    return ExecutionContext(session_id=f"{name}-{os.urandom(6).hex()}", session_dir=str(tmp_path / name), **settings)


def pipeline(folder: Path) -> dict[str, Any]:
    (folder / "in.csv").write_text("a,b\n1,x\n2,y\n3,x\n")
    steps = [
        {"id": "read", "driver": "filesystem.csv_extractor", "config": {"path": str(folder / "in.csv")}},
        {
            "id": "sum",
            "driver": "duckdb.processor",
            "inputs": {"df": "read"},
            "config": {"query": "SELECT b, sum(a) AS a FROM df GROUP BY b ORDER BY b"},
        },
        {"id": "write", "driver": "filesystem.csv_writer", "inputs": {"df": "sum"}, "config": {"path": "out.csv"}},
    ]
    return {"pipeline": "docker-test", "steps": steps}


def command(**config: Any) -> dict[str, Any]:
    return {"pipeline": "docker-test", "steps": [{"id": "run", "driver": "command", "config": config}]}


def left_of(client: Any, context: ExecutionContext) -> list[str]:
    """Every container and volume of a session."""
    wanted = {"label": f"osiris.session={context.session_id}"}
    containers = client.api.containers(all=True, filters=wanted)
    volumes = client.api.volumes(filters=wanted)["Volumes"] or []
    return [item["Id"] for item in containers] + [item["Name"] for item in volumes]


def container_of(client: Any, context: ExecutionContext, timeout_s: float = 60) -> dict[str, Any]:
    """The session's container, once it runs."""
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        found = client.api.containers(filters={"label": f"osiris.session={context.session_id}"})
        if found:
            inspected: dict[str, Any] = client.api.inspect_container(found[0]["Id"])
            return inspected
        time.sleep(0.02)
    raise AssertionError("no container came up")


def test_a_pipeline_gives_what_it_gives_locally(tmp_path: Path, docker_client: Any, worker_image: str) -> None:
    """Artifacts have the same bytes, the same steps are reported, the image is named, and nothing is left."""
    here, there = context(tmp_path, "here"), context(tmp_path, "there")
    manifest = pipeline(tmp_path)
    local = AdapterFactory.create("local").run(manifest, here)
    report = AdapterFactory.create("docker", image=worker_image, memory="512m", pull_policy="never").run(
        manifest, there
    )
    assert report["status"] == "completed", report["error"]
    assert [(item["path"], item["sha256"]) for item in report["artifacts"]] == [
        (item["path"], item["sha256"]) for item in local["artifacts"]
    ]
    assert (tmp_path / "there/artifacts/write/out.csv").read_text() == "b,a\nx,4\ny,2\n"
    assert [step["status"] for step in report["steps"]] == ["completed"] * 3
    assert report["metrics"]["rows_read"] == local["metrics"]["rows_read"]
    assert report["sandbox_id"].startswith("osiris-")
    assert report["image"]["name"] == worker_image
    assert left_of(docker_client, there) == []


def test_inputs_are_read_where_they_are_mounted(tmp_path: Path, docker_client: Any, worker_image: str) -> None:
    """With mount_inputs a file is not sent, and gives the same result."""
    manifest = pipeline(tmp_path)
    (tmp_path / "in.csv").write_text("a,b\n" + "1,x\n" * 500_000)
    (tmp_path / "in.csv").chmod(0o644)
    there = context(tmp_path)
    report = AdapterFactory.create("docker", image=worker_image, mount_inputs=True).run(manifest, there)
    assert report["status"] == "completed", report["error"]
    assert (tmp_path / "session/artifacts/write/out.csv").read_text() == "b,a\nx,500000\n"
    assert report["transfer"]["up_bytes"] < (tmp_path / "in.csv").stat().st_size
    assert report["input_files"][0]["sha256"]


def test_secrets_are_nowhere_but_in_the_step(tmp_path: Path, docker_client: Any, worker_image: str) -> None:
    """A value reaches the command, and stands in no inspect output, file or report; a public one is plain."""
    there = context(tmp_path, environment={"TOKEN": SECRET})
    variables = {"COPY": "${TOKEN}", "LEVEL": "high", "API_TOKEN": LITERAL}
    adapter = AdapterFactory.create("docker", image=worker_image, env_vars=variables)
    manifest = command(
        shell='echo "$API_TOKEN" && test "$COPY" = "$TOKEN" && echo "$LEVEL $TOKEN ${#TOKEN}" && sleep 1'
    )
    seen: list[str] = []
    looking = threading.Thread(target=lambda: seen.append(json.dumps(container_of(docker_client, there))))
    looking.start()
    report = adapter.run(manifest, there)
    looking.join(60)
    assert report["status"] == "completed", report["error"]
    assert (tmp_path / "session/artifacts/run/stdout.log").read_text() == f"***\nhigh *** {len(SECRET)}\n"
    for secret in (SECRET, LITERAL):
        assert secret not in seen[0]
        assert secret not in json.dumps(dict(report), default=str)
        for path in (tmp_path / "session").rglob("*"):
            assert not path.is_file() or secret.encode() not in path.read_bytes(), path


def test_a_timeout_leaves_nothing(tmp_path: Path, docker_client: Any, worker_image: str) -> None:
    """A run that takes too long is a timeout, and its container is gone."""
    there = context(tmp_path, timeout=1.5)
    report = AdapterFactory.create("docker", image=worker_image).run(command(argv=["sleep", "600"]), there)
    assert report["status"] == "timeout"
    assert report["error"]["failure_class"] == "timeout"
    assert left_of(docker_client, there) == []


def test_a_container_that_is_killed_is_lost(tmp_path: Path, docker_client: Any, worker_image: str) -> None:
    """When somebody removes the container in mid-run, the run fails soon, and says that."""
    there = context(tmp_path)
    adapter = AdapterFactory.create("docker", image=worker_image)

    def kill() -> None:
        found = container_of(docker_client, there)
        deadline_s = time.monotonic() + 30
        while time.monotonic() < deadline_s and not any(
            event["event"] == "step.start" for event in read_events(tmp_path / "session/events.jsonl")
        ):
            time.sleep(0.05)
        docker_client.api.remove_container(found["Id"], force=True)

    killing = threading.Thread(target=kill)
    killing.start()
    report = adapter.run(command(argv=["sleep", "600"]), there)
    killing.join(60)
    assert report["status"] == "failed"
    assert report["error"]["failure_class"] == "infra_lost"
    assert any(word in report["error"]["message"] for word in ("removed", "SIGKILL"))
    assert left_of(docker_client, there) == []


def test_lack_of_memory_is_told_as_such(tmp_path: Path, docker_client: Any, worker_image: str) -> None:
    """A command that outgrows the container's limit ran out of memory, and the report says so."""
    there = context(tmp_path)
    adapter = AdapterFactory.create("docker", image=worker_image, memory="300m")
    report = adapter.run(command(argv=["python3", "-c", "a = bytearray(2 << 30)"]), there)
    assert report["status"] == "failed"
    assert report["error"]["failure_class"] == "out_of_memory", report["error"]
    assert left_of(docker_client, there) == []


def test_a_network_only_where_a_driver_needs_one(tmp_path: Path, docker_client: Any, worker_image: str) -> None:
    """By default there is no network; a configuration may give one."""
    look = command(argv=["ls", "/sys/class/net"])
    for settings, expected in (({}, {"lo"}), ({"network": "bridge"}, {"lo", "eth0"})):
        name = f"session-{len(settings)}"
        report = AdapterFactory.create("docker", image=worker_image, **settings).run(look, context(tmp_path, name))
        assert report["status"] == "completed", report["error"]
        assert set((tmp_path / name / "artifacts/run/stdout.log").read_text().split()) == expected


def test_prepare_refuses_what_the_engine_cannot_do(tmp_path: Path, docker_client: Any) -> None:
    """Every problem is told at once, with its key, and nothing was made."""
    (tmp_path / "nosuch").mkdir()  # a path that is not there is refused by the configuration itself
    adapter = AdapterFactory.create(
        "docker",
        image="osiris-no-such-image:0",
        pull_policy="never",
        cpu=128,
        network="osiris-no-such-network",
        platform="linux/s390x",
        volumes=(f"{tmp_path}/nosuch:/data",),
        env_vars={"TOKEN": "${OSIRIS_TEST_NOT_SET}"},
    )
    (tmp_path / "nosuch").rmdir()
    there = context(tmp_path)
    with pytest.raises(PreparationError) as caught:
        adapter.prepare(command(argv=["true"]), there)
    assert {problem.key for problem in caught.value.problems} >= {
        "docker.image",
        "docker.cpu",
        "docker.network",
        "docker.platform",
        "docker.volumes",
        "docker.env_vars.TOKEN",
    }
    assert left_of(docker_client, there) == []
    assert not (tmp_path / "session").exists()


def test_without_an_engine_prepare_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No run begins that cannot be had, and the remedy is named."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nosuch.sock")
    with pytest.raises(PreparationError, match="Docker Engine is not running"):
        AdapterFactory.create("docker").prepare(command(argv=["true"]), context(tmp_path))


def test_an_engine_that_goes_away_after_prepare_fails_the_run(
    tmp_path: Path, docker_client: Any, worker_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Execute says what was lost; collect still gives a report."""
    adapter = AdapterFactory.create("docker", image=worker_image)
    there = context(tmp_path)
    prepared = adapter.prepare(command(argv=["true"]), there)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nosuch.sock")
    with pytest.raises(ExecutionError, match="not running"):
        adapter.execute(prepared, there)
    report = adapter.collect(prepared, there)
    assert report["status"] == "failed"
    assert report["error"]["failure_class"] == "infra_lost"


def test_unreadable_mounted_inputs_are_found_in_prepare(tmp_path: Path, docker_client: Any, worker_image: str) -> None:
    """A file that the container's user may not read is told before anything runs."""
    manifest = pipeline(tmp_path)
    (tmp_path / "in.csv").chmod(0o600)
    other = str(os.getuid() + 4321)
    adapter = AdapterFactory.create("docker", image=worker_image, mount_inputs=True, user=other)
    with pytest.raises(PreparationError, match="cannot be read by user"):
        adapter.prepare(manifest, context(tmp_path))
