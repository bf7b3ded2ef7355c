"""What of a configuration cannot be had for a run, found before anything is asked of E2B."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from adapters.e2b_cloud.account import MISSING_KEY_HINT, key_of
from adapters.e2b_cloud.lifetime import Lifetime
from adapters.e2b_cloud.network import HostUnknown, network_options, reach_of
from osiris_core.errors import Problem
from osiris_core.secrets import references

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adapters.e2b_cloud.config import E2BConfig
    from osiris_core.context import ExecutionContext
    from osiris_core.prepared import PreparedRun


def own_problems(config: E2BConfig, context: ExecutionContext) -> Iterator[Problem]:
    """Of the account, of the time a run may take, and of what the configuration refers to."""
    if key_of(config, context.environment) is None:
        yield _problem("there is no API key", "api_key", MISSING_KEY_HINT)
    if (shortfall := Lifetime.of(config, context.timeout).shortfall) is not None:
        hint = "lower timeout, or set max_lifetime_s if the plan allows more (86400 on Pro)"
        yield _problem(shortfall, "max_lifetime_s", hint)
    proxy = config.network.egress_proxy
    for name, default in references(proxy.password if proxy is not None else None):
        if default is None and name not in os.environ and name not in context.environment:
            yield _problem(f"{name} has no value here", "network.egress_proxy.password", f"export {name}")


def host_problems(config: E2BConfig, prepared: PreparedRun) -> Iterator[Problem]:
    """Of hosts that are to be reached: without an address, or this machine, which a sandbox in the cloud is not in."""
    reach = reach_of(prepared)
    try:
        network_options(config.network, reach, None)
    except HostUnknown as exc:
        hint = "a sandbox may reach other ports than 80 and 443 by address only; write the host's address"
        yield _problem(str(exc), "network", hint)
    if config.network.access == "auto" and not config.is_elsewhere and "E2B_API_URL" not in os.environ:
        for host in reach.hosts:
            if host.is_local:
                message = f"{host.of}: {host.name} is the sandbox itself, when it is asked for there"
                yield _problem(message, "network", "name a host that E2B's cloud can reach")


def _problem(message: str, key: str, hint: str | None = None) -> Problem:
    return Problem(message, key=f"e2b.{key}", hint=hint)
