"""What a dead controller left at the engine is found by its labels and removed; what lives is left alone."""

from __future__ import annotations

import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

from adapters.docker_engine.config import DockerConfig
from adapters.docker_engine.gc import find_leftovers, remove
from adapters.docker_engine.sandbox import DockerSandbox
from osiris_core.session import Session
from remote.owner import Owner

ROOT = Path(__file__).resolve().parent.parent
BASE = "osiris-base:bookworm"

ORPHAN = """
import os, sys
from adapters.docker_engine.client import connect
from adapters.docker_engine.config import DockerConfig
from adapters.docker_engine.sandbox import DockerSandbox
sandbox = DockerSandbox(connect(), DockerConfig(), "osiris-base:bookworm", "/usr/bin/python3",
                        token=sys.argv[1], session_id="orphan", session_dir=sys.argv[2])
sandbox.start()
sandbox.open(["/bin/sleep", "600"])
os._exit(9)
"""


def ours(found: list[Any], token: str) -> list[Any]:
    return [item for item in found if token in item.native_id]


def test_a_dead_controllers_container_is_found_and_removed(tmp_path: Path, docker_client: Any) -> None:
    """Its container and volume are listed, running, and gone after; removing them again is no error."""
    token = uuid.uuid4().hex
    arguments = [sys.executable, "-c", ORPHAN, token, str(tmp_path / "lost")]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False, timeout=50)
    assert done.returncode == 9, done.stderr
    found = ours(find_leftovers(docker_client), token)
    assert [(item.kind, item.session_id, item.is_running) for item in found] == [
        ("container", "orphan", True),
        ("volume", "orphan", False),
        ("volume", "orphan", False),
    ]
    assert found[0].session_dir == str(tmp_path / "lost")
    assert found[0].created_at.startswith("20")
    remove(found)
    remove(found)
    assert ours(find_leftovers(docker_client), token) == []
    assert docker_client.api.containers(all=True, filters={"label": f"osiris.token={token}"}) == []


def test_what_is_owned_is_left_alone(tmp_path: Path, docker_client: Any) -> None:
    """While its process holds the session, or lives without one, a container is nobody's leftover; after that it is."""
    token = uuid.uuid4().hex
    session = Session.open(str(tmp_path / "session"), "owned")
    sandbox = DockerSandbox(
        docker_client,
        DockerConfig(),
        BASE,
        "/usr/bin/python3",
        token=token,
        session_id="owned",
        session_dir=str(tmp_path / "session"),
    )
    try:
        sandbox.start()
        assert ours(find_leftovers(docker_client), token) == []
        session.close()
        assert len(ours(find_leftovers(docker_client), token)) == 3
    finally:
        session.close()
        sandbox.stop()
    assert ours(find_leftovers(docker_client), token) == []


def test_owners_are_told_apart() -> None:
    """An owner reads back as it was written; another process of the same number, and another machine, are others."""
    me = Owner.here()
    assert Owner.parse(str(me)) == me
    assert me.is_here
    assert me.is_alive
    assert not Owner(me.user, me.host, me.pid, me.started_at - 1000).is_alive
    assert not Owner(me.user, "elsewhere", me.pid, me.started_at).is_here
    assert Owner.parse("somebody else's label") is None
