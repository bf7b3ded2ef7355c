"""The far end of the E2B tests makes, lists, pauses and ends sandboxes as E2B does, shown with the real SDK."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2b_sdk import create, opts, with_sandbox
from tests.worker_process import alive, wait_for

e2b = pytest.importorskip("e2b", reason="the extra [e2b] is not installed")

if TYPE_CHECKING:
    from tests.e2b_server import E2BServer


def test_a_sandbox_is_made_found_and_killed(e2b_server: E2BServer) -> None:
    """Metadata comes back as given and is what a list is filtered by; killed twice is killed once."""
    metadata = {"run": "a b&c=d/ü", "owner": "me"}

    async def act(sandbox: Any) -> None:
        await create(e2b_server, metadata={"run": "other"})
        listed = e2b.AsyncSandbox.list(query=e2b.SandboxQuery(metadata={"run": metadata["run"]}), **opts(e2b_server))
        (found,) = await listed.next_items()
        assert (found.sandbox_id, found.metadata, found.state) == (sandbox.sandbox_id, metadata, "running")
        info = await sandbox.get_info()
        assert (info.metadata, info.envd_version, info.cpu_count, info.memory_mb) == (metadata, "0.6.13", 2, 1024)
        assert 50 < (info.end_at - info.started_at).total_seconds() < 61
        (metric,) = await sandbox.get_metrics()
        assert metric.mem_total == 1 << 30
        assert await sandbox.kill()
        assert not await sandbox.kill()
        with pytest.raises(e2b.SandboxNotFoundException):
            await sandbox.get_info()
        with pytest.raises(e2b.SandboxException, match="not found"):
            await sandbox.commands.run("true")

    with_sandbox(e2b_server, act, metadata=metadata)


def test_a_list_comes_in_pages(e2b_server: E2BServer) -> None:
    """No sandbox is left out or given twice."""

    async def act(_: Any) -> None:
        for _number in range(4):
            await create(e2b_server)
        pages = e2b.AsyncSandbox.list(limit=2, **opts(e2b_server))
        found = []
        while pages.has_next:
            page = await pages.next_items()
            assert len(page) <= 2
            found += [info.sandbox_id for info in page]
        assert sorted(found) == sorted(e2b_server.sandboxes)
        assert e2b_server.seen.count("list") == 3

    with_sandbox(e2b_server, act)


@pytest.mark.parametrize(
    ("asked", "kind", "words"),
    [
        ({"api_key": "e2b_" + "0" * 40}, "AuthenticationException", "401"),
        ({"template": "nope"}, "SandboxException", "404: template 'nope' not found"),
        ({"template": "base:nope"}, "SandboxException", "404"),
        ({"timeout": 7200}, "SandboxException", "400: Timeout cannot be greater than 1 hours"),
        ({"timeout": 0}, "SandboxException", "400: Timeout must be greater than 0"),
        ({"network": {"allow_out": ["example.org"]}}, "SandboxException", "400: allowOut holds domains"),
        ({"network": {"deny_out": ["example.org"]}}, "SandboxException", "400: denyOut takes addresses"),
    ],
)
def test_what_cannot_be_is_refused(e2b_server: E2BServer, asked: dict[str, Any], kind: str, words: str) -> None:
    """A bad key, an unknown template, a life beyond the plan, rules that do not work: said, and nothing created."""
    with pytest.raises(getattr(e2b, kind), match=words):
        asyncio.run(create(e2b_server, **asked))
    assert not e2b_server.sandboxes


def test_limits_say_when_to_come_again(e2b_server: E2BServer) -> None:
    """Too many at once, or too fast: 429 with Retry-After, which the SDK itself honours."""
    e2b_server.policy.max_sandboxes = 1

    async def act(_: Any) -> None:
        with pytest.raises(e2b.RateLimitException, match="maximum number of concurrent"):
            await create(e2b_server)
        e2b_server.policy.max_sandboxes = 20
        e2b_server.policy.create_per_s = 0.001
        await create(e2b_server)
        with pytest.raises(e2b.RateLimitException, match="rate limit"):
            await create(e2b_server)
        assert e2b_server.seen.of_kind("create")[-1].status == 429
        e2b_server.policy.create_per_s = None
        e2b_server.faults.answer("POST /v2/sandboxes$", 429, {"code": 429, "message": "later"}, {"Retry-After": "1"})
        started_s = time.monotonic()
        await create(e2b_server, retries=3)
        assert 0.9 < time.monotonic() - started_s < 3

    with_sandbox(e2b_server, act)


def test_a_repeated_create_is_one_sandbox(e2b_server: E2BServer) -> None:
    """The same key with the same body is answered the same; with another body it is refused."""

    async def act(sandbox: Any) -> None:
        again = await create(e2b_server, idempotency_key="run-1")
        assert again.sandbox_id == sandbox.sandbox_id
        with pytest.raises(e2b.SandboxException, match="422"):
            await create(e2b_server, idempotency_key="run-1", metadata={"other": "body"})

    with_sandbox(e2b_server, act, idempotency_key="run-1")
    assert len(e2b_server.sandboxes) == 1


def test_a_life_ends_when_it_was_said(e2b_server: E2BServer) -> None:
    """Longer than the plan is cut silently, a connect never shortens, and at the end everything dies, or pauses."""
    e2b_server.policy.max_lifetime_s = 100

    async def act(sandbox: Any) -> None:
        ours = e2b_server.sandbox
        await sandbox.set_timeout(5000)
        assert ours.end_at == pytest.approx(ours.started_at + 100, abs=0.1)
        await sandbox.connect(timeout=5)
        assert ours.end_at == pytest.approx(ours.started_at + 100, abs=0.1)
        command = await sandbox.commands.run("sleep 1000", background=True, timeout=0)
        pauses = await create(e2b_server, timeout=1, lifecycle={"on_timeout": "pause"})
        await sandbox.set_timeout(1)
        with pytest.raises(e2b.SandboxNotRunningException):
            await command.wait()
        await asyncio.to_thread(wait_for, lambda: not alive(command.pid), 5)
        await asyncio.sleep(0.3)
        assert (await pauses.get_info()).state == "paused"

    with_sandbox(e2b_server, act)


def test_network_rules_are_recorded(e2b_server: E2BServer) -> None:
    """What held from when on can be looked up."""

    async def act(sandbox: Any) -> None:
        assert sandbox.traffic_access_token
        await sandbox.update_network({"allow_out": ["10.0.0.0/8"], "deny_out": ["0.0.0.0/0"]})

    with_sandbox(e2b_server, act, network={"deny_out": lambda ctx: [ctx.all_traffic], "allow_public_traffic": False})
    first, second = e2b_server.sandbox.networks
    assert first == {"denyOut": ["0.0.0.0/0"], "allowPublicTraffic": False}
    assert second["allowOut"] == ["10.0.0.0/8"]
