"""The worker image of the Docker adapter, on the real engine: built once, from wheels, and refused with a reason."""

import base64
import io
import json
import subprocess
import tarfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.docker_engine.config import DockerConfig
from adapters.docker_image.base import probe_base
from adapters.docker_image.check import image_problems
from adapters.docker_image.ensure import WorkerImage, ensure_image
from adapters.docker_image.errors import ImageError
from adapters.docker_image.packages import downloaded_wheels, required, requirement_problem
from adapters.docker_image.watch import Watch
from adapters.docker_image.worker import worker_recipe
from osiris_core.errors import FailureClass
from remote.protocol import WORKER_PACKAGES

BASE = "osiris-base:bookworm"
EXTRA = "iniconfig>=2"
SECRET = "hunter2-correct-horse"
OLD_PYTHON = base64.b64encode(
    b"""#!/bin/sh\necho '{"version": [3, 9, 2], "implementation": "cpython", "venv": true, "apt": true}'\n"""
).decode()

pytestmark = pytest.mark.timeout(300)  # the first download of the worker's packages takes its time


@pytest.fixture(scope="module")
def built(docker_client: Any) -> Iterator[tuple[WorkerImage, list[str]]]:
    """A worker image that nobody else uses, and what was said while it was built."""
    config = DockerConfig(base_image=BASE, requirements=(EXTRA,))
    forget(docker_client, worker_recipe(config, docker_client.api.inspect_image(BASE)["Id"]).tag)
    lines: list[str] = []
    image = ensure_image(docker_client, config, lines.append)
    yield image, lines
    forget(docker_client, image.tag)


def forget(docker_client: Any, tag: str) -> None:
    if docker_client.images.list(tag):
        docker_client.api.remove_image(tag, force=True)


def in_container(image: str, *argv: str) -> str:
    """What a command prints in a container as a stranger, without a network, on a read-only root."""
    # Not the SDK's `containers.run`: it follows a log, and now and then loses what a quick container printed.
    command = ["docker", "run", "--rm", "--read-only", "--network", "none", "--user", "10001:10001", image, *argv]
    return subprocess.check_output(command, text=True, timeout=50)


def test_worker_image_holds_the_workers_packages(docker_client: Any, built: tuple[WorkerImage, list[str]]) -> None:
    """Any user can import them, compiled; they are in the host's versions; the wheels are in no layer."""
    image, lines = built
    assert image.built
    assert image.build_ms > 0
    assert any("Step 1/" in line for line in lines)
    script = "import importlib.metadata as m, json, sys; print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))"
    found = json.loads(in_container(image.tag, image.python, "-c", script, *WORKER_PACKAGES, "iniconfig"))
    here = dict(item.split("==") for item in required(()) if "==" in item)
    assert {"duckdb", "pyarrow", "pydantic"} <= set(here)
    assert here.items() <= found.items()
    script = (
        "import pydantic, pathlib; print(len(list(pathlib.Path(pydantic.__file__).parent.glob('__pycache__/*.pyc'))))"
    )
    assert int(in_container(image.tag, image.python, "-c", script)) > 20
    assert in_container(image.tag, "sh", "-c", "ls /osiris 2>/dev/null || echo none").strip() == "none"
    size_bytes = docker_client.api.inspect_image(image.tag)["Size"] - docker_client.api.inspect_image(BASE)["Size"]
    on_disk = in_container(image.tag, "du", "-sb", "/opt/osiris").split()[0]
    assert size_bytes < 1.1 * int(on_disk)


def test_second_call_builds_nothing(docker_client: Any, built: tuple[WorkerImage, list[str]]) -> None:
    """An image that is there is used at once, and nobody is told of a build."""
    lines: list[str] = []
    started_s = time.monotonic()
    again = ensure_image(docker_client, DockerConfig(base_image=BASE, requirements=(EXTRA,)), lines.append)
    assert time.monotonic() - started_s < 1
    assert (again.image_id, again.tag, again.python, again.built) == (*_same(built[0]), False)
    assert lines == []


def _same(image: WorkerImage) -> tuple[str, str, str]:
    return image.image_id, image.tag, image.python


def test_a_build_leaves_only_its_image(docker_client: Any, built: tuple[WorkerImage, list[str]]) -> None:
    """It can be found by its labels, and of its stages nothing remains."""
    labels = docker_client.api.inspect_image(built[0].tag)["Config"]["Labels"]
    assert labels["osiris.worker"] == "1"
    assert built[0].tag.removeprefix("osiris-worker:") == labels["osiris.hash"][:24]
    alike = docker_client.api.images(filters={"label": f"osiris.hash={labels['osiris.hash']}"})
    assert [image["RepoTags"] for image in alike] == [[built[0].tag]]


def test_what_a_cancelled_build_leaves_can_be_pruned(docker_client: Any, built: tuple[WorkerImage, list[str]]) -> None:
    """Every image that a build makes on top of the base carries the label that the documented prune asks for."""
    base_id = docker_client.api.inspect_image(BASE)["Id"]
    image_id, made = built[0].image_id, 0
    while image_id != base_id:
        inspected = docker_client.api.inspect_image(image_id)
        assert inspected["Config"]["Labels"]["osiris.worker"] == "1"
        image_id, made = inspected["Parent"], made + 1
    assert made > 3


def test_ready_worker_image_brings_its_python(docker_client: Any, built: tuple[WorkerImage, list[str]]) -> None:
    """A worker image that is named as a ready one is known as such; of another the own python3 is taken."""
    assert ensure_image(docker_client, DockerConfig(image=built[0].tag), print) == WorkerImage(
        built[0].image_id, built[0].tag, built[0].python, built=False, build_ms=0.0
    )
    assert ensure_image(docker_client, DockerConfig(image=BASE), print).python == "python3"


def test_wheels_of_a_folder_are_enough(
    docker_client: Any, built: tuple[WorkerImage, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With wheels_dir nothing is downloaded, on the host or in the build; what pip is told here stays here."""
    base_id = docker_client.api.inspect_image(BASE)["Id"]
    requirements = worker_recipe(DockerConfig(base_image=BASE, requirements=(EXTRA,)), base_id).requirements
    folder = downloaded_wheels(requirements, probe_base(docker_client, BASE, base_id), Watch(print))
    monkeypatch.setenv("PIP_INDEX_URL", f"http://user:{SECRET}@127.0.0.1:1/simple")
    lines: list[str] = []
    image = ensure_image(docker_client, DockerConfig(base_image=BASE, wheels_dir=str(folder)), lines.append)
    try:
        assert image.built
        assert not any("downloading" in line for line in lines)
        in_container(image.tag, image.python, "-c", "import duckdb, jsonrpcserver, psutil, pyarrow, tenacity")
        known = json.dumps([docker_client.api.inspect_image(image.tag), docker_client.api.history(image.tag), lines])
        assert SECRET not in known
        assert "127.0.0.1" not in known
    finally:
        forget(docker_client, image.tag)


def test_tag_follows_what_is_in_the_image(docker_client: Any, tmp_path: Path) -> None:
    """Another base, requirement, Debian package, platform or wheel gives another tag; their order does not."""
    (tmp_path / "a-1-py3-none-any.whl").write_bytes(b"one")

    def tag(base_id: str = "sha256:1", **settings: Any) -> str:
        return worker_recipe(DockerConfig(**settings), base_id).tag

    tags = [
        tag(),
        tag("sha256:2"),
        tag(requirements=("polars",)),
        tag(requirements=("polars>=1",)),
        tag(apt_packages=("libgomp1",)),
        tag(platform="linux/arm64"),
        tag(wheels_dir=str(tmp_path)),
    ]
    (tmp_path / "a-1-py3-none-any.whl").write_bytes(b"two")
    tags.append(tag(wheels_dir=str(tmp_path)))
    assert len(set(tags)) == len(tags)
    assert tag(requirements=("a", "b")) == tag(requirements=("b", "a"))


@pytest.mark.parametrize(
    ("requirement", "is_possible"),
    [
        ("polars", True),
        ("polars[async, gpu] >= 1.20, < 2", True),
        ("ruamel.yaml==0.18.*; python_version < '3.13'", True),
        ("scipy ~= 1.11", True),
        ("--index-url=http://example.org", False),
        ("-r other.txt", False),
        ("./polars", False),
        ("/wheels/polars-1.whl", False),
        ("polars @ https://user:password@example.org/polars.whl", False),
        ("git+https://example.org/polars", False),
        ("polars\n--pre", False),
        ("", False),
    ],
)
def test_requirements_are_names_with_versions(requirement: str, is_possible: bool) -> None:
    """Options, paths and URLs are refused with what to do instead."""
    assert (requirement_problem(requirement) is None) == is_possible
    if not is_possible:
        with pytest.raises(ImageError, match="wheels_dir"):
            required([requirement])


def test_requirement_of_the_user_wins_over_the_hosts_version() -> None:
    """A package that is named is pinned by its name alone, within what a worker can work with."""
    found = required(["PyArrow==21.0.0"])
    assert "PyArrow==21.0.0" in found
    assert f"pyarrow{WORKER_PACKAGES['pyarrow']}" in found
    assert sum(item.lower().startswith("pyarrow") for item in found) == 2


def test_packages_that_cannot_be_had(docker_client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the log and shows its end; the index's password is in neither, and nothing half-made is kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PIP_INDEX_URL", f"http://user:{SECRET}@127.0.0.1:1/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    lines: list[str] = []
    with pytest.raises(ImageError) as caught:
        ensure_image(docker_client, DockerConfig(base_image=BASE, requirements=("osiris-no-such",)), lines.append)
    assert "wheels_dir" in str(caught.value)
    assert "No matching distribution" in str(caught.value)
    logs = list((tmp_path / "osiris" / "docker" / "logs").iterdir())
    assert len(logs) == 1
    assert str(logs[0]) in str(caught.value)
    assert SECRET not in logs[0].read_text() + str(caught.value) + "".join(lines)
    assert list((tmp_path / "osiris" / "docker" / "wheels").iterdir()) == []


def test_folder_without_wheels(docker_client: Any, tmp_path: Path) -> None:
    """A wheels_dir that is empty or not there is said to be, with how to fill it."""
    for folder, match in ((tmp_path, "pip download"), (tmp_path / "none", "cannot be read")):
        with pytest.raises(ImageError, match=match):
            ensure_image(docker_client, DockerConfig(base_image=BASE, wheels_dir=str(folder)), print)


@pytest.fixture
def made_base(docker_client: Any) -> Iterator[Any]:
    """Makes a base image from a Dockerfile, or from nothing, for one test."""
    tags: list[str] = []

    def make(dockerfile: str | None) -> str:
        tag = f"osiris-test-base:{uuid.uuid4().hex[:12]}"
        if dockerfile is None:
            empty = io.BytesIO()
            tarfile.open(fileobj=empty, mode="w").close()
            docker_client.api.import_image_from_data(
                empty.getvalue(), repository=tag.split(":")[0], tag=tag.split(":")[1]
            )
        else:
            docker_client.images.build(
                fileobj=io.BytesIO(dockerfile.encode()), tag=tag, rm=True, forcerm=True, network_mode="none"
            )
        tags.append(tag)
        return tag

    yield make
    for tag in tags:
        forget(docker_client, tag)


@pytest.mark.parametrize(
    ("dockerfile", "said"),
    [
        (None, "has no python3"),
        (f"FROM {BASE}\nRUN rm -rf /usr/lib/python3.11/ensurepip\n", "python3-venv"),
        (
            f"FROM {BASE}\nRUN cd /usr/local/bin && echo {OLD_PYTHON} | base64 -d > python3 && chmod +x python3\n",
            "has Python 3.9.2; 3.11 or later is needed",
        ),
        (f"FROM {BASE}\nRUN ln -s /bin/false /usr/local/bin/python3\n", "does not work"),
    ],
)
def test_base_without_a_suitable_python(docker_client: Any, made_base: Any, dockerfile: str | None, said: str) -> None:
    """It is refused before anything is downloaded, with the reason, and leaves no container."""
    base = made_base(dockerfile)
    with pytest.raises(ImageError, match=said) as caught:
        ensure_image(docker_client, DockerConfig(base_image=base), print)
    assert base in str(caught.value)
    assert caught.value.failure_class == FailureClass.USER_ERROR
    assert not docker_client.api.containers(all=True, filters={"ancestor": base})


def test_debian_packages_need_debian(docker_client: Any, made_base: Any) -> None:
    """A base without apt-get cannot take Debian packages."""
    base = made_base(f"FROM {BASE}\nRUN rm /usr/bin/apt-get\n")
    with pytest.raises(ImageError, match="has no apt-get"):
        ensure_image(docker_client, DockerConfig(base_image=base, apt_packages=("libgomp1",)), print)


def test_every_problem_is_found_beforehand(docker_client: Any, tmp_path: Path) -> None:
    """What is wrong with an image's settings is said at once, each with its key, and nothing is made."""
    worker = DockerConfig(
        base_image="osiris-test/none:1",
        pull_policy="never",
        wheels_dir=str(tmp_path),
        registry_auth={"username": "me", "password": "${NOT_SET}"},
    )
    keys = [problem.key for problem in image_problems(docker_client, worker, {})]
    assert keys == ["registry_auth", "base_image", "wheels_dir"]
    own = DockerConfig(dockerfile=str(tmp_path / "Dockerfile"), build_args={"TOKEN": "${API_TOKEN}"})
    assert [problem.key for problem in image_problems(docker_client, own, {})] == ["dockerfile", "build_args"]
    ready = DockerConfig(image="osiris-test/none:1", pull_policy="never")
    assert [problem.key for problem in image_problems(docker_client, ready, {})] == ["image"]
    assert image_problems(docker_client, DockerConfig(image=BASE, pull_policy="never"), {}) == []
