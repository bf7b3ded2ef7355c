"""The process adapter: a worker as a child process. The whole remote path, with no container and no account."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path, PurePosixPath
from shlex import quote
from time import monotonic, sleep
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import ConfigDict, Field

from adapters.process_worker.adopted import END_LIMIT_S, AdoptedWorker
from adapters.process_worker.gc import GRACE_S, MARKER, PREFIX, end_processes, find_leftovers
from osiris_core.archive import pack_stream
from osiris_core.arrival import unpack_stream
from osiris_core.command_settings import CommandSettings
from osiris_core.context import SURROUNDINGS
from osiris_core.process_tree import ProcessTree
from remote.adapter import RemoteAdapter
from remote.config import RemoteConfig
from remote.file_transport import FileTransport
from remote.pipe_transport import FolderFiles, PipeTransport
from remote.sandbox import Fate, SandboxError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from osiris_core.collection import Run
    from osiris_core.config import AdapterConfig
    from osiris_core.context import ExecutionContext
    from osiris_core.leftovers import Leftover
    from remote.sandbox import Sandbox, Transport


class ProcessConfig(CommandSettings, RemoteConfig):
    """Settings of the process adapter."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"type": "process", "command": "python3 run_model.py", "timeout": 7200},
            ]
        }
    )

    type: Literal["process"] = Field(default="process", description="Selects this adapter.")
    python: str = Field(
        default=sys.executable,
        description="The interpreter of the worker: one with the packages that your drivers need.",
    )


class ProcessAdapter(RemoteAdapter):
    """Runs steps in a child process with a supervisor of its own: nothing of a run is left when that ends."""

    name = "process"
    Config: ClassVar[type[AdapterConfig]] = ProcessConfig

    def leftovers(self, session_dirs: Iterable[Path]) -> list[Leftover]:
        return list(find_leftovers(session_dirs))

    def make_sandbox(self, run: Run, context: ExecutionContext, token: str) -> Sandbox:  # noqa: ARG002 - the contract's
        assert isinstance(self.config, ProcessConfig)
        assert run.session is not None
        return ProcessSandbox(self.config.python, run.session.layout.root / f"{PREFIX}{token[:8]}", token)


class ProcessSandbox:
    """A folder and a process tree. See `remote.sandbox.Sandbox`."""

    elsewhere = False

    def __init__(self, python: str, folder: Path, token: str) -> None:
        self.python = python
        self.work_dir = PurePosixPath(folder)
        self.reads_in_place: dict[str, str] = {}
        self._folder = folder
        self._token = token
        self._process: subprocess.Popen[bytes] | None = None
        self._tree: ProcessTree | None = None
        self._adopted: AdoptedWorker | None = None

    def start(self) -> str:
        try:
            self._folder.mkdir(mode=0o700)
        except OSError as exc:
            raise SandboxError(f"the worker's folder cannot be made: {exc}") from exc
        return self._folder.name

    def put(self, archive: Path) -> None:
        with archive.open("rb") as file:
            unpack_stream(iter(lambda: file.read(1 << 20), b""), self._folder)

    def open(self, argv: Sequence[str]) -> Transport:
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": os.environ.get("HOME", "/"),
            **SURROUNDINGS,
            MARKER: self._token,
        }
        try:
            self._process = subprocess.Popen(
                argv,
                cwd=self._folder,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
            )
        except OSError as exc:
            raise SandboxError(f"the worker cannot be started with {self.python}: {exc.strerror}") from exc
        self._tree = ProcessTree(self._process.pid, f"{MARKER}={self._token}")
        return PipeTransport(self._process)

    def adopt(self, native_id: str | None) -> bool:
        if native_id is not None:
            self._folder = self._folder.with_name(Path(native_id).name)
            self.work_dir = PurePosixPath(self._folder)
        if not self._folder.is_dir():
            return False
        self._adopted = AdoptedWorker(self._token)
        return True

    def reconnect(self) -> Transport:
        adopted = self._adopted
        is_alive = (lambda: self._how_it_ended(0) is None) if adopted is None else lambda: adopted.is_alive
        return FileTransport(FolderFiles(self._folder), is_alive)

    def get(self, folder: str) -> Iterator[bytes]:
        return pack_stream(self._folder / folder, folder)

    def fate(self) -> Fate:
        if self._adopted is not None:
            return self._adopted.fate()
        if self._process is None:
            return Fate(running=False, message="the worker was not started")
        code = self._how_it_ended(END_LIMIT_S)
        if code is None:
            return Fate(running=True)
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return Fate(running=False, exit_code=code, message=f"the worker process {how}")

    def _how_it_ended(self, timeout_s: float) -> int | None:
        """Its exit code, or minus its signal; None while it runs. Not reaped: `stop` needs its pid to be its own."""
        assert self._process is not None
        deadline_s = monotonic() + timeout_s
        while self._process.returncode is None:
            try:
                found = os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:  # this process ignores SIGCHLD: the kernel has reaped it already
                return 0
            if found is not None:
                return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
            if monotonic() >= deadline_s:
                return None
            sleep(0.005)
        return self._process.returncode

    def stop(self, *, keep: bool = False) -> str:
        if self._adopted is not None:
            end_processes(self._token)
        if self._process is not None and self._tree is not None:
            with suppress(OSError):
                self._process.terminate()  # the supervisor ends what is below it better than anybody
            self._how_it_ended(GRACE_S)
            self._tree.terminate(0)
            self._tree.close()
            self._process.wait()
        if keep:
            root = quote(str(self._folder.parent.parent))
            return f"the worker's folder was kept: {self._folder} (osiris runs gc --root {root} removes it)"
        shutil.rmtree(self._folder, ignore_errors=True)
        return ""
