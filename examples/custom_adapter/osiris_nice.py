"""An adapter of one's own: the steps of a run in a worker that gives way to everybody else on this machine."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import Field

from osiris_core.archive import pack_stream
from osiris_core.arrival import unpack_stream
from osiris_core.backends import Fate, FileTransport, FolderFiles, PipeTransport, RemoteAdapter, RemoteConfig
from osiris_core.leftovers import Leftover
from osiris_core.process_scan import has_marker, process_entries
from osiris_core.session import SessionLayout, is_owned

PREFIX, MARKER = "nice-", "OSIRIS_NICE_TOKEN"


class NiceConfig(RemoteConfig):
    type: Literal["nice"] = Field(default="nice", description="Selects this adapter.")
    niceness: int = Field(default=10, ge=0, le=19, description="How much its steps give way to others.")


class NiceAdapter(RemoteAdapter):
    """Runs steps in a process of low priority."""

    name = "nice"
    Config = NiceConfig

    def make_sandbox(self, run, context, token):
        return NiceSandbox(Path(context.session_dir) / f"{PREFIX}{token}", self.config.niceness)

    def leftovers(self, session_dirs):
        nobodys = [folder for folder in session_dirs if not is_owned(SessionLayout(folder))]
        return [NiceSandbox(path, 0).leftover() for folder in nobodys for path in folder.glob(f"{PREFIX}*")]


class NiceSandbox:
    """A folder that is named by the run's token, and the processes that have it in their environment."""

    python, reads_in_place, process = sys.executable, {}, None

    def __init__(self, folder, niceness):
        self.folder, self.work_dir, self.niceness = folder, PurePosixPath(folder), niceness

    def start(self):
        self.folder.mkdir(mode=0o700)
        return self.folder.name

    def put(self, archive):
        unpack_stream([archive.read_bytes()], self.folder)

    def open(self, argv):
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder), MARKER: self.folder.name}
        command, pipe = ["nice", "-n", str(self.niceness), *argv], subprocess.PIPE
        self.process = subprocess.Popen(
            command, bufsize=0, stdin=pipe, stdout=pipe, stderr=pipe, cwd=self.folder, env=environment, process_group=0
        )
        return PipeTransport(self.process)

    def reconnect(self):
        return FileTransport(FolderFiles(self.folder), lambda: bool(self.pids()))

    def adopt(self, native_id):
        return self.folder.is_dir()

    def get(self, folder):
        return pack_stream(self.folder / folder, folder)

    def fate(self):
        return Fate(running=bool(self.pids()), message="the nice worker has ended")

    def stop(self, *, keep=False):
        for number in (signal.SIGTERM, signal.SIGKILL):  # asked first: it ends what is below it
            for pid in self.pids():
                with suppress(OSError):
                    os.kill(pid, number)
            deadline_s = time.monotonic() + 5
            while self.pids() and time.monotonic() < deadline_s:
                time.sleep(0.02)
        if self.process is not None:
            self.process.wait()
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)
        return f"its folder was kept: {self.folder}" if keep else ""

    def pids(self):
        marker = f"{MARKER}={self.folder.name}".encode()
        return [entry.pid for entry in process_entries() if entry.alive and has_marker(entry.pid, marker)]

    def leftover(self):
        session_dir, runs = self.folder.parent, bool(self.pids())
        return Leftover("nice", "worker", self.folder.name, session_dir.name, str(session_dir), "", "", runs, self.stop)
