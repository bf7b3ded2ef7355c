"""The settings that say which image containers are made of, and how it comes about."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from adapters.docker_engine.values import image_problem, refuse
from osiris_core.host_paths import HostPath
from osiris_core.secrets import REFERENCE
from remote.config import RemoteConfig
from remote.requirements import AptPackages, Requirements  # noqa: TC001 - pydantic needs them at run time

_PLATFORM = re.compile(r"linux/[a-z0-9]+(/v\d+)?")


class ImageSettings(RemoteConfig):
    """What `DockerConfig` adds to."""

    image: str | None = Field(
        default=None,
        min_length=1,
        description="A ready image, used as it is. For `worker` it must hold the worker's packages; without it one is "
        "built from `base_image` once, and reused.",
        examples=["registry.example.org/team/model:4"],
    )
    base_image: str = Field(
        default="python:3.12-slim", min_length=1, description="What the worker image is built from."
    )
    requirements: Requirements = Field(
        default=(), description="Further Python packages for the worker image.", examples=[["polars>=1.20"]]
    )
    apt_packages: AptPackages = Field(
        default=(), description="Further Debian packages for the worker image.", examples=[["libgomp1"]]
    )
    wheels_dir: Annotated[str | None, HostPath()] = Field(
        default=None, description="Install from the wheels in this folder only, without a network."
    )
    dockerfile: Annotated[str | None, HostPath(within="build_context")] = Field(
        default=None, description="Build the image from this Dockerfile. Built anew when its contents change."
    )
    build_context: Annotated[str | None, HostPath()] = Field(
        default=None, description="The folder that is sent to the build; the Dockerfile's own without it."
    )
    build_args: dict[str, str] = Field(
        default_factory=dict, description="Arguments of the build. No secrets: they stay in the image's history."
    )
    platform: str | None = Field(
        default=None, description="The platform of the image, where it has several.", examples=["linux/amd64"]
    )
    pull_policy: Literal["always", "missing", "never"] = Field(
        default="missing", description="When an image is fetched from its registry."
    )
    registry_auth: dict[Literal["username", "password"], str] | None = Field(
        default=None,
        description="Credentials of the registry, by the name of the variable that holds them.",
        examples=[{"username": "${REG_USER}", "password": "${REG_PASSWORD}"}],
    )

    @field_validator("image", "base_image")
    @classmethod
    def _is_image(cls, image: str | None) -> str | None:
        if image is not None:
            refuse([image_problem(image)])
        return image

    @field_validator("build_context")
    @classmethod
    def _context_is_folder(cls, folder: str | None) -> str | None:
        if folder is not None:
            path = Path(folder).expanduser()
            if not path.exists():
                raise ValueError(f"Build context does not exist: {folder}")
            if not path.is_dir():
                raise ValueError(f"Build context is not a directory: {folder}")
        return folder

    @field_validator("platform")
    @classmethod
    def _platform_is_linux(cls, platform: str | None) -> str | None:
        if platform is not None and not _PLATFORM.fullmatch(platform):
            raise ValueError(f"{platform!r} is no platform of Linux containers; write it as linux/amd64")
        return platform

    @field_validator("registry_auth")
    @classmethod
    def _password_by_name(cls, auth: dict[str, str] | None) -> dict[str, str] | None:
        if auth is not None:
            if set(auth) != {"username", "password"}:
                raise ValueError("give username and password")
            if not REFERENCE.fullmatch(auth["password"]):
                raise ValueError("write the password as ${NAME}: its value stays in that variable")
        return auth
