"""The far end of the E2B tests keeps files and builds templates as E2B does, shown with the real SDK."""

from __future__ import annotations

import asyncio
import os
from io import BytesIO
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.e2b_sdk import create, opts, rpc_headers, with_sandbox
from tests.worker_process import wait_for

e2b = pytest.importorskip("e2b", reason="the extra [e2b] is not installed")

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2b_server import E2BServer


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
