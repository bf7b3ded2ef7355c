"""Taking over the place of a dead controller, sandbox by sandbox; `test_attach.py` has whole runs."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from adapters.process import ProcessSandbox
from adapters.process_worker.gc import MARKER, PREFIX
from tests.worker_process import alive, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAP = "import time; time.sleep(1000)"


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[tuple[str, Path, int]]:
    """A process with a worker's token and folder whose parent is dead: token, folder, pid."""
    token = uuid.uuid4().hex
    folder = tmp_path / f"{PREFIX}{token[:8]}"
    (folder / "session").mkdir(parents=True)
    (folder / "session/events.jsonl").write_text("")
    start = f"import subprocess; print(subprocess.Popen([{sys.executable!r}, '-c', {NAP!r}], stdout=-3, stderr=-3).pid)"
    out = subprocess.run(
        [sys.executable, "-c", start], cwd=folder, env={**os.environ, MARKER: token}, capture_output=True, check=True
    )
    pid = int(out.stdout)
    yield token, folder, pid
    if alive(pid):
        os.kill(pid, 9)


@pytest.mark.parametrize("by_id", [True, False])
def test_a_worker_is_taken_over(worker: tuple[str, Path, int], by_id: bool) -> None:
    """By its id or its token: it is seen alive, its files are there, its end is noticed, and `stop` ends it."""
    token, folder, pid = worker
    sandbox = ProcessSandbox(sys.executable, folder, token)
    assert sandbox.adopt(folder.name if by_id else None)
    assert sandbox.fate().running
    assert b"session" in b"".join(sandbox.get("session"))
    sandbox.stop()
    assert not alive(pid)
    assert not folder.exists()
    assert not sandbox.fate().running
    sandbox.stop()


def test_a_worker_that_ended_leaves_its_place(worker: tuple[str, Path, int]) -> None:
    """Its folder can be taken over all the same."""
    token, folder, pid = worker
    os.kill(pid, 9)
    wait_for(lambda: not alive(pid))
    sandbox = ProcessSandbox(sys.executable, folder, token)
    assert sandbox.adopt(None)
    fate = sandbox.fate()
    assert (fate.running, fate.exit_code) == (False, None)
    assert "has ended" in fate.message


def test_there_is_no_place(tmp_path: Path) -> None:
    """Neither by an id nor by the token; to stop it is no error."""
    token = uuid.uuid4().hex
    for native_id in (None, f"{PREFIX}{token[:8]}"):
        sandbox = ProcessSandbox(sys.executable, tmp_path / f"{PREFIX}{token[:8]}", token)
        assert not sandbox.adopt(native_id)
        sandbox.stop()


@pytest.mark.parametrize("by_id", [True, False])
def test_a_container_is_taken_over(docker_client: Any, tmp_path: Path, by_id: bool) -> None:
    """By another object with its token: connected to, read from, and removed with its volumes."""
    from adapters.docker_engine.config import DockerConfig
    from adapters.docker_engine.labels import TOKEN
    from adapters.docker_engine.sandbox import DockerSandbox

    token = uuid.uuid4().hex

    def sandbox() -> DockerSandbox:
        place = str(tmp_path)
        image, python = "osiris-base:bookworm", "/usr/bin/python3"
        return DockerSandbox(
            docker_client, DockerConfig(), image, python, token=token, session_id="s", session_dir=place
        )

    first, second = sandbox(), sandbox()
    try:
        assert not second.adopt(None)
        native_id = first.start()
        first.open(["/usr/bin/python3", "-uc", "import sys; print(sys.stdin.readline())"]).close()
        assert second.adopt(native_id if by_id else None)
        assert second.fate().running
        transport = second.reconnect()
        transport.send(b"hello\n", 5)
        assert wait_for(lambda: b"hello" in (transport.receive(1) or b""))
        transport.close()
        wait_for(lambda: not second.fate().running)
        assert second.fate().exit_code == 0
    finally:
        second.stop()
        first.stop()
    wanted = {"label": f"{TOKEN}={token}"}
    assert docker_client.api.containers(all=True, filters=wanted) == []
    assert not docker_client.api.volumes(filters=wanted)["Volumes"]
