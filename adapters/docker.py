"""The Docker adapter: one container a run, or, with `engine: host`, one a command."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from adapters.docker_engine.check import engine_info, engine_problems, host_problems, site_of
from adapters.docker_engine.client import connect, is_local
from adapters.docker_engine.command import driver_finder, other_drivers
from adapters.docker_engine.config import DockerConfig
from adapters.docker_engine.exec import CommandPlace
from adapters.docker_engine.gc import find_leftovers, remove_commands
from adapters.docker_engine.sandbox import DockerSandbox
from adapters.docker_engine.spec import network_of
from adapters.docker_image.check import image_problems
from adapters.docker_image.ensure import WorkerImage, ensure_image, set_up
from adapters.docker_image.packages import with_packages
from osiris_core.adapter import ExecutionAdapter
from osiris_core.engines_here import EnginesHere
from osiris_core.errors import PreparationError, Problem
from osiris_core.sealing import DigestQueue
from remote.adapter import RemoteAdapter
from remote.sandbox import SandboxError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from adapters.docker_engine.client import Client
    from osiris_core.collection import Run
    from osiris_core.config import AdapterConfig
    from osiris_core.context import ExecutionContext
    from osiris_core.leftovers import Leftover
    from osiris_core.prepared import PreparedRun
    from osiris_core.records import RunSummary

__all__ = ["DockerAdapter", "DockerConfig"]


HOST_GAPS = {
    "python": "engine: host runs `command` steps only, in images that need no Python",
    "command-not-found": "only the container knows which programs it has, and says so in its own words",
}


class DockerAdapter(RemoteAdapter):
    """
    Runs manifests in containers of Docker Engine: not as root, without capabilities and, unless a driver needs one,
    without a network. What it makes is gone when `collect` returns, and marked with labels until then.
    """

    name = "docker"
    Config: ClassVar[type[AdapterConfig]] = DockerConfig
    example: ClassVar[str] = """\
type: docker
base_image: python:3.12-slim
memory: 2g
cpu: 2
"""
    config: DockerConfig

    def __init__(self, config: AdapterConfig | None = None) -> None:
        super().__init__(config)
        self._clients: dict[str, Client] = {}
        self._digests: dict[str, DigestQueue] = {}
        self._engines = EnginesHere()
        self._places: dict[str, CommandPlace] = {}
        self._sites: dict[str, str | None] = {}

    @property
    def known_gaps(self) -> Mapping[str, str]:
        return HOST_GAPS if self.config.engine == "host" else {}

    @classmethod
    def setup(cls, config: AdapterConfig, progress: Callable[[str], None]) -> str | None:
        """Make the image beforehand; says what was made, None when nothing was to be done."""
        assert isinstance(config, DockerConfig)
        return set_up(config, progress)

    def unusable(self) -> str | None:
        try:
            connect().close()
        except SandboxError as exc:
            return str(exc)
        return None

    def leftovers(self, session_dirs: Iterable[Path]) -> list[Leftover]:  # noqa: ARG002 - labels know them
        with closing(connect()) as client:
            return find_leftovers(client)

    def check(self, prepared: PreparedRun, context: ExecutionContext) -> None:
        problems: list[Problem] = []
        if self.config.engine == "host":
            problems += other_drivers(prepared.steps)
            ExecutionAdapter.check(self, prepared, context)
        else:
            try:
                super().check(prepared, context)
            except PreparationError as exc:
                problems += exc.problems
        try:
            with closing(connect()) as client:
                info = engine_info(client)
                self._sites[context.session_dir] = site_of(info)
                problems += engine_problems(client, self.config, info)
                problems += host_problems(client, self.config, prepared)
                found = image_problems(client, self.config, {**os.environ, **context.environment})
                problems += [replace(problem, key=f"docker.{problem.key}") for problem in found]
        except SandboxError as exc:
            problems.append(Problem(str(exc), key="docker"))
        if problems:
            raise PreparationError(problems)

    def make_sandbox(self, run: Run, context: ExecutionContext, token: str) -> DockerSandbox:
        client = self._connect(context)
        image = self._image(client, run, context)
        inputs = [file.source for file in run.prepared.input_files] if self.config.mount_inputs else []
        if inputs:  # packing would have hashed them
            self._digests[context.session_dir] = DigestQueue(run.prepared.input_files)
        return DockerSandbox(
            client,
            self.config,
            image.image_id,
            image.python,
            token=token,
            session_id=context.session_id,
            session_dir=context.session_dir,
            image_name=image.tag,
            network=self._network(run),
            inputs=inputs,
            site=self._site(client, context),
        )

    def _site(self, client: Client, context: ExecutionContext) -> str | None:
        """Which engine it is: as it said in `prepare`, where that is known, as it takes its time to answer."""
        if context.session_dir in self._sites:
            return self._sites.pop(context.session_dir)
        return site_of(engine_info(client))

    @property
    def outlives_controller(self) -> bool:
        return self.config.engine != "host"

    def start(self, run: Run, context: ExecutionContext) -> RunSummary:
        if self.config.engine != "host":
            return super().start(run, context)
        place = self._command_place(run, context)
        return self._engines.run(run, context, driver_finder(place, run.prepared.environment))

    def _command_place(self, run: Run, context: ExecutionContext) -> CommandPlace:
        assert run.session is not None
        run.session.record(commands_elsewhere=True)
        client = self._connect(context)
        image = self._image(client, run, context)
        place = self._places[context.session_dir] = CommandPlace(
            client=client,
            config=self.config,
            image=image.image_id,
            image_name=image.tag,
            network=self._network(run),
            session_id=context.session_id,
            session_dir=context.session_dir,
            hides_values=bool(run.prepared.secret_names),
            sees_processes=is_local(client),
        )
        return place

    def abandon(self, run: Run, context: ExecutionContext, recorded: Mapping[str, Any]) -> None:
        if self.config.engine != "host":
            return super().abandon(run, context, recorded)
        with closing(connect()) as client:
            return remove_commands(client, context.session_dir)

    def stop(self, reason: str) -> None:
        super().stop(reason)
        self._engines.cancel(reason)

    def release(self, run: Run) -> None:
        session_dir = str(run.session.layout.root) if run.session is not None else ""
        self._sites.pop(session_dir, None)
        client = self._clients.pop(session_dir, None)
        digests = self._digests.pop(session_dir, None)
        if digests is not None:
            digests.stop() if run.error is not None else digests.wait()
        place = self._places.pop(session_dir, None)
        try:
            super().release(run)
            if place is not None:
                place.clear()
        except SandboxError as exc:  # what came home is home all the same
            run.left_behind = str(exc)
            self._say(run, str(exc), "warning")
        finally:
            if client is not None:
                client.close()

    def _connect(self, context: ExecutionContext) -> Client:
        client = self._clients[context.session_dir] = connect()
        return client

    def _image(self, client: Client, run: Run, context: ExecutionContext) -> WorkerImage:
        if run.attached:  # the container is there, whatever has become of its image
            used = run.extra.get("image", {})
            return WorkerImage(used.get("id", ""), used.get("name", ""), python="", built=False, build_ms=0.0)
        image = ensure_image(
            client,
            with_packages(self.config, (step["driver"] for step in run.prepared.manifest["steps"])),
            lambda line: self._say(run, line, "info"),
            values={**os.environ, **context.environment},
            cancelled=lambda: run.cancel_reason is not None,
        )
        run.extra["image"] = {"name": image.tag, "id": image.image_id}
        return image

    def _network(self, run: Run) -> str:
        return network_of(self.config, (step["driver"] for step in run.prepared.manifest["steps"]))

    @staticmethod
    def _say(run: Run, message: str, level: str) -> None:
        if run.host is not None:
            run.host.emit("log", level=level, message=message, stream="docker")
