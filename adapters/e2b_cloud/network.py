"""What a sandbox may reach: nothing, but for what the manifest's connections and the configuration name."""

from __future__ import annotations

import socket
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import ValidationError

from adapters.e2b_cloud.network_config import is_address, split_port
from osiris_core.driver import DriverRegistry
from osiris_core.lifting import connection_models
from osiris_core.secrets import substitute

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from adapters.e2b_cloud.network_config import NetworkConfig
    from osiris_core.plan import StepPlan
    from osiris_core.prepared import PreparedRun

ALL_TRAFFIC = "0.0.0.0/0"
NAMED_PORTS = (80, 443)
"""Where a host is known by its name: that is read from the Host header, and from TLS. Elsewhere only addresses are."""
_HOST_FIELDS = ("host", "hostname", "server", "address", "endpoint", "url", "base_url", "uri", "dsn")
_PORTS = {
    "http": 80,
    "https": 443,
    "mysql": 3306,
    "mariadb": 3306,
    "postgres": 5432,
    "postgresql": 5432,
    "redis": 6379,
    "mongodb": 27017,
    "clickhouse": 9000,
    "mssql": 1433,
    "snowflake": 443,
    "supabase": 443,
    "graphql": 443,
}
"""What is meant where no port is written, by the family of a connection or the scheme of a URL."""


@dataclass(frozen=True)
class Host:
    """Somebody to be reached; `of` says who wants that, for people."""

    name: str
    port: int | None
    of: str

    @property
    def is_local(self) -> bool:
        """Whether it means this machine, wherever it is said."""
        if self.name.lower() == "localhost":
            return True
        try:
            return ip_address(self.name).is_loopback
        except ValueError:
            return False


class HostUnknown(Exception):
    """A host has no address here."""

    def __init__(self, host: Host, reason: str) -> None:
        super().__init__(f"{host.of}: {host.name} cannot be resolved: {reason}")
        self.host = host


@dataclass(frozen=True)
class Reach:
    """
    What a run may reach.

    Attributes:
        hosts: Whom its connections and steps name.
        unknown: Steps that need a network, and of which no host is known.
    """

    hosts: tuple[Host, ...]
    unknown: tuple[str, ...]


def reach_of(prepared: PreparedRun) -> Reach:
    """What the steps of a run have to reach, as far as their connections, URLs and drivers say."""
    hosts: list[Host] = []
    unknown: list[str] = []
    for step in prepared.steps:
        driver = DriverRegistry.get(step.driver)
        needs = bool(getattr(driver, "needs_network", False))
        of_connection = _hosts_of_connection(prepared, step, driver)
        own = {key: value for key, value in step.config.items() if key != "connection"}
        of_step = list(_urls_in(_filled(own, prepared), f"step '{step.id}'")) if needs else []
        hosts += [*(of_connection or ()), *of_step]
        if needs and of_connection is None and not of_step:
            unknown.append(step.id)
    return Reach(tuple(dict.fromkeys(hosts)), tuple(unknown))


def _hosts_of_connection(prepared: PreparedRun, step: StepPlan, driver: type[Any]) -> list[Host] | None:
    """As the connection's model says; where there is none, by the names of fields. None: nobody knows."""
    connection = step.config.get("connection")
    name, family = f"step '{step.id}'", ""
    if isinstance(connection, str) and connection.startswith("@"):
        name, family = f"connection {connection}", connection[1:].partition(".")[0]
        connection = prepared.connections.get(connection)
    if not isinstance(connection, dict):
        return None
    values = _filled(connection, prepared)
    for model in connection_models(driver):
        if hasattr(model, "reaches"):
            with suppress(ValidationError):  # it is whole only together with the step
                return [Host(host, port, name) for host, port in model.model_validate(values).reaches()]
    return list(_guessed(values, family, name)) or None


def _filled(value: Any, prepared: PreparedRun) -> Any:
    try:
        return substitute(value, prepared.secrets)
    except KeyError:  # reported where it is missing
        return {}


def _guessed(values: Mapping[str, Any], family: str, of: str) -> Iterator[Host]:
    port = values.get("port")
    port = int(str(port)) if str(port or "").isdigit() else _PORTS.get(family.lower())
    for key in _HOST_FIELDS:
        text = values.get(key)
        if not isinstance(text, str) or not text or "://" in text or "/" in text or "=" in text:
            continue  # a URL is found below; a path is a socket on the same machine
        host, written = split_port(text)
        yield Host(host, written or port, of)
    yield from _urls_in(values, of)


def _urls_in(value: Any, of: str) -> Iterator[Host]:
    if isinstance(value, str) and "://" in value:
        try:
            parts = urlsplit(value)
            port = parts.port or _PORTS.get(parts.scheme.partition("+")[0].lower())
        except ValueError:
            return
        if parts.hostname and parts.scheme != "file":
            yield Host(parts.hostname, port, of)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _urls_in(item, of)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _urls_in(item, of)


def addresses(host: Host) -> list[str]:
    """
    The addresses of a host, as this machine knows them.

    Raises:
        HostUnknown: It has none.
    """
    try:
        found = socket.getaddrinfo(host.name, host.port or 0, socket.AF_INET, socket.SOCK_STREAM)
    except OSError as exc:
        raise HostUnknown(host, exc.strerror or str(exc)) from exc
    return sorted({str(item[4][0]) for item in found})


def rules(host: Host) -> Iterator[str]:
    """What is to be allowed so that a host is reached: its name, its addresses, or both where no port is known."""
    if is_address(host.name):
        yield host.name
        return
    if host.port is None or host.port in NAMED_PORTS:
        yield host.name
    if host.port is None or host.port not in NAMED_PORTS:
        yield from addresses(host)


def network_options(config: NetworkConfig, reach: Reach, password: str | None) -> dict[str, Any]:
    """
    The `network` of the SDK's `create`; `password` is the egress proxy's.

    Raises:
        HostUnknown: A host that is reached by its address has none here.
    """
    found: dict[str, Any] = {"allow_public_traffic": config.allow_public_traffic}
    if is_open(config, reach):
        if config.deny_out:
            found["deny_out"] = list(config.deny_out)
    else:
        found["deny_out"] = [ALL_TRAFFIC]
        if allowed := list(dict.fromkeys(_allowed(config, reach))):
            found["allow_out"] = allowed
    if config.dns_servers:
        found["dns_servers"] = list(config.dns_servers)
    if config.egress_proxy is not None:
        proxy = config.egress_proxy
        found["egress_proxy"] = {"address": proxy.address}
        if proxy.username is not None:
            found["egress_proxy"]["username"] = proxy.username
        if password is not None:
            found["egress_proxy"]["password"] = password
        if proxy.tls:
            found["egress_proxy"]["tls"] = True
    return found


def is_open(config: NetworkConfig, reach: Reach) -> bool:
    """Whether everything may be reached."""
    return config.access == "all" or (config.access == "auto" and bool(reach.unknown) and not config.allow_out)


def _allowed(config: NetworkConfig, reach: Reach) -> Iterator[str]:
    for text in config.allow_out:
        name, port = (text, None) if is_address(text) else split_port(text)
        if port is None:
            yield text
        else:
            yield from rules(Host(name, port, "network.allow_out"))
    if config.access == "auto":
        for host in reach.hosts:
            yield from rules(host)
