"""`osiris adapters setup`: what runs need is made beforehand, once."""

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

BASE = "osiris-base:bookworm"


def osiris(*args: str, cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "osiris_core.cli.main", *args]
    environment = {**os.environ, **(env or {})}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=55, check=False)


def test_adapter_that_needs_nothing(tmp_path: Path) -> None:
    """It says so and succeeds; with --json there is one document."""
    done = osiris("adapters", "setup", "local", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "nothing had to be made" in done.stdout
    document = json.loads(osiris("backends", "setup", "local", "--json", cwd=tmp_path).stdout)
    assert document == {"adapter": "local", "status": "completed", "made": None}


def test_wrong_configuration_is_refused(tmp_path: Path) -> None:
    """As for a run: with the file and line, and exit code 2."""
    (tmp_path / "local.yaml").write_text("type: local\nimage: none\n")
    done = osiris("adapters", "setup", "local", "--config", "local.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert "local.yaml:2" in done.stderr
    assert osiris("adapters", "setup", "lokal", cwd=tmp_path).returncode == 2


@pytest.fixture
def folder(docker_client: Any, tmp_path: Path) -> Path:
    """A folder with a configuration of the Docker adapter, whose image nobody has built."""
    (tmp_path / "Dockerfile").write_text(f"FROM {BASE}\nRUN echo {uuid.uuid4()}\n")
    (tmp_path / "docker.yaml").write_text("type: docker\ndockerfile: Dockerfile\n")
    return tmp_path


def test_image_is_made_beforehand(docker_client: Any, folder: Path) -> None:
    """The build's log is shown on standard error; the second time nothing is to be done."""
    first = osiris("adapters", "setup", "docker", "--config", "docker.yaml", cwd=folder)
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("docker: built image osiris-build:")
    try:
        assert "Step 1/" in first.stderr
        second = osiris("adapters", "setup", "docker", "--config", "docker.yaml", cwd=folder)
        assert second.returncode == 0
        assert "nothing had to be made" in second.stdout
        assert "Step" not in second.stderr
    finally:
        docker_client.api.remove_image(first.stdout.split()[3], force=True)


def test_image_that_cannot_be_made(folder: Path) -> None:
    """Exit code 1, the reason on standard error, and in the document of --json."""
    (folder / "Dockerfile").write_text(f"FROM {BASE}\nRUN exit 3\n")
    env = {"XDG_CACHE_HOME": str(folder / "cache")}
    done = osiris("adapters", "setup", "docker", "--config", "docker.yaml", "--json", cwd=folder, env=env)
    assert done.returncode == 1
    assert "non-zero code: 3" in done.stderr
    assert "Traceback" not in done.stderr
    error = json.loads(done.stdout)["error"]
    assert error["failure_class"] == "user_error"
    assert "the whole log is in" in error["message"]


def test_engine_that_is_not_running(folder: Path) -> None:
    """The message says what to do."""
    env = {"DOCKER_HOST": f"unix://{folder}/none.sock"}
    done = osiris("adapters", "setup", "docker", "--config", "docker.yaml", cwd=folder, env=env)
    assert done.returncode == 1
    assert "not running" in done.stderr
    assert "Traceback" not in done.stderr
