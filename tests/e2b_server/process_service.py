"""envd's process service: start, listen again, write, signal, list."""

from __future__ import annotations

import asyncio
import os
import signal
from time import monotonic
from typing import TYPE_CHECKING, Any

from tests.e2b_server.connect_protocol import (
    Message,
    RpcError,
    answer_stream,
    answer_unary,
    decoded,
    keepalive_s,
    stream_requests,
    timeout_s,
    unary_request,
)
from tests.e2b_server.process import Process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.e2b_server.exchange import Exchange
    from tests.e2b_server.process import Subscriber
    from tests.e2b_server.sandbox import Sandbox

SIGNALS = {"SIGNAL_SIGKILL": signal.SIGKILL, "SIGNAL_SIGTERM": signal.SIGTERM, 9: signal.SIGKILL, 15: signal.SIGTERM}


async def serve(method: str, exchange: Exchange, sandbox: Sandbox) -> None:
    """
    Raises:
        RpcError: What the client is to be told.
    """
    if method == "StreamInput":
        await _stream_input(exchange, sandbox)
    elif method in ("Start", "Connect"):
        messages = [message async for message in stream_requests(exchange)]
        if len(messages) != 1:
            raise RpcError("invalid_argument", f"expected one message, got {len(messages)}")
        await answer_stream(exchange, (_start if method == "Start" else _connect)(messages[0], exchange, sandbox))
    elif method == "List":
        await unary_request(exchange)
        await answer_unary(exchange, {"processes": [_listed(process) for process in sandbox.running()]})
    elif method in ("SendInput", "CloseStdin", "SendSignal", "Update"):
        message = await unary_request(exchange)
        process = sandbox.process(message.get("process", {}))
        if method == "SendInput":
            await process.write(_input(message))
        elif method == "CloseStdin":
            await process.close_stdin()
        elif method == "SendSignal":
            process.send_signal(_signal(message))
        else:
            raise RpcError("unimplemented", "this test server has no terminals")
        await answer_unary(exchange, {})
    else:
        raise RpcError("unimplemented", f"process.Process has no method {method!r}")


async def _start(message: Message, exchange: Exchange, sandbox: Sandbox) -> AsyncIterator[Message]:
    if "pty" in message:
        raise RpcError("unimplemented", "this test server has no terminals")
    config: dict[str, Any] = message.get("process", {})
    cwd = sandbox.working_directory(config.get("cwd"))
    if not os.path.isdir(cwd):
        raise RpcError("invalid_argument", f"cwd '{cwd}' does not exist")
    argv = [config.get("cmd", ""), *config.get("args", [])]
    try:
        process = Process(
            config,
            message.get("tag"),
            argv,
            {**sandbox.environment(), **config.get("envs", {})},
            cwd,
            stdin=message.get("stdin", True),
        )
    except OSError as exc:
        raise RpcError("invalid_argument", f"error starting process '{argv[0]}': {exc.strerror}") from exc
    sandbox.add(process)
    # Before anything else may run: what the process prints first shall have somebody to hear it.
    subscriber = process.subscribe()
    limit_s = timeout_s(exchange.headers)
    if limit_s is not None:
        asyncio.get_running_loop().call_later(limit_s, process.kill_if_alive)
    async for event in _listen(process, subscriber, exchange, limit_s):
        yield event


async def _connect(message: Message, exchange: Exchange, sandbox: Sandbox) -> AsyncIterator[Message]:
    process = sandbox.process(message.get("process", {}), ended_too=True)
    if process.end_event:
        yield {"event": {"start": {"pid": process.pid}}}
        yield {"event": process.end_event}
        return
    async for event in _listen(process, process.subscribe(), exchange, timeout_s(exchange.headers)):
        yield event


async def _listen(
    process: Process, subscriber: Subscriber, exchange: Exchange, limit_s: float | None
) -> AsyncIterator[Message]:
    """Every event from the subscription on; ends with the process, the deadline, the client or the sandbox."""
    deadline_s = monotonic() + limit_s if limit_s is not None else float("inf")
    process.streams[exchange.connection] = subscriber
    gone = asyncio.ensure_future(exchange.gone.wait())
    cut_off = asyncio.ensure_future(process.cut_off.wait())
    getting = asyncio.ensure_future(subscriber.get())
    try:
        yield {"event": {"start": {"pid": process.pid}}}
        while True:
            silence_s = max(0.0, min(keepalive_s(exchange), deadline_s - monotonic()))
            await asyncio.wait([getting, gone, cut_off], timeout=silence_s, return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                return
            if monotonic() >= deadline_s:
                raise RpcError("deadline_exceeded", "context deadline exceeded")
            if cut_off.done():
                raise RpcError("unavailable", "the connection to sandbox ended before the stream completed")
            if not getting.done():
                yield {"event": {"keepalive": {}}}
                continue
            event = getting.result()
            yield {"event": event}
            if "end" in event:
                return
            getting = asyncio.ensure_future(subscriber.get())
    finally:
        for waiting in (gone, cut_off, getting):
            waiting.cancel()
        process.streams.pop(exchange.connection, None)
        await process.unsubscribe(subscriber)


async def _stream_input(exchange: Exchange, sandbox: Sandbox) -> None:
    process: Process | None = None
    async for message in stream_requests(exchange):
        if "start" in message:
            process = sandbox.process(message["start"].get("process", {}))
        elif "data" in message:
            if process is None:
                raise RpcError("invalid_argument", "the first message names the process")
            await process.write(_input(message["data"]))
    await answer_stream(exchange, _one_empty())


async def _one_empty() -> AsyncIterator[Message]:
    yield {}


def _input(message: Message) -> bytes:
    return decoded(message.get("input", {}).get("stdin", ""))


def _signal(message: Message) -> signal.Signals:
    try:
        return SIGNALS[message.get("signal", 0)]
    except KeyError:
        raise RpcError("unimplemented", f"invalid signal: {message.get('signal')}") from None


def _listed(process: Process) -> Message:
    tag = {} if process.tag is None else {"tag": process.tag}
    return {"config": process.config, "pid": process.pid, **tag}
