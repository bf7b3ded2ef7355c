"""The far end of the E2B tests runs processes, and loses their output, as E2B does, shown with the real SDK."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2b_sdk import raw_stream, rpc_headers, with_sandbox
from tests.e2b_server.connect_protocol import envelope
from tests.worker_process import alive, wait_for

e2b = pytest.importorskip("e2b", reason="the extra [e2b] is not installed")

if TYPE_CHECKING:
    from tests.e2b_server import E2BServer


def test_commands_are_real(e2b_server: E2BServer) -> None:
    """Environment, directory, output, exit code and signals are those of a process of this machine."""

    async def act(sandbox: Any) -> None:
        run = sandbox.commands.run
        done = await run('echo "$A $B"; pwd; echo oops >&2; echo $E2B_SANDBOX', envs={"B": "2"}, cwd="/")
        assert done.stdout == "1 2\n/\ntrue\n"
        assert done.stderr == "oops\n"
        assert (await run("pwd")).stdout.strip() == str(e2b_server.sandbox.home)
        with pytest.raises(e2b.CommandExitException) as failed:
            await run("exit 7")
        assert (failed.value.exit_code, failed.value.error) == (7, "exit status 7")
        with pytest.raises(e2b.CommandExitException) as killed:
            await run("kill -9 $$")
        assert (killed.value.exit_code, killed.value.error) == (-1, "signal: killed")
        with pytest.raises(e2b.InvalidArgumentException, match="cwd '/nope' does not exist"):
            await run("true", cwd="/nope")
        with pytest.raises(e2b.NotFoundException):
            await sandbox.commands.send_stdin(999999, "x")
        background = await run("sleep 1000", background=True, timeout=0)
        (listed,) = await sandbox.commands.list()
        assert (listed.pid, listed.cmd, listed.args) == (background.pid, "/bin/bash", ["-l", "-c", "sleep 1000"])
        with pytest.raises(e2b.SandboxException, match="stdin"):
            await sandbox.commands.send_stdin(background.pid, "x")
        assert await background.kill()
        with pytest.raises(e2b.CommandExitException):
            await background.wait()
        assert not await sandbox.commands.list()

    with_sandbox(e2b_server, act, envs={"A": "1"})


def test_stdin_arrives_in_order(e2b_server: E2BServer) -> None:
    """By single messages and as a stream, with its end; a whole pipe's worth and more."""
    big = os.urandom(300_000).hex()

    async def act(sandbox: Any) -> None:
        command = await sandbox.commands.run("cat; sleep 0.3", background=True, stdin=True, timeout=0)
        await command.send_stdin("first\n")
        stream = sandbox.commands.stream_input(command.pid)
        for number in range(20):
            await stream.send(f"{number}\n")
        await stream.close()
        await command.send_stdin(big)
        await command.close_stdin()
        await command.close_stdin()
        done = await command.wait()
        assert done.stdout == "first\n" + "".join(f"{number}\n" for number in range(20)) + big

    with_sandbox(e2b_server, act)


def test_output_that_nobody_hears_is_gone(e2b_server: E2BServer) -> None:
    """After a reconnect only what is new comes; the exit code is kept for a while, the output is not."""

    async def act(sandbox: Any) -> None:
        run, connect = sandbox.commands.run, sandbox.commands.connect
        command = await run("read a; echo $a; read b; echo $b", background=True, stdin=True, timeout=0)
        process = e2b_server.sandbox.processes[command.pid]
        await command.disconnect()
        await asyncio.to_thread(wait_for, lambda: not process.streams)
        await sandbox.commands.send_stdin(command.pid, "lost\n")
        await asyncio.to_thread(wait_for, lambda: process.dropped_bytes == 5)
        again = await connect(command.pid, timeout=0)
        await again.send_stdin("heard\n")
        assert (await again.wait()).stdout == "heard\n"
        late = await connect(command.pid)
        assert (await late.wait()).exit_code == 0
        e2b_server.policy.exit_kept_s = 0
        with pytest.raises(e2b.NotFoundException, match=f"process with pid {command.pid} not found"):
            await connect(command.pid)

    with_sandbox(e2b_server, act)


def test_an_old_envd_keeps_no_exit_code(e2b_server: E2BServer) -> None:
    """It is gone with the process, as before 0.6.12, and the version says so."""
    e2b_server.policy.envd_version = "0.5.9"

    async def act(sandbox: Any) -> None:
        assert (await sandbox.get_info()).envd_version == "0.5.9"
        command = await sandbox.commands.run("true", background=True)
        await command.wait()
        with pytest.raises(e2b.NotFoundException):
            await sandbox.commands.connect(command.pid)

    with_sandbox(e2b_server, act)


def test_a_timeout_kills_what_it_started(e2b_server: E2BServer) -> None:
    """On start it is the process's deadline, on connect only the stream's."""

    async def act(sandbox: Any) -> None:
        command = await sandbox.commands.run("exec sleep 1000", background=True, timeout=0)
        again = await sandbox.commands.connect(command.pid, timeout=0.3)
        with pytest.raises(e2b.TimeoutException):
            await again.wait()
        assert alive(command.pid)
        limited = await sandbox.commands.run("exec sleep 1000", background=True, timeout=0.3)
        with pytest.raises(e2b.TimeoutException):
            await limited.wait()
        await asyncio.to_thread(wait_for, lambda: not alive(limited.pid), 5)
        assert alive(command.pid)

    with_sandbox(e2b_server, act)


def test_silence_carries_keepalives(e2b_server: E2BServer) -> None:
    """They are frames on the wire, as often as asked for, though the SDK does not show them."""
    e2b_server.policy.keepalive_s = 0.03

    async def act(sandbox: Any) -> list[Any]:
        start = {"process": {"cmd": "/bin/sleep", "args": ["0.5"]}, "stdin": False}
        return await raw_stream(e2b_server, sandbox, "Start", start)

    events = [message["event"] for message in with_sandbox(e2b_server, act)]
    assert next(iter(events[0])) == "start"
    assert next(iter(events[-1])) == "end"
    assert sum("keepalive" in event for event in events) >= 5


def test_who_does_not_read_holds_all_up(e2b_server: E2BServer) -> None:
    """A stream that is not read fills its queue and stops the process; its end frees it."""

    async def act(sandbox: Any) -> None:
        message = {"process": {"cmd": "/bin/sh", "args": ["-c", "head -c 60000000 /dev/zero; touch done"]}}
        body = envelope({**message, "stdin": False})
        lines = [f"{name}: {value}" for name, value in rpc_headers(e2b_server, sandbox).items()]
        head = ["POST /process.Process/Start HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *lines, "", ""]
        _, writer = await asyncio.open_connection("127.0.0.1", e2b_server.port, limit=1000)
        writer.write("\r\n".join(head).encode() + body)
        done = e2b_server.sandbox.home / "done"
        await asyncio.sleep(0.7)
        assert not done.exists()
        writer.transport.abort()
        await asyncio.to_thread(wait_for, done.exists, 10)

    with_sandbox(e2b_server, act)


def test_end_waits_for_whoever_holds_the_pipes(e2b_server: E2BServer) -> None:
    """A grandchild with stdout delays the end; a kill from outside does not wait for it."""

    async def act(sandbox: Any) -> None:
        started_s = time.monotonic()
        await sandbox.commands.run("sleep 0.4 & exit 0")
        assert time.monotonic() - started_s >= 0.4
        command = await sandbox.commands.run("sleep 1000 & wait", background=True, timeout=0)
        await asyncio.sleep(0.1)
        await command.kill()
        with pytest.raises(e2b.CommandExitException) as killed:
            await asyncio.wait_for(command.wait(), 5)
        assert killed.value.error == "signal: killed"
        assert e2b_server.sandbox.living(), "a signal reaches the process alone"

    with_sandbox(e2b_server, act)


def test_a_kill_leaves_no_process(e2b_server: E2BServer) -> None:
    """Those in sessions of their own, with a bare environment, or without a parent die as well."""

    async def act(sandbox: Any) -> list[int]:
        await sandbox.commands.run(
            "(setsid env -i sleep 1001 &) >/dev/null 2>&1; setsid sleep 1002 >/dev/null 2>&1 & sleep 0.1"
        )
        living = e2b_server.sandbox.living()
        assert len(living) >= 2
        assert await sandbox.kill()
        return living

    assert not [pid for pid in with_sandbox(e2b_server, act) if alive(pid)]
    assert not e2b_server.sandbox.root.exists()


def test_a_pause_stops_everything_and_a_resume_goes_on(e2b_server: E2BServer) -> None:
    """Memory and files stay; connections break; a second pause is none; the counter goes on where it was."""
    counting = "n=0; while sleep 0.02; do n=$((n+1)); echo $n > count; done"

    async def act(sandbox: Any) -> None:
        command = await sandbox.commands.run(counting, background=True, timeout=0)
        count = e2b_server.sandbox.home / "count"
        await asyncio.to_thread(wait_for, lambda: count.exists() and count.read_text())
        assert await sandbox.pause()
        assert not await sandbox.pause()
        with pytest.raises(e2b.SandboxException):
            await command.wait()
        with pytest.raises(e2b.SandboxNotRunningException):
            await sandbox.commands.list()
        at_pause = count.read_text()
        await asyncio.sleep(0.2)
        assert count.read_text() == at_pause
        await sandbox.connect(timeout=60)
        await asyncio.to_thread(wait_for, lambda: count.read_text() not in ("", at_pause))
        assert [process.pid for process in await sandbox.commands.list()] == [command.pid]

    with_sandbox(e2b_server, act)


def test_a_ghost_silences_a_process(e2b_server: E2BServer) -> None:
    """With `ghosts`, a stream that was there at the pause swallows 64 events after it, and then nobody gets any."""
    e2b_server.policy.ghosts = True

    async def act(sandbox: Any) -> None:
        script = "while read n; do for i in $(seq $n); do echo x; sleep 0.002; done; done"
        command = await sandbox.commands.run(script, background=True, stdin=True, timeout=0)
        await sandbox.pause()
        await sandbox.connect(timeout=60)
        got: list[str] = []
        again = await sandbox.commands.connect(command.pid, timeout=0, on_stdout=got.append)
        await again.send_stdin("200\n")
        await asyncio.sleep(1.0)
        assert 0 < len(got) <= 65
        with pytest.raises(e2b.SandboxException):
            await command.wait()
        await again.disconnect()

    with_sandbox(e2b_server, act)
