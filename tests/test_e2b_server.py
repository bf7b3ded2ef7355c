"""The far end of the E2B tests keeps E2B's promises: each one is shown once, with the real SDK."""

from __future__ import annotations

import asyncio
import os
import time
from io import BytesIO
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.e2b_server.connect_protocol import EnvelopeReader, envelope
from tests.worker_process import alive, wait_for

e2b = pytest.importorskip("e2b", reason="the extra [e2b] is not installed")
from connectrpc.errors import ConnectError  # noqa: E402 - comes with it

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

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
    return await e2b.AsyncSandbox.create(template, **{"timeout": 60, **opts(server), **more})


def with_sandbox(server: E2BServer, act: Callable[[Any], Awaitable[Any]], **more: Any) -> Any:
    """What `act` gives for a new sandbox, on a loop of its own."""

    async def whole() -> Any:
        return await act(await create(server, **more))

    return asyncio.run(whole())


# --- sandboxes


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


# --- processes


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


# --- files


def test_files_come_back_as_they_were(e2b_server: E2BServer) -> None:
    """Plain, packed, streamed, many in one request; parents are made; relative paths start at home."""
    data = os.urandom(1_500_000)
    awkward = b"\r\n--boundary--\r\n\0" * 1000

    async def act(sandbox: Any) -> None:
        files = sandbox.files
        written = await files.write("deep/er/a.bin", data)
        assert written.path == str(e2b_server.sandbox.home / "deep/er/a.bin")
        assert bytes(await files.read("~/deep/er/a.bin", format="bytes")) == data
        await files.write("b.bin", BytesIO(data), gzip=True)
        assert bytes(await files.read("b.bin", format="bytes", gzip=True)) == data
        async with await files.read("b.bin", format="stream") as stream:
            assert b"".join([piece async for piece in stream]) == data
        many = [{"path": f"many/{number}", "data": awkward + b"%d" % number} for number in range(50)]
        before = e2b_server.seen.count("upload")
        assert len(await files.write_files(many)) == 50
        assert e2b_server.seen.count("upload") == before + 1
        assert bytes(await files.read("many/49", format="bytes")) == awkward + b"49"
        with pytest.raises(e2b.FileNotFoundException):
            await files.read("nope")
        with pytest.raises(e2b.InvalidArgumentException, match="is a directory"):
            await files.read("many")
        with pytest.raises(e2b.InvalidArgumentException, match="outside of this test server's sandbox"):
            await files.write("/home/user/x", b"")
        assert (
            bytes(await files.read("deep/er/a.bin", format="bytes"))
            == (e2b_server.sandbox.home / "deep/er/a.bin").read_bytes()
        )

    with_sandbox(e2b_server, act)


def test_a_full_disk_is_said(e2b_server: E2BServer) -> None:
    """507, which the SDK has an error of its own for."""
    e2b_server.policy.disk_bytes = 100_000

    async def act(sandbox: Any) -> None:
        await sandbox.files.write("fits", b"x" * 50_000)
        with pytest.raises(e2b.NotEnoughSpaceException):
            await sandbox.files.write("too much", BytesIO(b"x" * 5_000_000))

    with_sandbox(e2b_server, act)


def test_signed_addresses_work_without_a_token(e2b_server: E2BServer) -> None:
    """For that path, that way and that long; ranges are honoured; nothing else gets in without a token."""

    async def act(sandbox: Any) -> None:
        await sandbox.files.write("f", b"0123456789")
        async with httpx.AsyncClient(trust_env=False) as client:
            address = sandbox.download_url("f", use_signature_expiration=60)
            assert (await client.get(address)).content == b"0123456789"
            part = await client.get(address, headers={"Range": "bytes=3-5"})
            assert (part.status_code, part.content, part.headers["Content-Range"]) == (206, b"345", "bytes 3-5/10")
            up = sandbox.upload_url("g")
            assert (await client.post(up, files={"file": b"by hand"})).status_code == 200
            assert (await client.get(address.replace("path=f", "path=g"))).status_code == 502
            assert (await client.get(sandbox.download_url("f", use_signature_expiration=-1))).status_code == 502
            headers = {**rpc_headers(e2b_server, sandbox), "X-Access-Token": "wrong"}
            listed = await client.post(f"{e2b_server.sandbox_url}/process.Process/List", json={}, headers=headers)
            assert listed.status_code == 401
            assert (await client.get(f"{e2b_server.sandbox_url}/files?path=f", headers=headers)).status_code == 401
        assert await sandbox.files.read("g") == "by hand"

    with_sandbox(e2b_server, act)


def test_the_file_system_is_looked_at_and_changed(e2b_server: E2BServer) -> None:
    """Stat, list by depth, make, move, remove; what is missing is not found, what exists exists."""

    async def act(sandbox: Any) -> None:
        files = sandbox.files
        assert await files.make_dir("d/e")
        assert not await files.make_dir("d/e")
        await files.write("d/e/f", b"12345", metadata={"origin": "test"}, use_octet_stream=True)
        info = await files.get_info("d/e/f")
        assert (info.name, info.size, info.type.value, info.metadata) == ("f", 5, "file", {"origin": "test"})
        assert [entry.name for entry in await files.list("d")] == ["e"]
        assert [entry.name for entry in await files.list("d", depth=2)] == ["e", "f"]
        await files.rename("d/e/f", "d/g")
        assert await files.exists("d/g")
        assert not await files.exists("d/e/f")
        await files.remove("d")
        await files.remove("d")
        for wrong in (files.list("d"), files.get_info("d")):
            with pytest.raises(e2b.FileNotFoundException):
                await wrong

    with_sandbox(e2b_server, act)


def test_a_watch_tells_what_changes(e2b_server: E2BServer) -> None:
    """Made, written, renamed and removed, below too if asked."""

    async def act(sandbox: Any) -> None:
        await sandbox.files.make_dir("w/below")
        events: list[Any] = []
        watch = await sandbox.files.watch_dir("w", events.append, recursive=True)
        folder = e2b_server.sandbox.home / "w"
        for change in (
            lambda: (folder / "below/a").write_text("1"),
            lambda: (folder / "below/a").rename(folder / "b"),
            lambda: (folder / "b").unlink(),
        ):
            seen = len(events)
            change()
            await asyncio.to_thread(wait_for, lambda seen=seen: len(events) > seen, 5)
            await asyncio.sleep(0.05)
        await watch.stop()
        found = [(event.type.value, event.name) for event in events]
        assert found[0] == ("create", "below/a")
        assert {("write", "below/a"), ("rename", "below/a"), ("create", "b"), ("remove", "b")} <= set(found)

    with_sandbox(e2b_server, act)


# --- templates


def test_a_template_is_built_for_real(e2b_server: E2BServer, tmp_path: Path) -> None:
    """Files, variables and what its commands made are in its sandboxes; sizes are granted; tags lead to it."""
    context = tmp_path / "context"
    context.mkdir()
    (context / "settings.txt").write_text("from here")
    recipe = (
        e2b.AsyncTemplate(file_context_path=context)
        .from_python_image("3.11")
        .copy("settings.txt", "conf/")
        .set_envs({"MODE": "built"})
        .set_workdir("work")
        .run_cmd("echo $MODE $(cat ~/conf/settings.txt) > made; python3 -m pip --version")
    )
    lines: list[str] = []

    async def act() -> None:
        options = opts(e2b_server)
        assert not await e2b.AsyncTemplate.exists("mine", **options)
        info = await e2b.AsyncTemplate.build(
            recipe,
            "mine:v1",
            cpu_count=4,
            memory_mb=2048,
            on_build_logs=lambda entry: lines.append(entry.message),
            **options,
        )
        uploads = e2b_server.seen.count("template.upload")
        await e2b.AsyncTemplate.build(recipe, "mine", **options)
        assert e2b_server.seen.count("template.upload") == uploads == 1, "files that are there are not sent again"
        sandbox = await create(e2b_server, "mine:v1")
        detail = await sandbox.get_info()
        assert (detail.template_id, detail.cpu_count, detail.memory_mb) == (info.template_id, 4, 2048)
        done = await sandbox.commands.run("pwd; cat made; cat ~/conf/settings.txt; echo $MODE")
        assert done.stdout.split("\n")[0] == str(e2b_server.sandbox.home / "work")
        assert done.stdout.split("\n")[1:] == ["built from here", "from herebuilt", ""]
        await e2b.AsyncTemplate.assign_tags("mine:v1", ["stable"], **options)
        tags = await e2b.AsyncTemplate.get_tags("mine", **options)
        assert {tag.tag for tag in tags} == {"default", "v1", "stable"}
        await create(e2b_server, "mine:stable")
        await e2b.AsyncTemplate.remove_tags("mine", ["stable"], **options)
        with pytest.raises(e2b.SandboxException, match="404"):
            await create(e2b_server, "mine:stable")

    asyncio.run(act())
    assert any(line.startswith("pip ") for line in lines), lines


def test_a_build_that_fails_says_where(e2b_server: E2BServer) -> None:
    """The step's output is in the log, and nothing can be created from it, although its name is taken."""
    recipe = e2b.AsyncTemplate().from_base_image().run_cmd("echo first").run_cmd("echo it broke; exit 3")
    lines: list[str] = []

    async def act() -> None:
        options = opts(e2b_server)
        with pytest.raises(e2b.BuildException, match="exit status 3"):
            await e2b.AsyncTemplate.build(recipe, "bad", on_build_logs=lambda e: lines.append(e.message), **options)
        assert await e2b.AsyncTemplate.exists("bad", **options)
        with pytest.raises(e2b.SandboxException, match="404"):
            await create(e2b_server, "bad")
        with pytest.raises(e2b.BuildException, match="Memory must be"):
            await e2b.AsyncTemplate.build(recipe, "big", memory_mb=1 << 20, **options)

    asyncio.run(act())
    assert "it broke" in lines


def test_a_bare_template_lacks_the_packages(e2b_server: E2BServer) -> None:
    """`base` cannot run a worker, `osiris-ready` can, and neither sees our own code."""

    async def act(_: Any) -> list[str]:
        found = []
        for template in ("base", "osiris-ready"):
            sandbox = await create(e2b_server, template)
            script = 'for m in pyarrow pip osiris_core; do python3 -c "import $m" 2>/dev/null && echo $m; done; true'
            found.append((await sandbox.commands.run(script)).stdout.split())
        return found

    assert with_sandbox(e2b_server, act) == [["pip"], ["pyarrow", "pip"]]


# --- what goes wrong, and what was seen


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
