"""The SDK as its users use it, pointed at the local server: what the tests of that server have in common."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx

from tests.e2b_server.connect_protocol import EnvelopeReader, envelope

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.e2b_server import E2BServer


def opts(server: E2BServer, **more: Any) -> dict[str, Any]:
    return {
        "api_key": server.api_key,
        "api_url": server.api_url,
        "sandbox_url": server.sandbox_url,
        "retries": 0,
        **more,
    }


async def create(server: E2BServer, template: str = "base", **more: Any) -> Any:
    from e2b import AsyncSandbox

    return await AsyncSandbox.create(template, **{"timeout": 60, **opts(server), **more})


def with_sandbox(server: E2BServer, act: Callable[[Any], Awaitable[Any]], **more: Any) -> Any:
    """What `act` gives for a new sandbox, on a loop of its own."""

    async def whole() -> Any:
        return await act(await create(server, **more))

    return asyncio.run(whole())


async def raw_stream(server: E2BServer, sandbox: Any, method: str, message: dict[str, Any]) -> list[Any]:
    headers = {**rpc_headers(server, sandbox), "Content-Type": "application/connect+json"}
    reader = EnvelopeReader()
    async with (
        httpx.AsyncClient(trust_env=False) as client,
        client.stream(
            "POST", f"{server.sandbox_url}/process.Process/{method}", content=envelope(message), headers=headers
        ) as answer,
    ):
        assert answer.headers["content-type"] == "application/connect+json"
        return [found async for piece in answer.aiter_bytes() for found in reader.feed(piece)]


def rpc_headers(server: E2BServer, sandbox: Any) -> dict[str, str]:
    token = server.sandboxes[sandbox.sandbox_id].token
    return {"E2b-Sandbox-Id": sandbox.sandbox_id, "X-Access-Token": token, "Connect-Protocol-Version": "1"}
