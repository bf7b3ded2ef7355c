"""What Docker's errors become: whose fault it is, and what to do."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests
from docker import errors as vendor

from adapters.docker_engine.client import connect
from adapters.docker_engine.errors import EngineUnreachable, NotThere, explained, translate
from adapters.docker_engine.removal import remove_container
from osiris_core.errors import FailureClass
from remote.sandbox import SandboxError

ROOT = Path(__file__).resolve().parent.parent


def refusal(text: str, status: int = 500) -> vendor.APIError:
    response = requests.Response()
    response.status_code = status
    return vendor.APIError("refused", response, explanation=text)


@pytest.mark.parametrize(
    ("status", "text", "failure_class", "remedy"),
    [
        (500, "write /var/lib/x: no space left on device", FailureClass.RESOURCE_DENIED, "system prune"),
        (400, "Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available", "resource_denied", "lower cpu"),
        (400, "Minimum memory limit allowed is 6MB", "resource_denied", "memory"),
        (400, "OCI runtime create failed: exec format error: unknown", "user_error", "platform"),
        (400, 'exec: "python3": executable file not found in $PATH: unknown', "user_error", "not in the image"),
        (404, "pull access denied for x, repository does not exist", "user_error", "registry_auth"),
        (500, "Get https://x: unauthorized: authentication required", "user_error", "registry_auth"),
        (400, "client version 1.52 is too new. Maximum supported API version is 1.41", "user_error", "19.03"),
        (400, "invalid mount config for type bind: bind source path does not exist: /x", "user_error", "this machine"),
        (404, "network nosuch not found", "user_error", "network create"),
        (400, "unable to find user x: no matching entries in passwd file", "user_error", "1000:1000"),
        (500, "something that nobody foresaw", "infra_lost", ""),
        (409, "something that nobody foresaw", "user_error", ""),
    ],
)
def test_a_refusal_has_a_class_and_a_remedy(status: int, text: str, failure_class: str, remedy: str) -> None:
    """The engine's words are kept, with what to do behind them."""
    error = explained(refusal(text, status), "it cannot be done")
    assert error.failure_class == failure_class
    assert str(error).startswith(f"it cannot be done: {text}")
    assert remedy in str(error)


def test_what_is_not_there_is_an_error_of_its_own() -> None:
    """A caller can tell a container that is gone from an engine that is gone."""
    with pytest.raises(NotThere), translate("x"):
        raise refusal("No such container: abc", 404)


def test_no_engine_says_how_to_start_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket that is not there, or that nobody listens on, means that Docker is not running."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nosuch.sock")
    with pytest.raises(EngineUnreachable, match=r"not running.*dockerd.*DOCKER_HOST"):
        connect()
    path = str(tmp_path / "dead.sock")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
    with pytest.raises(EngineUnreachable, match="not running") as caught:
        connect()
    assert caught.value.failure_class is FailureClass.INFRA_LOST
    monkeypatch.setenv("DOCKER_HOST", "ssh://somebody@somewhere")
    with pytest.raises(SandboxError, match="ssh -L"):
        connect()


def test_an_engine_that_does_not_answer_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon that hangs is told from one that is not there."""
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "silent.sock"))
        silent.listen(5)
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/silent.sock")
        with pytest.raises(EngineUnreachable, match="did not answer in time"):
            connect(timeout_s=0.3)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_a_user_without_permission_is_told_of_the_group(tmp_path: Path) -> None:
    """Who may not use the socket learns which group may."""
    path = tmp_path / "private.sock"
    with socket.socket(socket.AF_UNIX) as private:
        private.bind(str(path))
        private.listen(1)
        path.chmod(0o600)
        for folder in (tmp_path, *list(tmp_path.parents)[:3]):
            if str(folder) not in ("/", "/tmp"):
                folder.chmod(folder.stat().st_mode | 0o011)
        script = (
            "import os; from adapters.docker_engine.client import connect; from remote.sandbox import SandboxError\n"
            "import docker, docker.transport, http.client\n"
            "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
            "try:\n    connect()\nexcept SandboxError as exc:\n    print(exc.failure_class, exc)"
        )
        environment = {**os.environ, "DOCKER_HOST": f"unix://{path}", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False, timeout=50
        )
    assert done.stdout.startswith("user_error"), done.stderr
    assert "group docker" in done.stdout


class Flaky:
    """An engine that is being restarted, and then has the container still, and then has not."""

    def __init__(self) -> None:
        self.api = self
        self.calls = 0

    def remove_container(self, name: str, **_: Any) -> None:
        self.calls += 1
        if self.calls < 3:
            raise requests.exceptions.ConnectionError("Connection aborted.", ConnectionResetError(104, "reset"))
        if self.calls == 3:
            raise refusal("removal of container is already in progress", 409)
        if self.calls > 4:
            raise vendor.NotFound("gone", requests.Response(), explanation="No such container")


def test_removal_goes_on_when_the_engine_comes_back() -> None:
    """A restart, and a removal that somebody else began, are waited for; the end is seen, not believed."""
    engine = Flaky()
    remove_container(engine, "x", 10)
    assert engine.calls == 5


def test_removal_that_fails_names_who_does_it_later() -> None:
    """What cannot be removed now is not forgotten: the error says how it goes later."""
    engine = Flaky()
    engine.calls = -1000
    with pytest.raises(SandboxError, match="osiris runs gc"):
        remove_container(engine, "x", 0.2)


def test_errors_of_other_kinds_pass() -> None:
    """A mistake of our own is not made a story about Docker."""
    with pytest.raises(KeyError), translate("x"):
        raise KeyError("ours")
