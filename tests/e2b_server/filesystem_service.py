"""envd's filesystem service: look, list, make, move, remove, watch."""

from __future__ import annotations

import asyncio
import grp
import os
import pwd
import shutil
import stat
from typing import TYPE_CHECKING

from tests.e2b_server.connect_protocol import (
    Message,
    RpcError,
    answer_stream,
    answer_unary,
    keepalive_s,
    stream_requests,
    unary_request,
)
from tests.e2b_server.folder_watch import FolderWatch
from tests.e2b_server.sandbox import OutsideSandbox, timestamp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.e2b_server.exchange import Exchange
    from tests.e2b_server.sandbox import Sandbox

LOOK_S = 0.02


async def serve(method: str, exchange: Exchange, sandbox: Sandbox) -> None:
    """
    Raises:
        RpcError: What the client is to be told.
    """
    try:
        if method == "WatchDir":
            messages = [message async for message in stream_requests(exchange)]
            await answer_stream(exchange, _watch(messages[0], exchange, sandbox))
        else:
            message = await unary_request(exchange)
            await answer_unary(exchange, _act(method, message, sandbox))
    except OutsideSandbox as exc:
        raise RpcError("permission_denied", str(exc)) from exc
    except FileNotFoundError as exc:
        raise RpcError("not_found", f"file not found: {exc.filename}") from exc
    except OSError as exc:
        raise RpcError("internal", f"error at '{exc.filename}': {exc.strerror}") from exc


def _act(method: str, message: Message, sandbox: Sandbox) -> Message:
    path = sandbox.path(message.get("path") or message.get("source") or "")
    if method == "Stat":
        return {"entry": _entry(path, sandbox)}
    if method == "ListDir":
        if not path.is_dir():
            raise RpcError("not_found" if not path.exists() else "invalid_argument", f"path is not a directory: {path}")
        return {"entries": [_entry(found, sandbox) for found in _below(path, message.get("depth") or 1)]}
    if method == "MakeDir":
        if path.is_dir():
            raise RpcError("already_exists", f"directory already exists: {path}")
        if path.exists():
            raise RpcError("invalid_argument", f"path already exists but it is not a directory: {path}")
        path.mkdir(parents=True)
        return {"entry": _entry(path, sandbox)}
    if method == "Move":
        target = sandbox.path(message.get("destination", ""))
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
        return {"entry": _entry(target, sandbox)}
    if method == "Remove":
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        return {}
    raise RpcError("unimplemented", f"filesystem.Filesystem/{method} is not done by this test server")


async def _watch(message: Message, exchange: Exchange, sandbox: Sandbox) -> AsyncIterator[Message]:
    path = sandbox.path(message.get("path", ""))
    if not path.is_dir():
        raise RpcError("not_found", f"path {path} not found")
    watch = FolderWatch(path, recursive=message.get("recursive", False))
    yield {"start": {}}
    silent_s = 0.0
    while not exchange.gone.is_set():
        await asyncio.sleep(LOOK_S)
        silent_s += LOOK_S
        for kind, name in watch.changes():
            silent_s = 0.0
            event: Message = {"name": name, "type": kind}
            if message.get("includeEntry") and (path / name).exists():
                event["entry"] = _entry(path / name, sandbox)
            yield {"filesystem": event}
        if silent_s >= keepalive_s(exchange):
            silent_s = 0.0
            yield {"keepalive": {}}


def _below(folder: Path, depth: int) -> list[Path]:
    found = []
    for path in sorted(folder.iterdir()):
        found.append(path)
        if depth > 1 and path.is_dir() and not path.is_symlink():
            found += _below(path, depth - 1)
    return found


def _entry(path: Path, sandbox: Sandbox) -> Message:
    status = os.lstat(path)
    is_link = stat.S_ISLNK(status.st_mode)
    pointed = os.stat(path) if path.exists() else status
    kinds = {stat.S_IFDIR: "FILE_TYPE_DIRECTORY", stat.S_IFREG: "FILE_TYPE_FILE"}
    entry: Message = {
        "name": path.name,
        "type": kinds.get(stat.S_IFMT(pointed.st_mode), "FILE_TYPE_UNSPECIFIED"),
        "path": str(path),
        "size": str(status.st_size),
        "mode": stat.S_IMODE(status.st_mode),
        "permissions": stat.filemode(status.st_mode),
        "owner": _name(pwd.getpwuid, status.st_uid),
        "group": _name(grp.getgrgid, status.st_gid),
        "modifiedTime": timestamp(status.st_mtime),
        "metadata": sandbox.file_metadata.get(path, {}),
    }
    return {**entry, "isSymlink": True, "symlinkTarget": os.path.realpath(path)} if is_link else entry


def _name(find: object, number: int) -> str:
    try:
        return str(find(number)[0])  # type: ignore[operator]
    except KeyError:
        return str(number)
