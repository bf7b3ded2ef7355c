"""Images that are pulled, from a real registry that asks for a password: when, with what, and how it fails."""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from adapters.docker_engine.config import DockerConfig
from adapters.docker_image.ensure import ensure_image
from adapters.docker_image.errors import ImageError
from osiris_core.errors import FailureClass

BASE = "osiris-base:bookworm"
USER, PASSWORD = "reader", "hunter2-correct-horse"
AUTH = {"username": "${REG_USER}", "password": "${REG_PASSWORD}"}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a registry on this machine that knows one user."""
    if shutil.which("docker-registry") is None or shutil.which("htpasswd") is None:
        pytest.skip("docker-registry and htpasswd (apache2-utils) are not installed")
    folder = tmp_path_factory.mktemp("registry")
    hashed = subprocess.check_output(["htpasswd", "-Bbn", USER, PASSWORD], text=True)
    (folder / "users").write_text(hashed)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": f"127.0.0.1:{port}", "secret": "of no use"},
        "auth": {"htpasswd": {"realm": "tests", "path": str(folder / "users")}},
    }
    (folder / "config.yml").write_text(json.dumps(settings))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(["docker-registry", "serve", str(folder / "config.yml")], stdout=log, stderr=log)
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        else:
            pytest.fail((folder / "log").read_text())
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def stored(docker_client: Any, registry: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a small image that is in the registry and not at the engine."""
    monkeypatch.setenv("REG_USER", USER)
    monkeypatch.setenv("REG_PASSWORD", PASSWORD)
    name = f"{registry}/team/small:1"
    small = docker_client.api.import_image_from_data(_small_tar(), repository=f"{registry}/team/small", tag="1")
    assert "error" not in small
    said = docker_client.api.push(
        f"{registry}/team/small", tag="1", auth_config={"username": USER, "password": PASSWORD}
    )
    assert '"error"' not in said, said
    docker_client.api.remove_image(name)
    yield name
    if docker_client.images.list(name):
        docker_client.api.remove_image(name, force=True)


def _small_tar() -> bytes:
    import io
    import tarfile

    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("empty"))
    return packed.getvalue()


def test_image_is_pulled_with_credentials_by_name(docker_client: Any, stored: str) -> None:
    """It is there afterwards; the password is in nothing that was said; the second time nothing is pulled."""
    lines: list[str] = []
    config = DockerConfig(image=stored, registry_auth=AUTH)
    image = ensure_image(docker_client, config, lines.append)
    assert image.image_id == docker_client.images.get(stored).id
    assert not image.built
    assert any("pulling" in line for line in lines)
    assert PASSWORD not in "".join(lines)
    lines.clear()
    assert ensure_image(docker_client, config, lines.append) == image
    assert lines == []


def test_policy_always_asks_the_registry_each_time(docker_client: Any, stored: str) -> None:
    """What is there is not enough; never is content with what is there."""
    config = DockerConfig(image=stored, registry_auth=AUTH, pull_policy="always")
    lines: list[str] = []
    for _ in range(2):
        ensure_image(docker_client, config, lines.append)
    assert sum("pulling" in line for line in lines) == 2
    lines.clear()
    ensure_image(docker_client, DockerConfig(image=stored, pull_policy="never"), lines.append)
    assert lines == []


def test_policy_never_pulls_nothing(docker_client: Any, stored: str) -> None:
    """An image that is not there is refused with the reason, for a ready one and for a base."""
    for settings in ({"image": stored}, {"base_image": stored}):
        with pytest.raises(ImageError, match="pull_policy: never"):
            ensure_image(docker_client, DockerConfig(**settings, registry_auth=AUTH, pull_policy="never"), print)
    assert not docker_client.images.list(stored)


@pytest.mark.parametrize("settings", [{}, {"registry_auth": AUTH}])
def test_refused_credentials(
    docker_client: Any, stored: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Missing or wrong ones: the message says which, what to do, and not the password."""
    monkeypatch.setenv("REG_PASSWORD", "wrong-battery-staple")
    with pytest.raises(ImageError, match="credentials") as caught:
        ensure_image(docker_client, DockerConfig(image=stored, **settings), print)
    assert "registry_auth" in str(caught.value)
    assert "wrong-battery-staple" not in str(caught.value)
    assert caught.value.failure_class == FailureClass.USER_ERROR


def test_credentials_that_are_not_set(docker_client: Any, stored: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable is named."""
    monkeypatch.delenv("REG_PASSWORD")
    with pytest.raises(ImageError, match="REG_PASSWORD is not set"):
        ensure_image(docker_client, DockerConfig(image=stored, registry_auth=AUTH), print)


def test_unknown_tag(docker_client: Any, stored: str) -> None:
    """A registry that does not have it says so."""
    with pytest.raises(ImageError, match="check its name"):
        ensure_image(docker_client, DockerConfig(image=stored.replace(":1", ":2"), registry_auth=AUTH), print)


def test_registry_that_cannot_be_reached(docker_client: Any) -> None:
    """That is nobody's mistake here: trying again may help, and the way to do without is named."""
    with pytest.raises(ImageError, match="base_image") as caught:
        ensure_image(docker_client, DockerConfig(base_image="127.0.0.1:1/team/none:1"), print)
    assert "pull_policy: never" in str(caught.value)
    assert caught.value.failure_class == FailureClass.INFRA_LOST


def test_image_for_another_platform(docker_client: Any) -> None:
    """What is there for another processor is not used as if it were for this one."""
    config = DockerConfig(image=BASE, platform="linux/s390x", pull_policy="never")
    with pytest.raises(ImageError, match="s390x"):
        ensure_image(docker_client, config, print)
