"""The settings of the Docker adapter."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, ValidationInfo, field_validator, model_validator

from adapters.docker_engine.image_settings import ImageSettings
from adapters.docker_engine.launcher import launcher, program_problem
from adapters.docker_engine.values import (
    capability_problem,
    container_path,
    find_dockerfile,
    label_problem,
    refuse,
    size_bytes,
    tmpfs_problem,
    variable_problem,
)
from adapters.docker_engine.volumes import Volume, parse_volumes
from osiris_core.config import named_variables
from osiris_core.errors import Problem
from osiris_core.host_paths import HostPath

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

__all__ = ["MIN_MEMORY_BYTES", "DockerConfig", "size_bytes"]

MIN_MEMORY_BYTES = 6 << 20
MAX_CPU = 128
DEFAULT_EXECUTABLE = "/usr/local/bin/run.sh"
_OF_WORKER_IMAGE = ("base_image", "requirements", "apt_packages", "wheels_dir")
_USER = re.compile(r"[a-z_][a-z0-9_-]*|\d+(:\d+)?", re.IGNORECASE)
_NETWORK = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")

Size = Annotated[int | str, Field(union_mode="left_to_right")]


class DockerConfig(ImageSettings):
    """
    Settings of the Docker adapter. The engine is the one that DOCKER_HOST names, or this machine's own.

    A model run takes `image` or `dockerfile`, and its command runs in a container of its own (`engine: host`, unless
    `worker` is written).
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "docker",
                    "image": "registry.example.org/team/model:4",
                    "cpu": 1,
                    "memory": "2g",
                    "timeout": 7200,
                },
                {"type": "docker", "base_image": "python:3.12-slim", "requirements": ["polars>=1.20"]},
            ]
        }
    )

    NAMED_FIELDS: ClassVar[frozenset[str]] = frozenset({"env_vars", "registry_auth"})

    type: Literal["docker"] = Field(default="docker", description="Selects this adapter.")
    engine: Literal["auto", "worker", "host"] = Field(
        default="auto",
        description="worker: the whole run happens in one container. host: the engine stays here, and each `command` "
        "step runs in a container of its own, whose image needs no Python; the image's entry point is not used. auto: "
        "worker for a manifest, host for a model run.",
    )

    executable: str = Field(
        default=DEFAULT_EXECUTABLE,
        description="What runs a model in its image: a program with its arguments, split as a shell would and seen by "
        "none. Where it is left as it is, a model's own command comes first.",
        examples=["/usr/local/bin/schism", "sh -c 'swan < INPUT > run.log'"],
    )
    mpiexec: str = Field(
        default="",
        description="What starts the executable of a model run several times: split as a shell would, with `-n CPU` "
        "added where it names no count.",
        examples=["mpiexec", "mpirun -np 8"],
    )
    cpu: float | None = Field(
        default=None,
        ge=0.01,
        le=MAX_CPU,
        allow_inf_nan=False,
        description="How many processors a container may use, and how many processes `mpiexec` starts.",
        examples=[2],
    )
    memory: Size | None = Field(
        default=None,
        description="How much memory a container may use, swap included; at least 6m.",
        examples=["512m", "2g"],
    )
    pids_limit: int = Field(default=1024, ge=8, description="How many processes and threads a container may have.")
    shm_size: Size | None = Field(default=None, description="Size of /dev/shm.", examples=["256m"])
    tmpfs: dict[str, Size] = Field(
        default_factory=dict,
        description="Folders in memory, by path, with their size. TMPDIR is on disk and needs none.",
        examples=[{"/tmp": "64m"}],  # noqa: S108 - a path inside the container
    )
    network: str = Field(
        default="auto",
        description="auto: none, unless a driver of the manifest needs one, then bridge. Else none, bridge, or the "
        "name of a network of the engine's.",
    )
    user: str | None = Field(
        default=None,
        description="Who the processes are: a name of the image's, uid, or uid:gid; root only when it is named here. "
        "Without it: who runs this, or 10001 instead of root; with `engine: host` who runs this. Another user of a "
        "model's workspace needs root here, to give its files away and take them back; `engine: host` runs the steps "
        "of a manifest as nobody else.",
        examples=["1000:1000"],
    )
    working_dir: str | None = Field(  # type: ignore[assignment] # a folder in the image, which is not here to be seen
        default=None,
        pattern="^/",
        description="With `engine: host`: the folder inside the image that commands start in, instead of the step's "
        "own (which is in OSIRIS_WORK_DIR, and where declared outputs are looked for) or a model's workspace.",
        examples=["/opt/model"],
    )
    read_only: bool = Field(default=True, description="Whether the image's own files cannot be written to.")
    cap_add: tuple[str, ...] = Field(
        default=(), description="Capabilities to grant; all others are taken away.", examples=[["NET_BIND_SERVICE"]]
    )
    volumes: Annotated[tuple[str, ...], HostPath(mount=True)] = Field(
        default=(),
        description="Folders and files of this machine, as host:container or host:container:ro|rw (rw without it). A "
        "relative host path starts at the current directory, in a configuration file at that file.",
        examples=[["/usr/share:/grids:ro"]],
    )
    mount_inputs: bool = Field(
        default=False,
        description="Mount the run's input files read-only instead of copying them. Needs an engine on this machine.",
    )
    labels: dict[str, str] = Field(
        default_factory=dict, description="Labels for container and volume.", examples=[{"team": "tides"}]
    )
    remove_container: bool = Field(
        default=True, description="false: leave the stopped container and its volume, as `keep` does."
    )

    @property
    def memory_bytes(self) -> int | None:
        return None if self.memory is None else size_bytes(self.memory)

    @property
    def mounts(self) -> list[Volume]:
        """`volumes`, parsed; relative paths start at the present directory."""
        return parse_volumes(self.volumes)

    @property
    def keeps_container(self) -> bool:
        return self.keep or not self.remove_container

    def model_run_problems(self) -> list[Problem]:
        if self.engine == "worker" or self.image is not None or self.dockerfile is not None:
            return []
        message = "Either 'image' or 'dockerfile' must be provided"
        hint = "or set engine: worker, for a command that an image with Python is enough for"
        return [Problem(message, key="docker", hint=hint)]

    def command_step(self, model_command: str | None) -> dict[str, Any]:
        """The `argv` or `shell` of the step that runs a model in its image."""
        if self.executable == DEFAULT_EXECUTABLE and model_command is not None:
            program = ["/bin/sh", "-c", model_command]
        else:
            program = shlex.split(self.executable)
        return {"argv": [*launcher(self.mpiexec, self.cpu), *program]}

    @property
    def runs_in_workspace(self) -> bool:
        return self.engine != "worker"

    def for_model_run(self) -> Self:
        plain = super().for_model_run()
        return plain.model_copy(update={"engine": "host"}) if self.runs_in_workspace else plain

    @classmethod
    def model_run_fields(cls) -> dict[str, str]:
        own = "the steps of a manifest have commands of their own"
        return {"executable": own, "mpiexec": own}

    @field_validator("memory", "shm_size")
    @classmethod
    def _is_size(cls, value: int | str | None) -> int | str | None:
        if value is not None and size_bytes(value) < MIN_MEMORY_BYTES:
            raise ValueError("at least 6m (6 MiB): the engine takes no less")
        return value

    @field_validator("tmpfs")
    @classmethod
    def _tmpfs_is_possible(cls, tmpfs: dict[str, int | str]) -> dict[str, int | str]:
        refuse(tmpfs_problem(path, size) for path, size in tmpfs.items())
        found = {str(container_path(path)): size for path, size in tmpfs.items()}
        if len(found) < len(tmpfs):
            raise ValueError("one folder is named twice")
        return found

    @field_validator("volumes")
    @classmethod
    def _volumes_are_possible(cls, volumes: tuple[str, ...]) -> tuple[str, ...]:
        refuse(volume.missing() for volume in parse_volumes(volumes))
        return volumes

    @field_validator("network")
    @classmethod
    def _network_isolates(cls, network: str) -> str:
        if network == "host" or network.startswith("container:"):
            raise ValueError(f"{network!r} gives up isolation; use bridge, or the name of a network of the engine's")
        if not _NETWORK.fullmatch(network):
            raise ValueError(f"{network!r} is no name of a network; use auto, none, bridge, or such a name")
        return network

    @field_validator("user")
    @classmethod
    def _is_user(cls, user: str | None) -> str | None:
        if user is not None and not _USER.fullmatch(user):
            raise ValueError(f"{user!r} is no user; give a name, uid or uid:gid")
        return user

    @field_validator("cap_add")
    @classmethod
    def _capabilities_are_named(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        refuse(map(capability_problem, names))
        return names

    @field_validator("env_vars")
    @classmethod
    def _variables_have_names(cls, variables: dict[str, str]) -> dict[str, str]:
        # Stricter than its base: a shell in the container may have to set them.
        if "" in variables:
            return named_variables(variables)
        refuse(variable_problem(name, value) for name, value in variables.items())
        return variables

    @field_validator("executable", "mpiexec")
    @classmethod
    def _is_program(cls, text: str, info: ValidationInfo) -> str:
        if text.strip() or info.field_name == "executable":
            refuse([program_problem(text)])
        return text.strip()

    @field_validator("labels")
    @classmethod
    def _labels_are_free(cls, labels: dict[str, str]) -> dict[str, str]:
        refuse(map(label_problem, labels))
        return labels

    @model_validator(mode="after")
    def _fields_fit(self) -> DockerConfig:
        refuse(self._misfits())
        return self

    def _misfits(self) -> Iterator[str]:
        """Settings that would have no effect beside others, or that contradict them."""
        if self.image is not None and self.dockerfile is not None:
            yield "Cannot specify both 'image' and 'dockerfile': give image or dockerfile, not both"
        if self.dockerfile is None and (self.build_context is not None or self.build_args):
            yield "build_context and build_args need a dockerfile"
        if self.dockerfile is not None and self.build_context is not None:
            file = find_dockerfile(self.dockerfile, self.build_context)
            if not file.is_file():
                yield f"Dockerfile {'is not a file' if file.exists() else 'does not exist'}: {file}"
        ready = [name for name in ("image", "dockerfile") if getattr(self, name) is not None]
        if self.engine == "host" and not ready:
            yield "engine: host runs commands in an image of yours; give image or dockerfile"
            ready = ["engine: host"]
        for name in _OF_WORKER_IMAGE if ready else ():
            if getattr(self, name) != type(self).model_fields[name].default:
                yield f"{name} is for the worker image; with {ready[0]} it is not built"
        if self.engine == "host" and self.mount_inputs:
            yield "mount_inputs is for engine: worker; with engine: host nothing is copied anyway"
        if self.engine == "worker" and self.working_dir is not None:
            yield "working_dir is for engine: host; in a worker each step has a directory of its own"
        for path in {str(volume.container) for volume in self.mounts} & self.tmpfs.keys():
            yield f"{path} is in volumes and in tmpfs"
