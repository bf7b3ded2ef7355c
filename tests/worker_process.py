"""A worker as a bare child process, spoken to byte by byte: what the tests of the protocol have in common."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from osiris_core import AdapterFactory, ExecutionContext
from osiris_core.arrival import unpack_stream
from osiris_core.rooms import load

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DRIVERS = Path(__file__).parent / "data" / "worker_drivers.py"
RS = b"\x1e"
NAP = f"{10_000 + os.getpid()}.5"
"""How long the processes sleep that a step leaves behind: known by it, also when tests run side by side."""


def step(driver: str, step_id: str = "work", **more: Any) -> dict[str, Any]:
    """A step with one of the drivers of `data/worker_drivers.py`; `config` and the like are passed on."""
    if driver in ("Escape", "Stubborn"):
        more["config"] = {"nap": NAP, **more.get("config", {})}
    return {"id": step_id, "driver": f"worker_drivers:{driver}", **more}


def wait_for(condition: Callable[[], Any], bound_s: float = 30) -> Any:
    deadline_s = time.monotonic() + bound_s
    while not (found := condition()):
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def running(*argv: str) -> list[int]:
    """The pids of living processes with exactly this command line."""
    wanted = b"\0".join(word.encode() for word in argv) + b"\0"
    found = []
    for name in os.listdir("/proc"):
        try:
            if name.isdecimal() and Path(f"/proc/{name}/cmdline").read_bytes() == wanted and alive(int(name)):
                found.append(int(name))
        except OSError:
            continue
    return found


class WorkerProcess:
    """
    A package unpacked into `folder`, and a worker started on it with pipes. Close it in any case.

    Attributes:
        events: Every event that came, in the order of coming.
        strays: What came between frames, in lines.
    """

    def __init__(
        self,
        folder: Path,
        steps: list[dict[str, Any]],
        *,
        environment: Mapping[str, str] | None = None,
        timeout: float | None = None,
        python: str = sys.executable,
        options: tuple[str, ...] = (),
        preexec: Callable[[], None] | None = None,
        tamper: Callable[[Path], object] = lambda _: None,
        env: Mapping[str, str] | None = None,
        code: tuple[str, ...] = (str(DRIVERS),),
        manifest: Mapping[str, Any] | None = None,
        start: bool = True,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder / "worker"
        context = ExecutionContext(
            session_id="session", session_dir=str(folder / "host"), environment=dict(environment or {}), timeout=timeout
        )
        adapter = AdapterFactory.create("process", code=list(code))
        self.prepared = adapter.prepare({"pipeline": "wire", "steps": steps, **(manifest or {})}, context)
        bundle = load("remote.bundle")
        self.bundle = bundle.pack_bundle(self.prepared, code, folder / "package.tar", in_place={})
        unpack_stream([self.bundle.path.read_bytes()], self.folder)
        tamper(self.folder)
        argv = bundle.worker_argv(python, PurePosixPath(self.folder))
        self.argv = [argv[0], *options, *argv[1:]]
        self.events: list[dict[str, Any]] = []
        self.strays: list[bytes] = []
        self._next_id = 1
        self._messages: list[dict[str, Any]] = []
        self._answers: dict[Any, dict[str, Any]] = {}
        self._pending = b""
        self._env = {"PATH": os.environ["PATH"], "HOME": str(folder), **(env or {})}
        self._preexec = preexec
        if start:
            self.launch()

    def launch(self, *, with_stderr: bool = False) -> None:
        """Start it; its standard error is a pipe, or goes into a file."""
        with (self.folder.parent / "stderr").open("wb") as stderr:
            self.process = subprocess.Popen(
                self.argv,
                cwd=self.folder,
                env=self._env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE if with_stderr else stderr,
                bufsize=0,
                start_new_session=True,
                preexec_fn=self._preexec,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def stderr(self) -> str:
        return (self.folder.parent / "stderr").read_text()

    # The wire.

    def send_bytes(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)

    def send(self, message: Any) -> None:
        self.send_bytes(RS + json.dumps(message).encode() + b"\n")

    def message(self, timeout_s: float = 20) -> dict[str, Any]:
        """The next message that is no event."""
        deadline_s = time.monotonic() + timeout_s
        while not self._messages:
            assert self.take(deadline_s - time.monotonic()), f"nothing came: {self.stderr}"
        return self._messages.pop(0)

    def take(self, timeout_s: float) -> bool:
        """Take what there is; False when nothing came, or never will."""
        assert self.process.stdout is not None
        fd = self.process.stdout.fileno()
        if not select.select([fd], [], [], max(0, timeout_s))[0] or not (data := os.read(fd, 1 << 16)):
            return False
        *lines, self._pending = (self._pending + data).split(b"\n")
        for line in lines:
            before, found, text = line.partition(RS)
            if before or not found:
                self.strays.append(before)
            if not found:
                continue
            message = json.loads(text)
            if isinstance(message, dict) and message.get("method") == "event":
                self.events.append(message["params"])
            else:
                self._messages.append(message)
        return True

    def take_all(self, timeout_s: float = 30) -> None:
        """Take until the worker's end of the wire is closed."""
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            if not self.take(1) and self.process.poll() is not None:
                return
        raise AssertionError("the worker did not end")

    def ask(self, method: str, params: Any = None, timeout_s: float = 20) -> dict[str, Any]:
        """The whole answer to a request."""
        request_id, self._next_id = self._next_id, self._next_id + 1
        self.send({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params or {}})
        answer = self.message(timeout_s)
        assert answer["id"] == request_id
        return answer

    def hello(self, timeout_s: float = 20) -> dict[str, Any]:
        message = self.message(timeout_s)
        assert message["method"] == "hello"
        params: dict[str, Any] = message["params"]
        return params

    def start_params(self, **more: Any) -> dict[str, Any]:
        return {
            "session_id": "session",
            "attempt": 1,
            "package_sha256": self.bundle.package_sha256,
            "secrets": dict(self.prepared.secrets),
            **more,
        }

    def start(self, **more: Any) -> dict[str, Any]:
        """`hello`, then `start`; the result."""
        self.hello()
        answer = self.ask("start", self.start_params(**more))
        assert "result" in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def summary(self, timeout_s: float = 40) -> dict[str, Any]:
        """The result of `get_summary` once the run is over."""
        deadline_s = time.monotonic() + timeout_s
        while "error" in (answer := self.ask("get_summary")):
            assert answer["error"]["code"] == -32002, answer
            assert time.monotonic() < deadline_s, self.events[-3:]
            time.sleep(0.02)
        while len(self.events) < answer["result"]["last_seq"] and self.take(5):
            pass
        result: dict[str, Any] = answer["result"]
        return result

    def names(self) -> list[str]:
        return [event["event"] for event in self.events]

    def until(self, name: str, timeout_s: float = 30) -> None:
        """An event of that name came."""
        deadline_s = time.monotonic() + timeout_s
        while name not in self.names():
            assert self.take(deadline_s - time.monotonic()), (self.names(), self.stderr)

    # Its folder and its end.

    def journal(self) -> list[dict[str, Any]]:
        path = self.folder / "session" / "events.jsonl"
        text = path.read_text() if path.exists() else ""
        # The engine may be in the middle of a line.
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def hang_up(self) -> None:
        """Close the host's end of both pipes."""
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()

    def ended(self, timeout_s: float = 20) -> int:
        """Its exit code, once it ended."""
        return self.process.wait(timeout_s)

    def close(self) -> None:
        for pid in (self.pid, *_below(self.pid)):
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                continue
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()


def _below(pid: int) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        try:
            if name.isdecimal() and int(Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[1]) == pid:
                found += [int(name), *_below(int(name))]
        except OSError:
            continue
    return found


def files_with(folder: Path, secret: str) -> list[str]:
    """The files below a folder in which a text stands in clear."""
    found = []
    for path in folder.rglob("*"):
        try:
            if path.is_file() and secret.encode() in path.read_bytes():
                found.append(str(path))
        except OSError:
            continue
    return found
