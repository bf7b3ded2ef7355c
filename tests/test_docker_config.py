"""The settings of the Docker adapter: strict, with the key in every complaint."""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from adapters.docker_engine.config import DockerConfig, size_bytes
from adapters.docker_engine.spec import ContainerSpec, container_body
from adapters.docker_engine.volumes import parse_volumes
from osiris_core import ExecutionContext
from osiris_core.configured import declared
from osiris_core.errors import ConfigError
from osiris_core.factory import _configured

if TYPE_CHECKING:
    from pathlib import Path


def configured(**settings: Any) -> DockerConfig:
    config: DockerConfig = _configured(DockerConfig, "docker", settings)
    return config


@pytest.mark.parametrize(
    ("settings", "key", "says"),
    [
        ({"cpu": 0}, "docker.cpu", "greater"),
        ({"requirements": ["--pre"]}, "docker.requirements", "a requirement is a name with versions"),
        ({"apt_packages": ["; rm -rf /"]}, "docker.apt_packages", "cannot be the name of a Debian package"),
        ({"cpu": float("inf")}, "docker.cpu", "finite"),
        ({"memory": "5x"}, "docker.memory", "512m"),
        ({"memory": "1k"}, "docker.memory", "6m"),
        ({"memory": -1}, "docker.memory", "512m"),
        ({"shm_size": "1.5g"}, "docker.shm_size", "whole number"),
        ({"pids_limit": 0}, "docker.pids_limit", "8"),
        ({"tmpfs": {"tmp": "1m"}}, "docker.tmpfs", "absolute"),
        ({"network": "host"}, "docker.network", "isolation"),
        ({"network": "container:abc"}, "docker.network", "isolation"),
        ({"network": "a b"}, "docker.network", "name of a network"),
        ({"engine": "worker", "working_dir": "/opt"}, "docker", "working_dir is for engine: host"),
        ({"working_dir": "opt", "engine": "host", "image": "x"}, "docker.working_dir", "pattern"),
        ({"user": "a:b"}, "docker.user", "uid:gid"),
        ({"volumes": ["/data"]}, "docker.volumes", "host:container"),
        ({"volumes": ["/data:/d:rx"]}, "docker.volumes", "ro or rw"),
        ({"volumes": ["/data:d"]}, "docker.volumes", "absolute"),
        ({"volumes": ["/data:/a/../b"]}, "docker.volumes", "'..'"),
        ({"volumes": ["/a:/x", "/b:/x:ro"]}, "docker.volumes", "taken by another"),
        ({"volumes": ["/a:/osiris/run"]}, "docker.volumes", "belongs to the container"),
        ({"volumes": ["/a:/proc/x"]}, "docker.volumes", "belongs to the container"),
        ({"volumes": ["/a:/opt"]}, "docker.volumes", "belongs to the container"),
        ({"env_vars": {"A-B": "1"}}, "docker.env_vars", "name of an environment variable"),
        ({"labels": {"osiris.session": "x"}}, "docker.labels", "ours"),
        ({"cap_add": ["ALL"]}, "docker.cap_add", "name each"),
        ({"platform": "windows/amd64"}, "docker.platform", "linux/amd64"),
        ({"registry_auth": {"username": "me", "password": "clear"}}, "docker.registry_auth", "${NAME}"),
        ({"registry_auth": {"username": "me"}}, "docker.registry_auth", "password"),
        ({"image": "a", "dockerfile": "Dockerfile"}, "docker", "not both"),
        ({"build_args": {"A": "1"}}, "docker", "need a dockerfile"),
        ({"engine": "host"}, "docker", "image or dockerfile"),
        ({"engine": "host", "image": "a", "mount_inputs": True}, "docker", "mount_inputs"),
        ({"memroy": "1g"}, "docker.memroy", "no such key"),
        ({"image": "a", "requirements": ["polars"]}, "docker", "requirements is for the worker image; with image it"),
        ({"image": "a", "base_image": "b"}, "docker", "base_image is for the worker image"),
        (
            {"dockerfile": "D", "apt_packages": ["gcc"]},
            "docker",
            "apt_packages is for the worker image; with dockerfile",
        ),
        ({"engine": "host", "wheels_dir": "w"}, "docker", "wheels_dir is for the worker image; with engine: host"),
        ({"cap_add": ["NET_BIND_SERVIC"]}, "docker.cap_add", "did you mean 'NET_BIND_SERVICE'?"),
        ({"cap_add": ["cap_net_raw"]}, "docker.cap_add", "did you mean 'NET_RAW'?"),
        ({"tmpfs": {"/proc/x": "1m"}}, "docker.tmpfs", "belongs to the container"),
        ({"tmpfs": {"/osiris": "1m"}}, "docker.tmpfs", "belongs to the container"),
        ({"tmpfs": {"//dev": "1m"}}, "docker.tmpfs", "belongs to the container"),
        ({"tmpfs": {"/a/../b": "1m"}}, "docker.tmpfs", "'..'"),
        ({"tmpfs": {"/a": "1m", "/a/": "1m"}}, "docker.tmpfs", "twice"),
        ({"tmpfs": {"/a/": "1m"}, "volumes": ["/usr:/a"]}, "docker", "in volumes and in tmpfs"),
        ({"volumes": ["/a://proc"]}, "docker.volumes", "belongs to the container"),
    ],
)
def test_a_bad_value_is_refused_with_its_key(settings: dict[str, Any], key: str, says: str) -> None:
    """A mistake is told with the key that it is in, and with what is allowed."""
    with pytest.raises(ConfigError) as caught:
        configured(**settings)
    (problem, *_) = caught.value.problems
    assert problem.key is not None
    assert problem.key.startswith(key)
    assert says in str(caught.value)
    assert "Value error" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "wrong"),
    [
        ({"volumes": ["/data", "/b:/b", "/c:/proc"]}, ["'/data'", "'/c:/proc'"]),
        ({"env_vars": {"A-B": "1", "C": "2", "D": "\0"}}, ["'A-B'", "value of D"]),
        ({"tmpfs": {"tmp": "1m", "/b": "1m", "/c": "1x"}}, ["'tmp'", "'/c'"]),
        ({"cap_add": ["ALL", "CHOWN", "NOPE"]}, ["'ALL'", "'NOPE'"]),
        ({"labels": {"osiris": "", "team": "", "osiris.x": ""}}, ["'osiris'", "'osiris.x'"]),
        (
            {"image": "a", "requirements": ["b"], "apt_packages": ["cc"], "build_args": {"A": "1"}},
            ["requirements is", "apt_packages is", "build_args"],
        ),
    ],
)
def test_every_wrong_entry_is_told_at_once(settings: dict[str, Any], wrong: list[str]) -> None:
    """Who made several mistakes in one setting is not told of them one after the other."""
    with pytest.raises(ConfigError) as caught:
        configured(**settings)
    (problem,) = caught.value.problems
    assert all(text in problem.message for text in wrong)
    assert len(problem.message.split("; ")) >= len(wrong)


@pytest.mark.parametrize(
    ("image", "is_possible"),
    [
        ("python", True),
        ("python:3.12-slim", True),
        ("team/my_model__x--y.z", True),
        ("localhost/model", True),
        ("127.0.0.1:5000/team/model:4", True),
        ("[::1]:5000/model", True),
        ("Registry.example.org:5000/team/model:V4_x@sha256:" + "0a" * 32, True),
        ("sha256:" + "0a" * 32, True),
        ("Python:3.12", False),
        ("python:", False),
        ("python:3.12 ", False),
        ("team/Model", False),
        ("team//model", False),
        ("python:-3", False),
        ("python@sha256:12", False),
        ("https://user:hunter2@example.org/model", False),
        ("a" * 256, False),
    ],
)
def test_an_image_is_named_by_a_reference(image: str, is_possible: bool) -> None:
    """What no engine takes as an image is refused before anything starts, and not repeated."""
    for name in ("image", "base_image"):
        if is_possible:
            assert getattr(configured(**{name: image}), name) == image
            continue
        with pytest.raises(ConfigError, match="no reference to an image") as caught:
            configured(**{name: image})
        assert [problem.key for problem in caught.value.problems] == [f"docker.{name}"]
        assert "hunter2" not in str(caught.value)


def test_a_password_that_was_refused_is_not_shown() -> None:
    """A value in the wrong place is not repeated by the complaint about it."""
    with pytest.raises(ConfigError) as caught:
        configured(registry_auth={"username": "me", "password": "hunter2-in-clear"})
    assert "hunter2" not in str(caught.value)


def test_examples_of_the_schema_are_valid() -> None:
    """What the documentation shows can be written like that; every key says what it is for."""
    for name, field in DockerConfig.model_json_schema()["properties"].items():
        assert field.get("description"), name
        for example in field.get("examples", []):
            engine = {"engine": "host", "image": "model:4"} if name == "working_dir" else {}
            configured(**{name: example}, **engine)


@pytest.mark.parametrize(
    ("text", "size"),
    [("512m", 512 << 20), ("2G", 2 << 30), ("6291456", 6 << 20), (7 << 20, 7 << 20), ("9000k", 9000 << 10)],
)
def test_sizes_are_read_as_docker_writes_them(text: str | int, size: int) -> None:
    """A size may be bytes or have a unit."""
    assert size_bytes(text) == size


def test_volumes_are_read_strictly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One host path may be mounted twice, a colon may be in it, and a relative one starts at the current directory."""
    monkeypatch.chdir(tmp_path)
    found = parse_volumes(["/data:/a:ro", "/data:/b", "grids:/c:rw", "/with:colon:/d"])
    assert [(str(volume.host), str(volume.container), volume.read_only) for volume in found] == [
        ("/data", "/a", True),
        ("/data", "/b", False),
        (str(tmp_path / "grids"), "/c", False),
        ("/with:colon", "/d", False),
    ]
    problem = found[2].problem()
    assert problem is not None
    assert "cannot be mounted" in str(problem)
    (tmp_path / "grids").mkdir()
    assert found[2].problem() is None


def test_a_socket_is_not_mounted(tmp_path: Path) -> None:
    """A container gets no socket of this machine, by itself or in a folder that holds the engine's."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "a.sock"))
        (volume,) = parse_volumes([f"{tmp_path}/a.sock:/a.sock"])
        assert "socket" in str(volume.problem())


@pytest.mark.parametrize(
    ("variable", "value", "place"),
    [
        ("DOCKER_HOST", "unix://{}/engine.sock", "engine.sock"),
        ("CONTAINER_HOST", "unix://{}/engine.sock", "engine.sock"),
        ("XDG_RUNTIME_DIR", "{}", "docker.sock"),
        ("XDG_RUNTIME_DIR", "{}", "podman/podman.sock"),
    ],
)
def test_an_engines_socket_is_found_wherever_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, place: str
) -> None:
    """A folder that holds the socket of the engine in use, or of a user's own engine, is not mounted."""
    (tmp_path / "run/podman").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "run")
    (tmp_path / "beside").mkdir()
    monkeypatch.setenv(variable, value.format(tmp_path / "link"))
    with socket.socket(socket.AF_UNIX) as listening:
        monkeypatch.chdir(tmp_path)  # the path of a socket must be short
        listening.bind(f"run/{place}")
        holding, above, beside = parse_volumes([f"{tmp_path}/run:/a", f"{tmp_path}:/b:ro", f"{tmp_path}/beside:/c"])
        assert "socket" in str(holding.problem())
        assert "socket" in str(above.problem())
        assert beside.problem() is None


def test_a_value_under_a_secrets_name_is_secret(tmp_path: Path) -> None:
    """A literal of `env_vars` is public only when neither its name nor a reference makes it a secret."""
    context = ExecutionContext(session_id="s", session_dir=str(tmp_path), environment={"HERE": "1"})
    found = declared({"API_TOKEN": "tok-literal-4711", "LEVEL": "high", "COPY": "${HERE}"}, context)
    assert found.environment == {"HERE": "1", "API_TOKEN": "tok-literal-4711", "LEVEL": "high", "COPY": "1"}
    assert found.public_environment == {"LEVEL"}


def test_every_limit_arrives() -> None:
    """What is set stands in the request that makes the container, and isolation needs no setting."""
    config = DockerConfig(
        memory="64m",
        cpu=0.5,
        pids_limit=50,
        shm_size="8m",
        tmpfs={"/scratch": "16m"},
        cap_add=("NET_BIND_SERVICE",),
        read_only=False,
    )
    spec = ContainerSpec("image", ["prog"], "5:6", {"a": "b"}, "none", [], {"X": "1"})
    body = container_body(spec, config)
    host = body["HostConfig"]
    assert (host["Memory"], host["MemorySwap"], host["NanoCpus"]) == (64 << 20, 64 << 20, 500_000_000)
    assert (host["PidsLimit"], host["ShmSize"]) == (50, 8 << 20)
    assert host["Tmpfs"] == {"/scratch": f"size={16 << 20},mode=1777"}
    assert (host["CapDrop"], host["CapAdd"]) == (["ALL"], ["NET_BIND_SERVICE"])
    assert host["ReadonlyRootfs"] is False
    assert "ExtraHosts" not in host
    connected = container_body(replace(spec, network="bridge"), config)["HostConfig"]
    assert connected["ExtraHosts"] == ["host.docker.internal:host-gateway"]
    default = container_body(spec, DockerConfig())["HostConfig"]
    assert default["ReadonlyRootfs"] is True
    assert default["SecurityOpt"] == ["no-new-privileges"]
    assert default["NetworkMode"] == "none"
    assert (body["StdinOnce"], body["Tty"], body["OpenStdin"], body["User"]) == (False, False, True, "5:6")
