"""E2B's REST plane for templates: request a build, upload its files, start it, follow it, tag it."""

from __future__ import annotations

import asyncio
import re
import secrets
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from tests.e2b_server.control_plane import Refused
from tests.e2b_server.sandbox import timestamp
from tests.e2b_server.template_build import Build

if TYPE_CHECKING:
    from tests.e2b_server.exchange import Exchange
    from tests.e2b_server.templates import Template, Templates

LOG_PAGE = 100
HASH = re.compile(r"[0-9a-f]{8,128}")


class TemplatePlane:
    """
    A name is taken as soon as a build is requested, before there is anything to use.

    Attributes:
        builds: All that were ever requested, by id.
    """

    def __init__(self, templates: Templates) -> None:
        self._templates = templates
        self._archives = templates.folder / "archives"
        self._archives.mkdir()
        self._ids = {template.name: template.template_id for template in templates.ready}
        self._uploads: dict[str, str] = {}
        self.builds: dict[str, Build] = {}

    async def upload(self, exchange: Exchange) -> None:
        """An archive of files, to an address that was given out for it; needs no key."""
        name = self._uploads.get(exchange.seen.path.rpartition("/")[2])
        if name is None:
            await exchange.refuse(403, "this address was not given out")
            return
        partial = self._archives / f"{name}.partial"
        with partial.open("wb") as file:
            async for piece in exchange.body_pieces():
                file.write(piece)
        partial.rename(self._archives / name)
        await exchange.answer(200)

    async def serve(self, exchange: Exchange) -> bool:
        """
        Whether the request was one of its own, and is answered.

        Raises:
            Refused: What the client is to be told.
        """
        line = f"{exchange.seen.method} {exchange.seen.path}"
        if line == "POST /v3/templates":
            await self._request(exchange)
        elif line in ("POST /templates/tags", "DELETE /templates/tags"):
            await self._tag(exchange)
        elif found := re.fullmatch(r"GET /templates/aliases/([^/]+)", line):
            await self._exists(unquote(found[1]), exchange)
        elif found := re.fullmatch(r"GET /templates/([^/]+)/files/([^/]+)", line):
            await self._file(found[2], exchange)
        elif found := re.fullmatch(r"POST /v2/templates/([^/]+)/builds/([^/]+)", line):
            await self._start(self._build(found[2]), exchange)
        elif found := re.fullmatch(r"GET /templates/([^/]+)/builds/([^/]+)/status", line):
            await _status(self._build(found[2]), exchange)
        elif found := re.fullmatch(r"GET /templates/([^/]+)/tags", line):
            await self._tags(unquote(found[1]), exchange)
        elif found := re.fullmatch(r"DELETE /templates/([^/]+)", line):
            await self._delete(unquote(found[1]), exchange)
        else:
            return False
        return True

    async def _request(self, exchange: Exchange) -> None:
        body = await exchange.body_json()
        name, _, tag = body.get("name", "").partition(":")
        if not re.fullmatch(r"[a-z0-9_-]+", name):
            raise Refused(400, f"invalid template name: '{name}'")
        cpu_count, memory_mb = body.get("cpuCount", 2), body.get("memoryMB", 1024)
        if not 1 <= cpu_count <= 8:
            raise Refused(400, f"CPU count must be between 1 and 8, got {cpu_count}")
        if not 128 <= memory_mb <= 8192 or memory_mb % 2:
            raise Refused(400, f"Memory must be an even number of MiB between 128 and 8192, got {memory_mb}")
        tags = sorted({*body.get("tags", []), *([tag] if tag else [])}) or ["default"]
        template_id = self._ids.setdefault(name, secrets.token_hex(10))
        self._templates.taken.add(name)
        build = Build(template_id, name, tags, cpu_count, memory_mb, self._templates.folder, self._archives)
        self.builds[build.build_id] = build
        answer = {"templateID": template_id, "buildID": build.build_id, "public": False}
        await exchange.answer_json(202, {**answer, "names": [name], "aliases": [name], "tags": tags})

    async def _exists(self, name: str, exchange: Exchange) -> None:
        # E2B parsed the tag and threw it away for a long time: whoever relies on it must find that here.
        template_id = self._ids.get(name.partition(":")[0])
        if template_id is None:
            raise Refused(404, f"template '{name}' not found")
        await exchange.answer_json(200, {"templateID": template_id, "public": False})

    async def _file(self, name: str, exchange: Exchange) -> None:
        if not HASH.fullmatch(name):
            raise Refused(400, f"'{name}' is not a hash")
        token = secrets.token_hex(16)
        self._uploads[token] = name
        host = exchange.headers["host"]
        present = (self._archives / name).exists()
        await exchange.answer_json(201, {"present": present, "url": f"http://{host}/build-files/{token}"})

    async def _start(self, build: Build, exchange: Exchange) -> None:
        recipe = await exchange.body_json()
        if build.status != "waiting":
            raise Refused(400, "build is not in waiting state")
        self._running = asyncio.create_task(asyncio.to_thread(build.run, recipe, self._templates))
        await exchange.answer(202)

    def _build(self, build_id: str) -> Build:
        if build_id not in self.builds:
            raise Refused(404, f"build '{build_id}' not found")
        return self.builds[build_id]

    async def _tag(self, exchange: Exchange) -> None:
        body = await exchange.body_json()
        target = body.get("target", body.get("name", ""))
        if exchange.seen.method == "POST":
            template = self._found(target)
            self._retag(template, set(body["tags"]))
            await exchange.answer_json(201, {"tags": body["tags"], "buildID": template.build_id})
        else:
            for template in self._all(target):
                template.tags -= set(body["tags"])
            await exchange.answer(204)

    def _retag(self, template: Template, tags: set[str]) -> None:
        for other in self._all(template.name):
            other.tags -= tags
        template.tags |= tags

    async def _tags(self, name: str, exchange: Exchange) -> None:
        plain = name.partition(":")[0]
        if plain not in {*self._ids, *self._ids.values()}:
            raise Refused(404, f"template '{plain}' not found")
        found = [
            {"tag": tag, "buildID": template.build_id, "createdAt": timestamp(template.made_at)}
            for template in self._all(name)
            for tag in sorted(template.tags)
        ]
        await exchange.answer_json(200, found)

    async def _delete(self, name: str, exchange: Exchange) -> None:
        for template in self._all(self._found(name, any_tag=True).name):
            self._templates.ready.remove(template)
            self._ids.pop(template.name, None)
        await exchange.answer(204)

    def _all(self, name: str) -> list[Template]:
        plain = name.partition(":")[0]
        return [template for template in self._templates.ready if plain in (template.name, template.template_id)]

    def _found(self, name: str, *, any_tag: bool = False) -> Template:
        template = next(iter(self._all(name)), None) if any_tag else self._templates.find(name)
        if template is None:
            raise Refused(404, f"template '{name}' not found")
        return template


async def _status(build: Build, exchange: Exchange) -> None:
    offset = int(exchange.query.get("logsOffset", 0))
    reason: dict[str, Any] = {"reason": build.reason} if build.reason else {}
    # The status first: what it is true for has been logged by then.
    answer = {"templateID": build.template_id, "buildID": build.build_id, "status": build.status, "logs": [], **reason}
    await exchange.answer_json(200, {**answer, "logEntries": build.log[offset : offset + LOG_PAGE]})
