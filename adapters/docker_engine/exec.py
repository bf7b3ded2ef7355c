"""`engine: host`: one command of one step in a container of its own, instead of a child process."""

from __future__ import annotations

import math
import os
import secrets
import shutil
import signal
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.docker_engine.errors import EngineUnreachable, NotThere, translate
from adapters.docker_engine.handshake import RECEIVER, handshake
from adapters.docker_engine.labels import run_labels
from adapters.docker_engine.lending import lend
from adapters.docker_engine.removal import remove_container
from adapters.docker_engine.spec import SCRATCH, WORKSPACE_DIR, ContainerSpec, container_body
from adapters.docker_engine.stream import STDERR
from adapters.docker_engine.transport import AttachTransport, attach
from adapters.docker_engine.users import uid_gid
from osiris_core.drivers.command_output import OutputLog
from osiris_core.drivers.command_process import CANCEL_GRACE_S, FIRST_SAMPLE_S, SAMPLE_S, Finished
from osiris_core.memory_evidence import peak_rss_bytes
from remote.sandbox import SandboxError, TransportClosed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import PurePath

    from adapters.docker_engine.client import Client
    from adapters.docker_engine.config import DockerConfig
    from osiris_core.step_context import StepContext

KILLED = 137
LATE_S = 5.0
"""How long after an answer was lost what was asked for may still come."""
END_GRACE_S = 0.5
"""How long the engine may take to say that a command is over whose output has ended. It says so before that."""


@dataclass(frozen=True)
class CommandPlace:
    """
    Where the commands of one run are executed.

    `hides_values`: something in it is secret. `made`: the containers that are not removed yet.
    """

    client: Client
    config: DockerConfig
    image: str
    image_name: str
    network: str
    session_id: str
    session_dir: str
    hides_values: bool
    sees_processes: bool
    made: set[str] = field(default_factory=set)

    def clear(self) -> None:
        """What a step that was given up still has is gone on return; kept ones stay."""
        for name in () if self.config.keeps_container else list(self.made):
            remove_container(self.client, name)


class ContainerCommand:
    """
    One run of one command in a container that is made for it, with the step's folders at the same paths.

    On return of `run`, and when it raises, the container is gone, and every process of the command with it.
    """

    def __init__(
        self,
        ctx: StepContext,
        place: CommandPlace,
        *,
        follow: bool,
        keep: bool = True,
        workspace: Path | None = None,
    ) -> None:
        self._ctx = ctx
        self._place = place
        self._workspace = workspace
        self._client = place.client
        token = secrets.token_hex(8)
        self.name = f"osiris-{token}"
        self._labels = run_labels(place.session_id, place.session_dir, token, place.config.labels)
        self._logs = [OutputLog(name, -1, ctx, follow=follow, keep=keep) for name in ("stdout", "stderr")]
        self._peak_bytes = 0

    def run(self, argv: Sequence[str], cwd: PurePath, environment: Mapping[str, str], stdin: str | None) -> Finished:
        """
        Start `argv` and wait for its end; a cancel of the step ends it early. `exit_code` is as the engine says it.

        Raises:
            SandboxError: The engine refuses it, or was lost.
            ValueError: A secret run declares a variable that no shell can set.
            OSError: Its output cannot be written.
        """
        given = b"" if stdin is None else stdin.encode("utf-8", "surrogateescape")
        if self._place.hides_values:
            given = handshake(argv, environment, stdin=stdin is not None) + given
            argv, environment = RECEIVER, {}
        with ExitStack() as cleanup:
            self._create(cleanup, argv, cwd, environment, stdin=bool(given) or stdin is not None)
            transport = self._start(cleanup)
            if not self._ctx.cancelled:
                self._send(transport, given)
            self._pump(transport)
            code, out_of_memory = self._end()
            for log in self._logs:
                log.finish()
            tails = [log.tail() for log in self._logs]
            return Finished(code, self._peak_bytes, tails[0], tails[1], oom_kills=int(out_of_memory))

    def _create(
        self, cleanup: ExitStack, argv: Sequence[str], cwd: PurePath, environment: Mapping[str, str], *, stdin: bool
    ) -> None:
        scratch = self._scratch()
        cleanup.callback(shutil.rmtree, scratch, ignore_errors=True)
        spec = ContainerSpec(
            image=self._place.image,
            argv=argv,
            user=self._place.config.user or f"{os.getuid()}:{os.getgid()}",
            labels=self._labels,
            network=self._place.network,
            mounts=self._mounts(scratch),
            environment=environment,
            working_dir=self._place.config.working_dir or str(cwd),
            stdin=stdin,
            stdin_once=True,
        )
        self._place.made.add(self.name)
        lent = cleanup.enter_context(ExitStack())  # files are taken back when nobody is there who makes more of them
        cleanup.callback(self._remove)
        try:
            with translate("the command's container cannot be made"):
                body = container_body(spec, self._place.config)
                self._client.api.create_container_from_config(body, self.name, self._place.config.platform)
        except EngineUnreachable:
            self._wait_for_what_was_asked_for()
            raise
        if self._workspace is not None and self._place.config.user is not None:
            uid, gid = uid_gid(self._client, self.name, self._place.config.user)
            for folder in (self._workspace, scratch):
                lent.callback(lend(folder, uid, gid))

    def _wait_for_what_was_asked_for(self) -> None:
        """The answer may be all that was lost: what is made a moment later is to be there when it is removed."""
        deadline_s = time.monotonic() + LATE_S
        while time.monotonic() < deadline_s:
            try:
                with translate("the command's container cannot be looked at"):
                    self._client.api.inspect_container(self.name)
            except NotThere:
                time.sleep(0.1)
            except SandboxError:
                return
            else:
                return

    def _scratch(self) -> Path:
        """A folder of ours beside the step's own, for what programs put into /tmp: the image cannot be written to."""
        folder = self._ctx.work_dir.with_name(f"{self._ctx.work_dir.name}.tmp")
        folder.mkdir(mode=0o700)
        for place in (self._ctx.work_dir, self._ctx.artifacts_dir):
            if place.is_relative_to(SCRATCH):  # a mount within a mount: its place must be there, and ours to remove
                (folder / place.relative_to(SCRATCH)).mkdir(parents=True, exist_ok=True)
        return folder

    def _mounts(self, scratch: Path) -> list[dict[str, Any]]:
        volumes = self._place.config.mounts
        own = [(place, place) for place in (self._ctx.work_dir, self._ctx.artifacts_dir)]
        if self._workspace is not None:
            own.append((self._workspace, Path(WORKSPACE_DIR)))
        taken = {str(volume.container) for volume in volumes} | self._place.config.tmpfs.keys()
        if SCRATCH not in taken:
            own.append((scratch, Path(SCRATCH)))
        return [
            *({"Type": "bind", "Source": str(source), "Target": str(target)} for source, target in own),
            *(volume.to_mount() for volume in volumes),
        ]

    def _start(self, cleanup: ExitStack) -> AttachTransport:
        transport = attach(self._client, self.name, sink=self._take)
        cleanup.callback(transport.close)
        self._ctx.raise_if_cancelled()
        with translate("the command's container cannot be started"):
            self._client.api.start(self.name)
        self._ctx.on_cancel(self._stop)
        return transport

    def _take(self, stream: int, data: bytes) -> None:
        self._logs[1 if stream == STDERR else 0].feed(data)

    @staticmethod
    def _send(transport: AttachTransport, data: bytes) -> None:
        """However long the command takes to read it; what it writes meanwhile is taken."""
        with suppress(TransportClosed):  # it ended before it had read all, as it may
            transport.send(data, math.inf)
        transport.finish_sending()

    def _pump(self, transport: AttachTransport) -> None:
        pid = self._pid()
        pause_s = FIRST_SAMPLE_S
        sample_at_s = time.monotonic() + pause_s
        try:
            while True:
                transport.receive(pause_s)
                if time.monotonic() >= sample_at_s:
                    if pid:
                        self._peak_bytes = max(self._peak_bytes, peak_rss_bytes(pid))
                    pause_s = min(pause_s * 1.5, SAMPLE_S)
                    sample_at_s = time.monotonic() + pause_s
        except TransportClosed:
            return

    def _pid(self) -> int:
        """The container's first process as this machine numbers it; 0 when that cannot be told."""
        if not self._place.sees_processes:
            return 0
        try:
            with translate("the command's container cannot be looked at"):
                found = self._client.api.inspect_container(self.name)
            pid = int(found["State"]["Pid"])
            # An engine that is itself in a container numbers processes otherwise.
            return pid if pid and found["Id"] in Path(f"/proc/{pid}/cgroup").read_text() else 0
        except (SandboxError, OSError):
            return 0

    def _end(self) -> tuple[int, bool]:
        """
        The exit code, and whether it was for lack of memory. To be called when its output ended.

        Raises:
            SandboxError: It goes on: only the connection ended, and with it what was still to come.
        """
        deadline_s = time.monotonic() + END_GRACE_S
        while True:
            with translate("the command was lost with its container"):
                state = self._client.api.inspect_container(self.name)["State"]
            if not state["Running"]:
                code = int(state["ExitCode"])
                return code, code == KILLED and bool(state["OOMKilled"])
            if time.monotonic() > deadline_s:
                raise SandboxError(
                    "the connection to the command's container broke: its output was cut, and the command was ended"
                )
            time.sleep(0.02)

    def _stop(self) -> None:
        """Ask it to end, and kill all of it when it does not."""
        with translate("the command cannot be stopped"):
            self._client.api.stop(self.name, timeout=int(CANCEL_GRACE_S))

    def _remove(self) -> None:
        for log in self._logs:
            log.finish()
        if self._place.config.keeps_container:
            with translate("the command's container cannot be stopped"):
                self._client.api.stop(self.name, timeout=0)
        else:
            remove_container(self._client, self.name)
        self._place.made.discard(self.name)


def as_signal(code: int) -> int:
    """
    An exit code of the engine's as a child process would have it: negative for a signal.

    The engine says 128 + n for both a signal and an exit with that code; for signals that no program sends itself
    lightly the first is taken.
    """
    fatal = (
        signal.SIGKILL,
        signal.SIGSEGV,
        signal.SIGABRT,
        signal.SIGBUS,
        signal.SIGFPE,
        signal.SIGILL,
        signal.SIGTERM,
    )
    return 128 - code if code - 128 in fatal else code
