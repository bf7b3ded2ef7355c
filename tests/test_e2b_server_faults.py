"""The far end of the E2B tests fails on request, each way once, and tells what it saw."""

from __future__ import annotations

import asyncio
import os
import time
from io import BytesIO
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.e2b_sdk import create, with_sandbox
from tests.worker_process import alive

e2b = pytest.importorskip("e2b", reason="the extra [e2b] is not installed")

from connectrpc.errors import ConnectError  # noqa: E402 - comes with it

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2b_server import E2BServer


def test_a_create_whose_answer_is_lost_made_a_sandbox(e2b_server: E2BServer) -> None:
    """It is there and can be found; a refused one is not."""
    e2b_server.faults.lose_answer("POST /v2/sandboxes$")
    with pytest.raises(httpx.TransportError):
        asyncio.run(create(e2b_server, metadata={"run": "1"}))
    assert e2b_server.sandbox.state == "running"
    e2b_server.faults.refuse("POST /v2/sandboxes$")
    with pytest.raises(httpx.TransportError):
        asyncio.run(create(e2b_server))
    assert len(e2b_server.sandboxes) == 1
    assert [request.status for request in e2b_server.seen.of_kind("create")] == [0, 0]
    assert [request.fault for request in e2b_server.seen.of_kind("create")] == [("lose_answer",), ("refuse",)]


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (lambda faults: faults.cut("Process/Start", at_byte=200), "ConnectError"),
        (lambda faults: faults.drop_end("Process/Start"), None),
        (lambda faults: faults.end_early("Process/Start", after_events=2), "SandboxUnreachableException"),
        (
            lambda faults: faults.answer("Process/Start", 502, {"message": "The sandbox was not found"}),
            "TimeoutException",
        ),
        (lambda faults: faults.answer("Process/Start", 503, "<html>busy</html>"), "SandboxUnreachableException"),
        (
            lambda faults: faults.answer("Process/Start", 429, {"code": "resource_exhausted", "message": "x"}),
            "RateLimit",
        ),
    ],
    ids=["cut", "drop_end", "end_early", "gone", "busy", "limited"],
)
def test_streams_break_in_every_way(e2b_server: E2BServer, fault: Callable[[Any], Any], error: str | None) -> None:
    """A reset, an end without an end, an early end, another answer: as the SDK sees them, and only once."""

    async def act(sandbox: Any) -> None:
        rule = fault(e2b_server.faults)
        with pytest.raises(Exception) as broken:  # noqa: PT011 - the SDK raises a bare Exception for one of them
            await sandbox.commands.run("for i in 1 2 3 4 5 6 7 8 9; do echo line $i; sleep 0.01; done")
        names = [kind.__name__ for kind in type(broken.value).__mro__]
        assert any(name.startswith(error) for name in names) if error else names[0] == "Exception", broken.value
        assert rule.hits == 1
        assert (await sandbox.commands.run("echo fine")).stdout == "fine\n"

    with_sandbox(e2b_server, act)


def test_a_stream_is_cut_at_the_byte(e2b_server: E2BServer) -> None:
    """What was sent by then arrives, nothing after it does, a download included."""

    async def act(sandbox: Any) -> None:
        (e2b_server.sandbox.home / "f").write_bytes(os.urandom(100_000))
        e2b_server.faults.cut("GET /files", at_byte=70_001)
        got = b""
        with pytest.raises(httpx.TransportError):  # noqa: PT012 - what came before it counts
            async with await sandbox.files.read("f", format="stream") as stream:
                async for piece in stream:
                    got += piece
        assert 0 < len(got) <= 70_001
        assert e2b_server.seen.of_kind("download")[0].down_bytes == 70_001
        e2b_server.faults.truncate("GET /files", at_byte=70_001)
        with pytest.raises(httpx.ReadError, match="unexpected end"):
            await sandbox.files.read("f", format="bytes")
        e2b_server.faults.cut_upload("POST /files", at_byte=50_000)
        with pytest.raises(httpx.TransportError):
            await sandbox.files.write("half", BytesIO(bytes(3_000_000)))
        assert (e2b_server.sandbox.home / "half").stat().st_size == 50_000

    with_sandbox(e2b_server, act)


def test_silence_can_be_had_everywhere(e2b_server: E2BServer) -> None:
    """Before the request is carried out, after it, and in the middle of a stream."""

    async def act(sandbox: Any) -> None:
        folder = e2b_server.sandbox.home
        for fault, done in ((e2b_server.faults.hang, False), (e2b_server.faults.hang_answer, True)):
            fault("MakeDir$")
            with pytest.raises(e2b.TimeoutException):
                await sandbox.files.make_dir(f"made-{done}", request_timeout=0.3)
            assert (folder / f"made-{done}").exists() is done
        e2b_server.faults.stall("Process/Start", at_byte=300)
        heard: list[str] = []
        script = "while :; do echo x; sleep 0.01; done"
        command = await sandbox.commands.run(script, background=True, timeout=0, on_stdout=heard.append)
        await asyncio.sleep(0.5)
        before = len(heard)
        await asyncio.sleep(0.3)
        assert len(heard) == before > 0
        await command.disconnect()

    with_sandbox(e2b_server, act)


def test_answers_can_be_late_and_in_crumbs(e2b_server: E2BServer) -> None:
    """Latency is paid per request; pieces of one byte come out whole."""

    async def act(sandbox: Any) -> None:
        e2b_server.policy.latency_s = 0.1
        started_s = time.monotonic()
        await sandbox.commands.run("true")
        assert time.monotonic() - started_s >= 0.1
        e2b_server.policy.latency_s = 0.0
        e2b_server.policy.piece_bytes = 1
        assert (await sandbox.commands.run("echo naïve")).stdout == "naïve\n"
        await sandbox.files.write("f", b"0123")
        assert await sandbox.files.read("f") == "0123"
        e2b_server.faults.delay("GET /files", 0.2)
        started_s = time.monotonic()
        await sandbox.files.read("f")
        assert time.monotonic() - started_s >= 0.2

    with_sandbox(e2b_server, act)


def test_a_restart_breaks_streams_and_no_process(e2b_server: E2BServer) -> None:
    """Nobody can connect meanwhile; afterwards everything is where it was."""

    async def act(sandbox: Any) -> None:
        command = await sandbox.commands.run("exec cat", background=True, stdin=True, timeout=0)
        restart = asyncio.create_task(asyncio.to_thread(e2b_server.restart, 0.4))
        with pytest.raises((e2b.SandboxException, ConnectError)):
            await command.wait()
        with pytest.raises(ConnectionError):
            await asyncio.open_connection("127.0.0.1", e2b_server.port)
        await restart
        again = await sandbox.commands.connect(command.pid, timeout=0)
        await again.send_stdin("still here")
        await again.close_stdin()
        assert (await again.wait()).stdout == "still here"
        other = await sandbox.commands.run("sleep 1000", background=True, timeout=0)
        assert e2b_server.cut_streams() == 1
        with pytest.raises(ConnectError):
            await other.wait()
        assert alive(other.pid)

    with_sandbox(e2b_server, act)


@pytest.mark.parametrize("kill_mode", ["reset", "end"])
def test_a_lost_sandbox_is_not_running(e2b_server: E2BServer, kill_mode: Any) -> None:
    """Whichever way its streams end, the SDK finds out that it is gone."""
    e2b_server.policy.kill_mode = kill_mode

    async def act(sandbox: Any) -> None:
        command = await sandbox.commands.run("sleep 1000", background=True, timeout=0)
        await asyncio.to_thread(e2b_server.lose, sandbox.sandbox_id)
        with pytest.raises(e2b.SandboxNotRunningException):
            await command.wait()
        assert not alive(command.pid)

    with_sandbox(e2b_server, act)


def test_everything_is_counted_and_searched(e2b_server: E2BServer) -> None:
    """Kinds in order, bytes of bodies, and every place a text got to, except into a process by its stdin."""
    e2b_server.policy.profile_noise = "welcome to the shell"

    async def act(sandbox: Any) -> None:
        await sandbox.files.write("f", b"x" * 1000, use_octet_stream=True)
        command = await sandbox.commands.run("read -r line; exec sleep 1000", background=True, stdin=True, timeout=0)
        await command.send_stdin("by-stdin\n")
        await sandbox.commands.run("exec sleep 1000", background=True, timeout=0, envs={"SECRET": "by-environment"})
        noisy = await sandbox.commands.run("echo hi > 'by-disk'; cp by-disk copy; echo by-file > copy")
        assert noisy.stdout == "welcome to the shell\n"
        assert e2b_server.seen.kinds() == ["create", "upload", "start", "stdin", "start", "start"]
        assert e2b_server.seen.of_kind("upload")[0].up_bytes == 1000
        assert e2b_server.seen.down_bytes > 100
        assert e2b_server.places_of("by-stdin") == []
        assert e2b_server.places_of(e2b_server.api_key) == []
        assert "create.body" in e2b_server.places_of("in-metadata")
        places = e2b_server.places_of("by-environment")
        assert "start.body" in places
        assert any(place.startswith("environ:") for place in places)
        assert "disk:home/copy" in e2b_server.places_of("by-file")

    with_sandbox(e2b_server, act, metadata={"note": "in-metadata"})
