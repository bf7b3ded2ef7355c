"""The settings of the E2B adapter."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, SecretStr, field_validator, model_validator

from adapters.e2b_cloud.metadata import PREFIX
from adapters.e2b_cloud.network_config import NetworkConfig, refuse
from osiris_core.command_settings import CommandSettings
from osiris_core.secrets import REFERENCE
from remote.config import RemoteConfig
from remote.requirements import AptPackages, Requirements  # noqa: TC001 - pydantic needs them at run time

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["E2BConfig", "NetworkConfig"]

LONGEST_LIFETIME_S = 86_400
_DOMAIN = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:\d+)?")
_TEMPLATE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*(:[A-Za-z0-9._-]+)?")
_USER = re.compile(r"[a-z_][a-z0-9_-]*", re.IGNORECASE)
_OF_OWN_TEMPLATE = ("requirements", "apt_packages", "python_version")


class E2BConfig(CommandSettings, RemoteConfig):
    """Settings of the E2B adapter."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"type": "e2b", "cpu": 4, "memory_mb": 8192, "timeout": 1800},
                {"type": "e2b", "template": "my-team/pipelines:4", "command": "python3 run_model.py"},
            ]
        }
    )

    NAMED_FIELDS: ClassVar[frozenset[str]] = frozenset({"env_vars", "api_key"})

    type: Literal["e2b"] = Field(default="e2b", description="Selects this adapter.")

    api_key: SecretStr | None = Field(
        default=None,
        description="The account's key, or ${NAME} for the variable that holds it; E2B_API_KEY without it. It is shown "
        "nowhere and does not enter the sandbox.",
        examples=["${E2B_API_KEY}"],
    )
    domain: str | None = Field(
        default=None,
        description="Where E2B is, when it is not E2B's own cloud; E2B_DOMAIN without it.",
        examples=["e2b.example.org"],
    )
    api_url: str | None = Field(
        default=None,
        description="The control plane's address, when it does not follow from the domain.",
        examples=["https://api.e2b.example.org"],
    )
    sandbox_url: str | None = Field(
        default=None, description="The address of sandboxes, when it does not follow from the domain."
    )

    template: str | None = Field(
        default=None,
        description="A ready template, as name or name:tag, with the worker's packages in it. Without it the one that "
        "`osiris adapters setup e2b` builds of the next four settings; when there is none either, packages are "
        "installed in each sandbox anew.",
        examples=["my-team/pipelines:4"],
    )
    requirements: Requirements = Field(default=(), description="Further Python packages.", examples=[["polars>=1.20"]])
    apt_packages: AptPackages = Field(
        default=(), description="Further Debian packages, in the template.", examples=[["libgomp1"]]
    )
    python_version: str | None = Field(
        default=None,
        pattern=r"^3\.(1[1-9]|[2-9]\d)$",
        description="The Python of the template; the one that this runs in without it.",
        examples=["3.12"],
    )
    cpu: int | None = Field(
        default=None, ge=1, le=64, description="How many processors the sandbox has. Its template gives them."
    )
    memory_mb: int | None = Field(
        default=None, ge=128, multiple_of=2, description="How much memory the sandbox has. Its template gives it."
    )

    max_lifetime_s: int = Field(
        default=LONGEST_LIFETIME_S,
        ge=60,
        description="How long the account's plan lets a sandbox live: 3600 (Hobby), 86400 (Pro).",
    )
    on_timeout: Literal["kill", "pause"] = Field(
        default="kill",
        description="What becomes of a sandbox at the end of its life, or when it is kept: killed, or paused.",
    )
    metadata: dict[str, str] = Field(
        default_factory=dict, description="Metadata of the sandbox, beside our own.", examples=[{"team": "tides"}]
    )
    network: NetworkConfig = Field(default=NetworkConfig(), description="What a sandbox may reach.")
    user: str | None = Field(
        default=None, description="Who the worker is in the sandbox; the template's own user without it."
    )
    remote_dir: str | None = Field(
        default=None,
        pattern="^/",
        description="The folder in the sandbox that a run's own folder is made in; the user's home without it.",
    )
    request_timeout_s: float = Field(
        default=60.0,
        gt=0,
        description="How long E2B may take to answer a request, or may be silent in the midst of a transfer.",
    )

    @property
    def is_elsewhere(self) -> bool:
        """Whether the far end is not E2B's own cloud."""
        return any((self.domain, self.api_url, self.sandbox_url))

    @field_validator("api_key")
    @classmethod
    def _key_is_one(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None:
            text = key.get_secret_value()
            if not text or text != text.strip() or not text.isascii() or any(char.isspace() for char in text):
                raise ValueError("this is no key; copy it from the dashboard, or write ${NAME}")
            if "${" in text and not REFERENCE.fullmatch(text):
                raise ValueError("write the key, or ${NAME} and nothing else")
        return key

    @field_validator("api_url", "sandbox_url")
    @classmethod
    def _is_address(cls, url: str | None) -> str | None:
        if url is not None:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError("an address begins with http:// or https://")
            if parts.username or parts.password:
                raise ValueError("an address has no user or password in it")
        return url

    @field_validator("domain")
    @classmethod
    def _is_domain(cls, domain: str | None) -> str | None:
        if domain is not None and not _DOMAIN.fullmatch(domain):
            raise ValueError(f"{domain!r} is no domain; write it without https://, as in e2b.example.org")
        return domain

    @field_validator("template")
    @classmethod
    def _is_template(cls, name: str | None) -> str | None:
        if name is not None and not _TEMPLATE.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a template; write name, name:tag or its id")
        return name

    @field_validator("user")
    @classmethod
    def _is_user(cls, user: str | None) -> str | None:
        if user is not None and not _USER.fullmatch(user):
            raise ValueError(f"{user!r} is no name of a user")
        return user

    @field_validator("metadata")
    @classmethod
    def _metadata_is_free(cls, metadata: dict[str, str]) -> dict[str, str]:
        refuse(f"{name!r} is ours; take another name" for name in metadata if not name or name.startswith(PREFIX))
        return metadata

    @model_validator(mode="after")
    def _fields_fit(self) -> E2BConfig:
        refuse(self._misfits())
        return self

    def _misfits(self) -> Iterator[str]:
        """Settings that would have no effect beside others, or that contradict them."""
        for name in _OF_OWN_TEMPLATE if self.template is not None else ():
            if getattr(self, name) != type(self).model_fields[name].default:
                yield f"{name} is for the template that is built here; with template it is not"
        if self.manifest_timeout_s is not None and self.manifest_timeout_s > self.max_lifetime_s:
            yield f"timeout is more than the {self.max_lifetime_s} s of max_lifetime_s"
