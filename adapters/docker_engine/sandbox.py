"""A `Sandbox` that is one container with one volume, both made for one run."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

from docker import errors as vendor  # type: ignore[import-untyped, unused-ignore]

from adapters.docker_engine.archive import owned_archive
from adapters.docker_engine.client import is_local, knock
from adapters.docker_engine.errors import EngineUnreachable, NotThere, translate
from adapters.docker_engine.labels import run_labels
from adapters.docker_engine.removal import remove_container, remove_volume
from adapters.docker_engine.spec import (
    INPUTS_DIR,
    SCRATCH,
    WORK_DIR,
    ContainerSpec,
    container_body,
    worker_environment,
    worker_user,
)
from adapters.docker_engine.transport import AttachTransport, attach
from adapters.docker_engine.users import uid_gid
from adapters.docker_engine.volumes import VOLUME_DIR
from osiris_core.errors import FailureClass
from remote.bundle import worker_argv
from remote.sandbox import Fate, SandboxError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from adapters.docker_engine.client import Client
    from adapters.docker_engine.config import DockerConfig

GET_BYTES = 2 << 20
NOTHING = bytes(1024)
"""A tar of no file: the folder was never made."""
KILLED = 137
CANNOT_EXECUTE, NOT_FOUND = 126, 127
RESTART_PATIENCE_S = 20.0
"""How long an engine that does not answer may take to come back: containers outlive its restart with `live-restore`."""
END_PATIENCE_S = 1.0
"""How long an end may take to be reported after the output ended."""


class DockerSandbox:
    """
    One run's container. It may be asked for its end, and stopped, from any thread.

    Args:
        client: A connection to the engine; it stays the caller's.
        config: What is allowed and limited.
        image: The image, by id; `image_name` for people.
        python: The interpreter in it.
        token: Marks what is made, and names it.
        session_id: Names the run in the labels.
        session_dir: Where the run is written down; in the labels too.
        network: The network's name, `none` for none.
        inputs: Files of this machine to mount read-only.
        site: Which engine it is.
    """

    def __init__(
        self,
        client: Client,
        config: DockerConfig,
        image: str,
        python: str,
        *,
        token: str,
        session_id: str,
        session_dir: str,
        image_name: str = "",
        network: str = "none",
        inputs: Iterable[str] = (),
        site: str | None = None,
    ) -> None:
        self.work_dir = WORK_DIR
        self.site = site
        self.elsewhere = not is_local(client)
        self.python = python
        self.name = f"osiris-{token}"
        self._scratch = f"{self.name}-tmp"
        self.reads_in_place = {
            path: str(INPUTS_DIR / str(number) / path.rpartition("/")[2])
            for number, path in enumerate(dict.fromkeys(inputs))
        }
        self._client = client
        self._config = config
        self._image, self._image_name = image, image_name or image
        self._network = network
        self._labels = run_labels(session_id, session_dir, token, config.labels)
        self._lock = threading.Lock()
        self._argv: list[str] = []
        self._made = self._stopped = False
        self._transport: AttachTransport | None = None

    def start(self) -> str:
        """Make volume and container; nothing runs in it yet. The native id is the container's name."""
        self._create(worker_argv(self.python, self.work_dir))
        return self.name

    def _create(self, argv: Sequence[str]) -> None:
        spec = ContainerSpec(
            image=self._image,
            argv=argv,
            user=worker_user(self._config),
            labels=self._labels,
            network=self._network,
            mounts=self._mounts(),
            environment=worker_environment(),
        )
        with self._lock:
            if self._stopped:
                raise SandboxError("the run was stopped", failure_class=FailureClass.CANCELLED)
            self._made = True  # from here on there may be something to remove
            with translate("the container cannot be made"):
                body = container_body(spec, self._config)
                self._client.api.create_container_from_config(body, self.name, self._config.platform)
        self._argv = list(argv)

    def _mounts(self) -> list[dict[str, Any]]:
        options = {"NoCopy": True, "Labels": self._labels}
        own = {"Type": "volume", "Source": self.name, "Target": str(VOLUME_DIR), "VolumeOptions": options}
        inputs = [
            {"Type": "bind", "Source": source, "Target": target, "ReadOnly": True}
            for source, target in self.reads_in_place.items()
        ]
        mounts = [own, *(volume.to_mount() for volume in self._config.mounts), *inputs]
        taken = {mount["Target"] for mount in mounts} | self._config.tmpfs.keys()
        if self._config.read_only and SCRATCH not in taken:
            # Filled from the image's own, and so with its permissions: anybody may write to it.
            options = {"NoCopy": False, "Labels": self._labels}
            mounts.append({"Type": "volume", "Source": self._scratch, "Target": SCRATCH, "VolumeOptions": options})
        return mounts

    def put(self, archive: Path) -> None:
        with translate("files cannot be sent to the container"):
            uid, gid = uid_gid(self._client, self.name, worker_user(self._config))
            with closing(owned_archive(archive, uid, gid)) as stream:
                self._client.api.put_archive(self.name, str(VOLUME_DIR), stream)

    def open(self, argv: Sequence[str]) -> AttachTransport:
        if list(argv) != self._argv:  # a container's command is decided when it is made; its volume stays
            remove_container(self._client, self.name)
            self._create(argv)
        # Attached before it runs, so that not a byte is lost.
        self._transport = attach(self._client, self.name)
        try:
            with translate("the container cannot be started"):
                self._client.api.start(self.name)
        except BaseException:
            self._transport.close()
            raise
        return self._transport

    def adopt(self, native_id: str | None) -> bool:
        with self._lock:
            self._made = True  # a volume may be there without its container
        try:
            found = self._looked_at(native_id or self.name)
        except NotThere:
            return False
        self._argv = list(found["Config"]["Entrypoint"] or [""])
        return True

    def reconnect(self) -> AttachTransport:
        if self._transport is not None:
            self._transport.close()
        deadline_s = time.monotonic() + RESTART_PATIENCE_S
        while True:
            try:
                state = self._looked_at(self.name)["State"]
                if not state["Running"]:  # the engine would let us wait for it
                    raise SandboxError(f"container {self.name} does not run")
                self._transport = attach(self._client, self.name)
                return self._transport
            except EngineUnreachable:
                if time.monotonic() >= deadline_s:
                    raise
            time.sleep(0.2)

    def get(self, folder: str) -> Iterator[bytes]:
        with translate(f"{folder} cannot be fetched from the container"):
            try:
                stream, _ = self._client.api.get_archive(self.name, str(WORK_DIR / folder), chunk_size=GET_BYTES)
            except vendor.NotFound:
                self._client.api.inspect_container(self.name)  # raises if it is the container that is not there
                stream = [NOTHING]
            yield from stream

    def fate(self) -> Fate:
        deadline_s = time.monotonic() + END_PATIENCE_S
        while True:
            try:
                state = self._looked_at(self.name)["State"]
            except EngineUnreachable as exc:
                return Fate(running=True, message=str(exc))
            except NotThere:
                return Fate(running=False, message=f"container {self.name} is gone: somebody removed it")
            if not state["Running"] or time.monotonic() >= deadline_s:
                return self._fate_of(state)
            time.sleep(0.02)

    def _looked_at(self, name: str) -> dict[str, Any]:
        with translate("the container cannot be looked at"):
            knock()
            found: dict[str, Any] = self._client.api.inspect_container(name)
            return found

    def _fate_of(self, state: dict[str, Any]) -> Fate:
        facts = {"container": self.name, "oom_killed": bool(state["OOMKilled"])}
        if state["Running"]:
            return Fate(running=True, facts=facts)
        code = int(state["ExitCode"])
        # OOMKilled alone says only that the kernel killed something in there, at some time.
        out_of_memory = code == KILLED and bool(state["OOMKilled"])
        message = f"the container exited with code {code}"
        if out_of_memory:
            message = "the worker was killed by the kernel: the container's memory limit was reached (raise memory)"
        elif code == KILLED:
            message = "the worker was killed by SIGKILL"
        elif code in (CANNOT_EXECUTE, NOT_FOUND):
            message = f"image {self._image_name} cannot run {self._argv[0]}: {self._last_words()}"
        elif state.get("Error"):
            message += f": {state['Error']}"
        return Fate(running=False, exit_code=code, out_of_memory=out_of_memory, message=message, facts=facts)

    def _last_words(self) -> str:
        words = self._transport.stderr_tail().strip() if self._transport is not None else ""
        return words.rpartition("\n")[2] or "it is not in it; set another image or base_image"

    def stop(self, *, keep: bool = False) -> str:
        """
        No process is alive, and container and volume are gone, on return; kept ones are only stopped.

        Raises:
            SandboxError: Not within half a minute: the engine does not answer. `osiris runs gc` removes them later.
        """
        with self._lock:  # whatever is being made is there, or refused, before it is removed
            self._stopped = True
            if not self._made:
                return ""
        if self._transport is not None:
            self._transport.cut()  # one that is full and that nobody reads would keep the engine from removing it
        if keep or self._config.keeps_container:
            with translate(f"container {self.name} cannot be stopped"):
                self._kill()
            return (
                f"container {self.name} was kept: docker cp {self.name}:{WORK_DIR} . copies its work directory, and "
                "osiris runs gc removes it"
            )
        remove_container(self._client, self.name)
        for volume in (self.name, self._scratch):
            remove_volume(self._client, volume)
        return ""

    def _kill(self) -> None:
        try:
            self._client.api.kill(self.name)
        except vendor.NotFound:
            return
        except vendor.APIError as exc:
            if exc.status_code != 409:  # 409: it is not running
                raise
        self._client.api.wait(self.name, timeout=END_PATIENCE_S * 10)
