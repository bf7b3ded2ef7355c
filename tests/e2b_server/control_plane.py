"""E2B's REST plane for sandboxes."""

from __future__ import annotations

import asyncio
import json
import re
from itertools import count
from time import monotonic, time
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote
from urllib.request import Request, urlopen

from tests.e2b_server.sandbox import Sandbox, timestamp

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2b_server.exchange import Exchange
    from tests.e2b_server.policy import Policy
    from tests.e2b_server.templates import Templates

EVERYWHERE = "0.0.0.0/0"
IDEMPOTENCY_KEY = re.compile(r"[a-z0-9-]{1,255}")


class Refused(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, message: str, error_code: str | None = None, **headers: str) -> None:
        super().__init__(message)
        self.status, self.message, self.error_code = status, message, error_code
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class ControlPlane:
    """
    Creates, finds and ends sandboxes.

    Attributes:
        sandboxes: All there ever were, by id.
    """

    def __init__(self, folder: Path, templates: Templates, policy: Policy) -> None:
        self._folder, self._templates, self._policy = folder, templates, policy
        self.sandboxes: dict[str, Sandbox] = {}
        self._created: dict[str, tuple[Any, Sandbox]] = {}
        self._tokens, self._tokens_at = 1.0, monotonic()

    async def serve(self, exchange: Exchange) -> None:
        """
        Raises:
            Refused: What the client is to be told.
        """
        line = f"{exchange.seen.method} {exchange.seen.path}"
        if line == "POST /v2/sandboxes":
            await exchange.answer_json(201, (await self._create(exchange)).as_created())
        elif line == "GET /v2/sandboxes":
            await self._list(exchange)
        elif found := re.fullmatch(r"(\w+) (?:/v2)?/sandboxes/([^/]+)(?:/(\w+))?", line):
            method, sandbox_id, act = found.groups()
            sandbox = self.sandboxes.get(sandbox_id)
            if sandbox is None or sandbox.state == "gone":
                raise Refused(404, f"Sandbox \"{sandbox_id}\" doesn't exist or you don't have access to it")
            exchange.seen.sandbox_id = sandbox_id
            await self._act(f"{method} {act}", sandbox, exchange)
        else:
            raise Refused(404, "no matching operation was found")

    async def _act(self, act: str, sandbox: Sandbox, exchange: Exchange) -> None:
        if act == "DELETE None":
            await sandbox.kill()
            await exchange.answer(204)
        elif act == "GET None":
            await exchange.answer_json(200, sandbox.as_detail())
        elif act == "POST timeout":
            sandbox.extend(_timeout_s(await exchange.body_json(), None), may_shorten=True)
            await exchange.answer(204)
        elif act == "POST connect":
            timeout_s = _timeout_s(await exchange.body_json(), 300)
            if sandbox.state == "running":
                sandbox.extend(timeout_s, may_shorten=False)
                await exchange.answer_json(200, sandbox.as_created())
            else:
                await sandbox.resume(timeout_s)
                await exchange.answer_json(201, sandbox.as_created())
        elif act == "POST pause":
            if sandbox.state == "paused":
                raise Refused(409, f"Sandbox {sandbox.sandbox_id} is already paused")
            await sandbox.pause()
            await exchange.answer(204)
        elif act == "PUT network":
            sandbox.networks.append(_checked_network(await exchange.body_json()))
            await exchange.answer(204)
        elif act == "GET metrics":
            await exchange.answer_json(200, [_metric(sandbox)])
        else:
            raise Refused(501, f"this test server does not do {act!r}")

    async def _create(self, exchange: Exchange) -> Sandbox:
        body = await exchange.body_json()
        key = exchange.headers.get("idempotency-key")
        if key is not None:
            if not IDEMPOTENCY_KEY.fullmatch(key):
                raise Refused(400, f"invalid Idempotency-Key {key!r}")
            if key in self._created:
                first_body, sandbox = self._created[key]
                if first_body != body:
                    raise Refused(422, "the key was used for another request", "idempotency_request_mismatch")
                return sandbox
        timeout_s = _timeout_s(body, 15)
        if timeout_s > self._policy.max_lifetime_s:
            raise Refused(400, f"Timeout cannot be greater than {self._policy.max_lifetime_s / 3600:g} hours")
        _checked_network(body.get("network", {}))
        template = self._templates.find(body.get("templateID", ""))
        if template is None:
            raise Refused(404, _no_template(body.get("templateID", ""), self._templates.taken))
        self._check_rate()
        if sum(sandbox.state == "running" for sandbox in self.sandboxes.values()) >= self._policy.max_sandboxes:
            raise Refused(
                429,
                f"you have reached the maximum number of concurrent E2B sandboxes ({self._policy.max_sandboxes})",
                Retry_After="1",
            )
        sandbox = Sandbox(self._folder, template, body, self._policy)
        sandbox.extend(timeout_s, may_shorten=True)
        self.sandboxes[sandbox.sandbox_id] = sandbox
        if key is not None:
            self._created[key] = body, sandbox
        exchange.seen.sandbox_id = sandbox.sandbox_id
        await asyncio.to_thread(sandbox.make)
        if self._policy.envd_url:
            await asyncio.to_thread(_hand_over, sandbox, self._policy.envd_url)
        return sandbox

    def _check_rate(self) -> None:
        rate = self._policy.create_per_s
        if rate is None:
            return
        now_s = monotonic()
        self._tokens = min(max(1.0, rate), self._tokens + (now_s - self._tokens_at) * rate)
        self._tokens_at = now_s
        if self._tokens < 1:
            raise Refused(429, "rate limit exceeded", Retry_After="1")
        self._tokens -= 1

    async def _list(self, exchange: Exchange) -> None:
        query = exchange.query
        # Quoted twice within the value that the address quotes once more.
        wanted = {unquote(name): unquote(value) for name, value in parse_qsl(query.get("metadata", ""))}
        states = query.get("state", "running,paused").split(",")
        found = [
            sandbox
            for sandbox in self.sandboxes.values()
            if sandbox.state in states
            and time() - sandbox.started_at >= self._policy.list_lag_s
            and wanted.items() <= sandbox.metadata.items()
            and query.get("template", sandbox.template.name) in (sandbox.template.name, sandbox.template.template_id)
        ]
        found.sort(key=lambda sandbox: sandbox.started_at, reverse=query.get("order", "desc") == "desc")
        start, limit = int(query.get("nextToken", 0)), int(query.get("limit", 100))
        page, more = found[start : start + limit], len(found) > start + limit
        headers = {"X-Next-Token": str(start + limit)} if more else {}
        await exchange.answer_json(200, [sandbox.as_listed() for sandbox in page], headers)

    async def expire(self) -> None:
        """End or pause those whose time is over; runs for ever."""
        for _ in count():
            await asyncio.sleep(0.05)
            for sandbox in list(self.sandboxes.values()):
                if sandbox.state == "running" and sandbox.end_at < time():
                    await (sandbox.pause() if sandbox.pauses_at_end else sandbox.kill())


def _no_template(text: str, taken: set[str]) -> str:
    name, _, tag = text.partition(":")
    missing_tag = f"tag '{tag or 'default'}' does not exist for template '{name}'"
    return missing_tag if name in taken else f"template '{text}' not found"


def _hand_over(sandbox: Sandbox, envd_url: str) -> None:
    """Tell a real envd whose token to take."""
    settings = {"accessToken": sandbox.token, "envVars": sandbox.create_body.get("envVars", {}), "defaultUser": "user"}
    request = Request(f"{envd_url}/init", json.dumps(settings).encode(), {"Content-Type": "application/json"})
    with urlopen(request, timeout=10):
        pass


def _timeout_s(body: dict[str, Any], default_s: float | None) -> float:
    timeout_s = body.get("timeout", default_s)
    if not isinstance(timeout_s, int | float) or timeout_s <= 0:
        raise Refused(400, "Timeout must be greater than 0")
    return timeout_s


def _checked_network(network: dict[str, Any]) -> dict[str, Any]:
    domains = [host for host in network.get("allowOut") or [] if not re.fullmatch(r"[\d./]+", host)]
    if domains and EVERYWHERE not in (network.get("denyOut") or []):
        raise Refused(
            400,
            f"allowOut holds domains ({', '.join(domains)}): they need '{EVERYWHERE}' in denyOut to have an effect",
        )
    for host in network.get("denyOut") or []:
        if not re.fullmatch(r"[\d./]+", host):
            raise Refused(400, f"denyOut takes addresses and CIDR blocks only, not {host!r}")
    return network


def _metric(sandbox: Sandbox) -> dict[str, Any]:
    return {
        "timestamp": timestamp(time()),
        "timestampUnix": int(time()),
        "cpuCount": sandbox.template.cpu_count,
        "cpuUsedPct": 0.0,
        "memUsed": 0,
        "memTotal": sandbox.template.memory_mb << 20,
        "memCache": 0,
        "diskUsed": sum(path.lstat().st_size for path in sandbox.home.rglob("*") if path.is_file()),
        "diskTotal": 10 << 30,
    }
