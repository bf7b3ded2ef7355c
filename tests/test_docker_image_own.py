"""Images from a user's own Dockerfile, on the real engine: named by content, built once, and nothing left behind."""

import os
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from adapters.docker_engine.config import DockerConfig
from adapters.docker_image.ensure import WorkerImage, ensure_image
from adapters.docker_image.errors import ImageError
from osiris_core.errors import FailureClass, RunCancelled

BASE = "osiris-base:bookworm"
BUILT: list[str] = []
"""The tags that a test made; others may be building at the same engine."""


@pytest.fixture
def client(docker_client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The engine; what is built from a Dockerfile is gone afterwards."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield docker_client
    while BUILT:
        tag = BUILT.pop()
        if docker_client.images.list(tag):
            docker_client.api.remove_image(tag, force=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A context whose files are different in every test, so that the engine's own cache has none of it."""
    found = tmp_path / "context"
    (found / "data").mkdir(parents=True)
    (found / "Dockerfile").write_text(
        f"FROM {BASE}\nARG GREETING=hello\nCOPY . /model\nRUN echo $GREETING > /greeting\n"
    )
    (found / "data" / "grid.txt").write_text(uuid.uuid4().hex)
    (found / "data" / "scratch.tmp").write_text("left out")
    (found / "run.sh").write_text("echo run\n")
    (found / "link").symlink_to("run.sh")
    (found / ".dockerignore").write_text("# what is of no use\n**/*.tmp\n.git\n")
    return found


def made(client: Any, folder: Path, **settings: Any) -> WorkerImage:
    config = DockerConfig(**{"dockerfile": str(folder / "Dockerfile"), **settings})
    image = ensure_image(client, config, print)
    BUILT.append(image.tag)
    return image


def said_by(image: WorkerImage, script: str) -> str:
    # Not the SDK's `containers.run`: it follows a log, and now and then loses what a quick container printed.
    command = ["docker", "run", "--rm", "--network", "none", image.tag, "sh", "-c", script]
    return subprocess.check_output(command, text=True, timeout=50).strip()


def containers(client: Any, marker: str) -> list[str]:
    """Those that run a command with `marker` in it, or ran it."""
    found = client.api.containers(all=True)
    return [container["Id"] for container in found if marker in container["Command"]]


def test_image_is_built_once_for_its_contents(client: Any, folder: Path, tmp_path: Path) -> None:
    """It holds the context without what .dockerignore names, and is used again when only times and places change."""
    image = made(client, folder, build_args={"GREETING": "ahoy"})
    assert image.built
    assert image.python == "python3"
    assert (
        said_by(image, "cat /greeting; ls /model /model/data")
        == "ahoy\n/model:\nDockerfile\ndata\nlink\nrun.sh\n\n/model/data:\ngrid.txt"
    )
    for path in folder.rglob("*"):
        os.utime(path, (1, 1), follow_symlinks=False)
    (folder / "data" / "other.tmp").write_text("ignored too")
    moved = folder.rename(tmp_path / "elsewhere")
    again = made(client, moved, build_args={"GREETING": "ahoy"})
    assert again == WorkerImage(image.image_id, image.tag, "python3", built=False, build_ms=0.0)


def test_tag_follows_every_byte(client: Any, folder: Path) -> None:
    """A byte, a mode, a name, the target of a link, an argument: each gives another image, and going back the first."""
    first = made(client, folder)
    grid = folder / "data" / "grid.txt"
    content = grid.read_bytes()
    tags = {first.tag}

    def differs(**settings: Any) -> None:
        image = made(client, folder, **settings)
        assert image.built
        tags.add(image.tag)

    grid.write_bytes(content[:-1] + b"!")
    differs()
    grid.write_bytes(content)
    (folder / "run.sh").chmod(0o755)
    differs()
    (folder / "run.sh").chmod(0o644)
    grid.rename(folder / "data" / "other.txt")
    differs()
    (folder / "data" / "other.txt").rename(grid)
    (folder / "link").unlink()
    (folder / "link").symlink_to("data/grid.txt")
    differs()
    (folder / "link").unlink()
    (folder / "link").symlink_to("run.sh")
    differs(build_args={"GREETING": "moin"})
    assert len(tags) == 6
    again = made(client, folder)
    assert (again.tag, again.built) == (first.tag, False)


def test_dockerfile_outside_of_its_context(client: Any, folder: Path, tmp_path: Path) -> None:
    """It is sent along, and is part of what the image is named after."""
    outside = tmp_path / "Dockerfile.model"
    outside.write_text(f"FROM {BASE}\nCOPY data/grid.txt /grid\n")
    image = made(client, folder, dockerfile=str(outside), build_context=str(folder))
    assert said_by(image, "cat /grid") == (folder / "data" / "grid.txt").read_text()
    outside.write_text(f"FROM {BASE}\nCOPY data/grid.txt /gitter\n")
    other = made(client, folder, dockerfile=str(outside), build_context=str(folder))
    assert said_by(other, "cat /gitter") == (folder / "data" / "grid.txt").read_text()
    assert other.tag != image.tag


def test_failed_build_keeps_its_log(client: Any, folder: Path, tmp_path: Path) -> None:
    """The error ends with the last lines and names the file with all of them; no container is left."""
    marker = uuid.uuid4().hex
    (folder / "Dockerfile").write_text(f"FROM {BASE}\nRUN : {marker}; seq 100 && echo no such grid >&2 && exit 3\n")
    lines: list[str] = []
    with pytest.raises(ImageError) as caught:
        ensure_image(client, DockerConfig(dockerfile=str(folder / "Dockerfile")), lines.append)
    (log,) = (tmp_path / "cache" / "osiris" / "docker" / "logs").iterdir()
    assert str(log) in str(caught.value)
    assert "no such grid" in str(caught.value)
    assert "returned a non-zero code: 3" in str(caught.value)
    for whole in (log.read_text(), "\n".join(lines)):
        assert "\n1\n2\n3\n" in whole
        assert "\x1b" not in whole
    assert "\n  1\n" not in str(caught.value)
    assert caught.value.failure_class == FailureClass.USER_ERROR
    assert containers(client, marker) == []


def test_successful_build_leaves_no_log(client: Any, folder: Path, tmp_path: Path) -> None:
    """Nobody needs it."""
    assert made(client, folder).built
    assert list((tmp_path / "cache" / "osiris" / "docker" / "logs").iterdir()) == []


def test_dockerfile_that_is_none(client: Any, folder: Path) -> None:
    """What the builder says of it is the message; what is not there is said not to be."""
    (folder / "Dockerfile").write_text("FORM nothing\n")
    with pytest.raises(ImageError, match="FORM"):
        made(client, folder)
    with pytest.raises(ImageError, match="there is no dockerfile"):
        made(client, folder, dockerfile=str(folder / "None"))
    with pytest.raises(ValueError, match="Build context does not exist"):
        made(client, folder, build_context=str(folder / "none"))


@pytest.mark.parametrize(
    "build_args", [{"TOKEN": "${API_TOKEN}"}, {"API_TOKEN": "abc"}, {"URL": "https://me:secret@example.org"}]
)
def test_secret_build_arguments_are_refused(client: Any, folder: Path, build_args: dict[str, str]) -> None:
    """They would stay in the image's history; the message says so, without the value, and nothing is built."""
    with pytest.raises(ImageError, match="history") as caught:
        made(client, folder, build_args=build_args)
    assert next(iter(build_args)) in str(caught.value)
    assert next(iter(build_args.values())) not in str(caught.value)


def sleeping(folder: Path, marker: str) -> DockerConfig:
    (folder / "Dockerfile").write_text(f"FROM {BASE}\nRUN : {marker}; sleep 50\n")
    return DockerConfig(dockerfile=str(folder / "Dockerfile"))


def test_cancelled_build_leaves_no_container(client: Any, folder: Path, tmp_path: Path) -> None:
    """A cancel ends a build in the middle of a step; it is no failure, so that no log is kept."""
    marker = uuid.uuid4().hex
    cancelled = threading.Event()

    seen: list[str] = []

    def progress(line: str) -> None:
        if "Running in" in line:
            seen.extend(containers(client, marker))
            threading.Timer(0.5, cancelled.set).start()

    started_s = time.monotonic()
    with pytest.raises(RunCancelled):
        ensure_image(client, sleeping(folder, marker), progress, cancelled=cancelled.is_set)
    assert time.monotonic() - started_s < 30
    assert seen
    assert containers(client, marker) == []
    assert list((tmp_path / "cache" / "osiris" / "docker" / "logs").iterdir()) == []


def test_ctrl_c_during_a_build_leaves_no_container(client: Any, folder: Path) -> None:
    """KeyboardInterrupt arrives where the build was asked for, and its container is gone by then."""
    marker = uuid.uuid4().hex

    seen: list[str] = []

    def progress(line: str) -> None:
        if "Running in" in line:
            seen.extend(containers(client, marker))
            raise KeyboardInterrupt

    started_s = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        ensure_image(client, sleeping(folder, marker), progress)
    assert time.monotonic() - started_s < 30
    assert seen
    assert containers(client, marker) == []


def test_two_runs_that_want_the_same_image(client: Any, folder: Path) -> None:
    """One builds it, the other waits, says so, and uses it."""
    (folder / "Dockerfile").write_text(f"FROM {BASE}\nRUN echo {uuid.uuid4()} && sleep 2\n")
    config = DockerConfig(dockerfile=str(folder / "Dockerfile"))
    lines: list[str] = []
    with ThreadPoolExecutor(2) as pool:
        images = [job.result() for job in [pool.submit(ensure_image, client, config, lines.append) for _ in range(2)]]
    BUILT.append(images[0].tag)
    assert sorted(image.built for image in images) == [False, True]
    assert images[0].image_id == images[1].image_id
    assert sum("waiting" in line for line in lines) == 1
    assert sum("sleep 2" in line for line in lines) == 1


def test_retagged_image_is_not_taken_for_ours(client: Any, folder: Path) -> None:
    """A tag that somebody moved to another image is built anew."""
    image = made(client, folder)
    client.images.get(BASE).tag(*image.tag.split(":"))
    again = made(client, folder)
    assert again.built
    assert client.images.get(image.tag).labels["osiris.hash"].startswith(image.tag.split(":")[1])


def test_special_files_do_not_hinder(client: Any, folder: Path) -> None:
    """A named pipe in the context is neither read nor sent."""
    os.mkfifo(folder / "pipe")
    assert said_by(made(client, folder), "test -e /model/pipe || echo none") == "none"
