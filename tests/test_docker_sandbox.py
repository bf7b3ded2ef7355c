"""The container of a run, on the real engine: what is enforced in it, how it is talked to, and its end."""

from __future__ import annotations

import io
import json
import os
import tarfile
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from adapters.docker_engine import sandbox as docker_sandbox
from adapters.docker_engine.config import DockerConfig
from adapters.docker_engine.labels import OWNER, SESSION, TOKEN, VERSION
from adapters.docker_engine.sandbox import DockerSandbox
from remote.sandbox import SandboxError, TransportClosed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from adapters.docker_engine.transport import AttachTransport

BASE = "osiris-base:bookworm"
PYTHON = "/usr/bin/python3"


@pytest.fixture
def make(docker_client: Any, tmp_path: Path) -> Iterator[Callable[..., DockerSandbox]]:
    """Sandboxes with any configuration; every one is stopped after the test."""
    made: list[DockerSandbox] = []

    def sandbox(
        *, image: str = BASE, python: str = PYTHON, inputs: tuple[str, ...] = (), **settings: Any
    ) -> DockerSandbox:
        made.append(
            DockerSandbox(
                docker_client,
                DockerConfig(**settings),
                image,
                python,
                token=uuid.uuid4().hex,
                session_id="test-session",
                session_dir=str(tmp_path),
                network=settings.get("network", "none"),
                inputs=inputs,
            )
        )
        return made[-1]

    yield sandbox
    for item in made:
        item.stop()
        assert left(docker_client, item) == []


def left(client: Any, sandbox: DockerSandbox) -> list[str]:
    """Every container and volume with the sandbox's token."""
    wanted = {"label": f"{TOKEN}={sandbox.name.removeprefix('osiris-')}"}
    containers = client.api.containers(all=True, filters=wanted)
    volumes = client.api.volumes(filters=wanted)["Volumes"] or []
    return [item["Id"] for item in containers] + [item["Name"] for item in volumes]


def package(folder: Path, **files: str) -> Path:
    path = folder / f"{uuid.uuid4().hex}.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name.replace("__", "/"))
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return path


def run(sandbox: DockerSandbox, folder: Path, script: str, *, timeout_s: float = 20) -> AttachTransport:
    """Start Python with `script` in the sandbox."""
    sandbox.start()
    sandbox.put(package(folder, code__main=script))
    return sandbox.open([sandbox.python, "-I", "-u", f"{sandbox.work_dir}/code/main"])


def all_of(transport: AttachTransport, timeout_s: float = 20) -> bytes:
    """What it writes until its end."""
    data = b""
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        try:
            data += transport.receive(1) or b""
        except TransportClosed:
            transport.close()
            return data
    raise AssertionError(f"it did not end; so far it wrote {data[-500:]!r}")


LOOK = """
import json, os, pathlib, socket, tempfile
def can(action):
    try:
        action()
    except OSError as exc:
        return type(exc).__name__ + " " + str(exc.errno)
    return "yes"
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
def control(v1, v2):
    for path in (v1, v2):
        if os.path.exists("/sys/fs/cgroup/" + path):
            return open("/sys/fs/cgroup/" + path).read().strip()
print(json.dumps({
    "uid": os.getuid(), "gid": os.getgid(), "groups": os.getgroups(),
    "caps": [status[name].strip() for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")],
    "no_new_privs": status["NoNewPrivs"].strip(), "ppid": os.getppid(),
    "root": can(lambda: open("/x", "w")), "etc": can(lambda: open("/etc/x", "w")),
    "volume": can(lambda: open("/osiris/x", "w")),
    "work": can(lambda: open("/osiris/run/x", "w")), "beside": can(lambda: open("/osiris/run/code/y", "w")),
    "home": can(lambda: open(os.path.expanduser("~/x"), "w")), "tmp": can(lambda: open("/tmp/x", "w")),
    "temp": tempfile.gettempdir(),
    "interfaces": sorted(os.listdir("/sys/class/net")),
    "outside": can(lambda: socket.create_connection(("192.0.2.1", 80), 2)),
    "memory": control("memory/memory.limit_in_bytes", "memory.max"),
    "swap": control("memory/memory.memsw.limit_in_bytes", "memory.swap.max"),
    "pids": control("pids/pids.max", "pids.max"),
    "cpu": control("cpu/cpu.cfs_quota_us", "cpu.max"),
    "environ": dict(os.environ), "init": open("/proc/1/comm").read().strip(),
}), flush=True)
"""


def test_isolation_is_real(make: Callable[..., DockerSandbox], tmp_path: Path) -> None:
    """Inside: another user, no capability, no network, nothing writable but its own folders, and every limit."""
    sandbox = make(memory="128m", cpu=0.5, pids_limit=64)
    found = json.loads(all_of(run(sandbox, tmp_path, LOOK)))
    uid = os.getuid() or 10001
    assert (found["uid"], found["gid"]) == (uid, os.getgid() or 10001)
    assert 0 not in found["groups"]
    assert {int(caps, 16) for caps in found["caps"]} == {0}
    assert found["no_new_privs"] == "1"
    assert found["root"] == found["etc"] == "OSError 30"  # a read-only file system
    assert found["volume"] == "PermissionError 13"
    assert [found[place] for place in ("work", "beside", "home", "tmp")] == ["yes"] * 4
    assert found["temp"] == "/osiris/tmp"
    assert found["interfaces"] == ["lo"]
    assert found["outside"] == "OSError 101"  # the network is unreachable
    assert found["memory"] == str(128 << 20)
    assert found["swap"] in (str(128 << 20), "0")  # v1 counts both, v2 swap alone
    assert found["pids"] == "64"
    assert found["cpu"].split()[0] == "50000"
    assert found["ppid"] == 1
    assert found["init"] in ("docker-init", "tini")
    assert set(found["environ"]) <= {"PATH", "HOSTNAME", "HOME", "TMPDIR", "LANG", "LC_ALL", "TZ", "LC_CTYPE"}


def test_processes_beyond_the_limit_are_refused(make: Callable[..., DockerSandbox], tmp_path: Path) -> None:
    """A fork bomb ends at its limit."""
    script = """
import os, time
made = 0
try:
    while made < 200:
        if os.fork() == 0:
            time.sleep(60)
        made += 1
except BlockingIOError:
    os.write(1, b"refused after %d" % made)  # in one piece
"""
    sandbox = make(pids_limit=30)
    transport = run(sandbox, tmp_path, script)
    said = (transport.receive(20) or b"").decode()
    transport.close()
    assert said.startswith("refused after "), said
    assert int(said.split()[-1]) < 30


def test_bytes_travel_both_ways(make: Callable[..., DockerSandbox], tmp_path: Path) -> None:
    """Megabytes go in while megabytes come out; standard error is told apart; the archive's own bytes come back."""
    script = """
import sys, pathlib
sys.stderr.write("a line of error\\n")
pathlib.Path("/osiris/run/session/deep").mkdir(parents=True)
pathlib.Path("/osiris/run/session/deep/out.bin").write_bytes(bytes(range(256)) * 20000)
while line := sys.stdin.buffer.readline():
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()
"""
    sandbox = make()
    transport = run(sandbox, tmp_path, script)
    sent = b"x" * 4_000_000 + b"\n"
    transport.send(sent, 20)
    transport.send(b"end\n", 20)
    found = b""
    while not found.endswith(b"end\n"):
        found += transport.receive(20) or b""
    assert found == sent + b"end\n"
    assert transport.stderr_tail() == "a line of error"
    assert transport.receive(0.05) is None
    home = b"".join(sandbox.get("session"))
    with tarfile.open(fileobj=io.BytesIO(home)) as archive:
        file = archive.extractfile("session/deep/out.bin")
        assert file is not None
        assert file.read() == bytes(range(256)) * 20000
    transport.close()
    transport.close()


def test_a_worker_outlives_its_connection(make: Callable[..., DockerSandbox], tmp_path: Path) -> None:
    """After a break the same worker is reached again, while it is writing, and not one of its bytes is garbled."""
    script = """
import sys, threading, time
def write():
    for number in range(10**9):
        sys.stdout.write(f"{number:>30}\\n")
        sys.stdout.flush()
        time.sleep(0.0005)
threading.Thread(target=write, daemon=True).start()
for line in sys.stdin:
    if line == "end\\n":
        break
"""
    sandbox = make()
    transport = run(sandbox, tmp_path, script)
    assert transport.receive(20)
    for _ in range(5):
        transport.close()
        with pytest.raises(TransportClosed):
            transport.send(b"x", 1)
        transport = sandbox.reconnect()
        data = b""
        while data.count(b"\n") < 20:
            data += transport.receive(20) or b""
        lines = [int(line) for line in data.decode().splitlines()[1:-1]]
        assert lines == list(range(lines[0], lines[0] + len(lines)))
    assert sandbox.fate().running
    transport.send(b"end\n", 5)
    all_of(transport)
    fate = sandbox.fate()
    assert (fate.running, fate.exit_code, fate.out_of_memory) == (False, 0, False)


def test_a_second_attach_has_a_deadline(make: Callable[..., DockerSandbox], tmp_path: Path, docker_client: Any) -> None:
    """Where another connection is full and unread, an attach that hangs is given up, and the container still ends."""
    sandbox = make()
    first = run(sandbox, tmp_path, "while True: print('x' * 60000, flush=True)")
    assert first.receive(20)
    time.sleep(1)  # long enough for every buffer in between to be full
    started_s = time.monotonic()
    with suppress(SandboxError):
        docker_sandbox.attach(docker_client, sandbox.name, 2).close()
    assert time.monotonic() - started_s < 10
    sandbox.stop()
    first.close()


def test_input_files_are_mounted(make: Callable[..., DockerSandbox], tmp_path: Path) -> None:
    """Mounted inputs are read where the sandbox says, even with one name, and cannot be written."""
    paths = []
    for number in range(2):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "in.csv").write_text(f"file {number}")
        (tmp_path / str(number) / "in.csv").chmod(0o666)
        paths.append(str(tmp_path / str(number) / "in.csv"))
    sandbox = make(inputs=tuple(paths))
    places = [sandbox.reads_in_place[path] for path in paths]
    script = f"""
for place in {places!r}:
    print(open(place).read())
    try:
        open(place, "a")
    except OSError as exc:
        print(exc.errno)
"""
    assert all_of(run(sandbox, tmp_path, script)).decode().split("\n")[:4] == ["file 0", "30", "file 1", "30"]


def test_volumes_are_mounted_as_they_say(make: Callable[..., DockerSandbox], tmp_path: Path) -> None:
    """A folder is there, read-only where that was asked for; one host folder may be mounted twice."""
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(0o777)
    (data / "a.txt").write_text("grid")
    sandbox = make(volumes=(f"{data}:/in:ro", f"{data}:/out"))
    script = """
print(open("/in/a.txt").read(), flush=True)
open("/out/b.txt", "w").write("result")
try:
    open("/in/c.txt", "w")
except OSError as exc:
    print(exc.errno)
"""
    assert all_of(run(sandbox, tmp_path, script)) == b"grid\n30\n"
    assert (data / "b.txt").read_text() == "result"


def test_labels_say_whose_it_is(make: Callable[..., DockerSandbox], docker_client: Any) -> None:
    """Container and volume can be found by session and token; the user's own labels are there too."""
    sandbox = make(labels={"team": "tides"})
    native_id = sandbox.start()
    found = docker_client.api.inspect_container(native_id)
    volume = docker_client.api.inspect_volume(sandbox.name)
    for labels in (found["Config"]["Labels"], volume["Labels"]):
        assert labels[SESSION] == "test-session"
        assert labels["team"] == "tides"
        assert str(os.getpid()) in labels[OWNER]
        assert labels[VERSION]
    assert found["HostConfig"]["LogConfig"]["Type"] == "none"
    assert found["State"]["Running"] is False


def test_memory_beyond_the_limit_is_said(make: Callable[..., DockerSandbox], tmp_path: Path) -> None:
    """A worker that the kernel killed ran out of memory; one that somebody killed did not."""
    sandbox = make(memory="32m")
    all_of(run(sandbox, tmp_path, "a = bytearray(200 << 20)"))
    fate = sandbox.fate()
    assert (fate.running, fate.exit_code, fate.out_of_memory) == (False, 137, True)
    assert "memory" in fate.message
    killed = make(memory="64m")
    all_of(run(killed, tmp_path, "import os; os.kill(os.getpid(), 9)"))
    fate = killed.fate()
    assert (fate.exit_code, fate.out_of_memory) == (137, False)


def test_a_child_that_was_killed_is_not_the_worker(make: Callable[..., DockerSandbox], tmp_path: Path) -> None:
    """The engine says OOMKilled when only a child was killed; a worker that went on did not run out of memory."""
    script = """
import os
child = os.fork()
if child == 0:
    a = bytearray(200 << 20)
    os._exit(0)
print(os.waitpid(child, 0)[1])
"""
    sandbox = make(memory="32m")
    assert all_of(run(sandbox, tmp_path, script)) == b"9\n"
    fate = sandbox.fate()
    assert (fate.exit_code, fate.out_of_memory) == (0, False)


def test_an_image_without_the_interpreter_is_named(make: Callable[..., DockerSandbox], tmp_path: Path) -> None:
    """Python that is not in the image: the fate says which image and which program."""
    sandbox = make(python="/nowhere/python3")
    all_of(run(sandbox, tmp_path, ""))
    fate = sandbox.fate()
    assert fate.exit_code == 127
    assert BASE in fate.message
    assert "/nowhere/python3" in fate.message


def test_a_name_stands_for_the_images_user(make: Callable[..., DockerSandbox], tmp_path: Path) -> None:
    """A user may be named as the image knows it; its files are then its own."""
    sandbox = make(user="nobody")
    found = json.loads(all_of(run(sandbox, tmp_path, LOOK)))
    assert (found["uid"], found["work"], found["home"]) == (65534, "yes", "yes")
    unknown = make(user="nosuchuser")
    unknown.start()
    with pytest.raises(SandboxError, match="nosuchuser"):
        unknown.put(package(tmp_path))


def test_stop_ends_everything_and_may_be_repeated(
    make: Callable[..., DockerSandbox], tmp_path: Path, docker_client: Any
) -> None:
    """Called by several threads at once, in the middle of a run, it leaves no process, container or volume."""
    sandbox = make()
    transport = run(sandbox, tmp_path, "import time; print(1, flush=True); time.sleep(600)")
    assert transport.receive(20)
    pid = docker_client.api.inspect_container(sandbox.name)["State"]["Pid"]
    errors: list[BaseException] = []

    def stop() -> None:
        try:
            sandbox.stop()
        except BaseException as exc:  # noqa: BLE001 - told below
            errors.append(exc)

    threads = [threading.Thread(target=stop) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(40)
    assert errors == []
    assert left(docker_client, sandbox) == []
    assert not Path(f"/proc/{pid}").exists()
    fate = sandbox.fate()
    assert not fate.running
    assert "gone" in fate.message
    all_of(transport)
    transport.close()


def test_a_half_made_place_is_removed(make: Callable[..., DockerSandbox], tmp_path: Path, docker_client: Any) -> None:
    """When the container could not be made or started, its volume goes all the same; after stop nothing is made."""
    (tmp_path / "soon_gone").mkdir()
    refused = make(volumes=(f"{tmp_path}/soon_gone:/data",))
    (tmp_path / "soon_gone").rmdir()
    with pytest.raises(SandboxError, match="cannot be made"):
        refused.start()
    refused.stop()
    assert left(docker_client, refused) == []
    late = make()
    late.stop()
    with pytest.raises(SandboxError, match="stopped"):
        late.start()
    assert left(docker_client, late) == []


def test_keeping_leaves_it_stopped(make: Callable[..., DockerSandbox], tmp_path: Path, docker_client: Any) -> None:
    """With remove_container: false nothing runs any more, and its files can still be looked at."""
    sandbox = make(remove_container=False)
    transport = run(sandbox, tmp_path, "import time; print(1, flush=True); time.sleep(600)")
    assert transport.receive(20)
    kept = sandbox.stop()
    transport.close()
    assert docker_client.api.inspect_container(sandbox.name)["State"]["Running"] is False
    assert b"time.sleep(600)" in b"".join(sandbox.get("code"))
    assert sandbox.name in kept
    docker_client.api.remove_container(sandbox.name, v=True)
    for volume in docker_client.api.volumes(filters={"label": f"{TOKEN}={sandbox.name.removeprefix('osiris-')}"})[
        "Volumes"
    ]:
        docker_client.api.remove_volume(volume["Name"])
