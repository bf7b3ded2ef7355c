"""The settings of a sandbox's network."""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from osiris_core.secrets import REFERENCE

if TYPE_CHECKING:
    from collections.abc import Iterable

_HOST = re.compile(r"(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*")


def refuse(problems: Iterable[str]) -> None:
    """Raises ValueError with every problem, when there are any."""
    if found := list(problems):
        raise ValueError("; ".join(found))


def is_address(text: str) -> bool:
    """Whether it is an IP address, or a range of them."""
    try:
        ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def split_port(text: str) -> tuple[str, int | None]:
    """The host and the port of `host:port`; the port is None where there is none."""
    host, colon, port = text.rpartition(":")
    if colon and port.isdigit() and ":" not in host:
        return host, int(port)
    return text, None


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class EgressProxyConfig(Strict):
    """A SOCKS5 proxy that what leaves a sandbox goes through; nothing leaves when it cannot be reached."""

    address: str = Field(pattern=r"^[^\s/@]+:\d+$", description="As host:port, reachable from E2B.")
    username: str | None = Field(default=None, description="Who asks, where the proxy wants to know.")
    password: str | None = Field(
        default=None, description="By the name of the variable that holds it.", examples=["${PROXY_PASSWORD}"]
    )
    tls: bool = Field(default=False, description="Speak TLS to the proxy.")

    @field_validator("password")
    @classmethod
    def _password_by_name(cls, password: str | None) -> str | None:
        if password is not None and not REFERENCE.fullmatch(password):
            raise ValueError("write the password as ${NAME}: its value stays in that variable")
        return password

    @model_validator(mode="after")
    def _fields_fit(self) -> EgressProxyConfig:
        if self.password is not None and self.username is None:
            raise ValueError("a password needs a username")
        return self


class NetworkConfig(Strict):
    """What a sandbox may reach, and who may reach it."""

    access: Literal["auto", "none", "all"] = Field(
        default="auto",
        description="auto: the hosts of the manifest's connections and of allow_out; everything, said in a warning, "
        "when a driver needs a network and no host of it is known. none: allow_out alone. all: all but deny_out.",
    )
    allow_out: tuple[str, ...] = Field(
        default=(),
        description="Hosts (also *.example.org), host:port, addresses and ranges that may be reached.",
        examples=[["api.example.org", "db.example.org:5432", "10.1.0.0/16"]],
    )
    deny_out: tuple[str, ...] = Field(
        default=(),
        description="With access: all, addresses and ranges that may not be reached.",
        examples=[["10.0.0.0/8"]],
    )
    dns_servers: tuple[str, ...] = Field(default=(), description="Addresses of name servers, instead of E2B's own.")
    egress_proxy: EgressProxyConfig | None = Field(default=None, description="A proxy that everything goes through.")
    allow_public_traffic: bool = Field(
        default=False, description="Let anybody who knows the sandbox's address reach its open ports."
    )

    @field_validator("allow_out")
    @classmethod
    def _can_be_allowed(cls, items: tuple[str, ...]) -> tuple[str, ...]:
        refuse(
            f"{item!r} is no host, host:port, address or range"
            for item in items
            if not is_address(item) and not _HOST.fullmatch(split_port(item)[0])
        )
        refuse(
            f"{item!r}: hosts behind a * are known on ports 80 and 443 only; name each, or a range of addresses"
            for item in items
            if item.startswith("*.") and split_port(item)[1] not in (None, 80, 443)
        )
        return items

    @field_validator("deny_out")
    @classmethod
    def _can_be_denied(cls, items: tuple[str, ...]) -> tuple[str, ...]:
        refuse(f"{item!r} is no address or range; hosts cannot be denied" for item in items if not is_address(item))
        return items

    @field_validator("dns_servers")
    @classmethod
    def _are_servers(cls, items: tuple[str, ...]) -> tuple[str, ...]:
        for item in items:
            ip_address(item)
        return items

    @model_validator(mode="after")
    def _fields_fit(self) -> NetworkConfig:
        if self.access == "all" and self.allow_out:
            raise ValueError("allow_out is for access: auto or none; with all everything is allowed")
        if self.access != "all" and self.deny_out:
            raise ValueError("deny_out is for access: all; otherwise everything is denied that is not allowed")
        return self
