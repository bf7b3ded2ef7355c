"""Files into a sandbox and out of it: one request each way, in pieces, whatever their size."""

from __future__ import annotations

import asyncio
import queue
from shlex import quote
from typing import TYPE_CHECKING, Any, BinaryIO

import e2b

from adapters.e2b_cloud.errors import AnswerLost, E2BUnreachable, NothingThere, translate
from adapters.e2b_cloud.worker import shell_path
from osiris_core.errors import FailureClass
from remote import folders
from remote.sandbox import SandboxError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path, PurePosixPath

    from adapters.e2b_cloud.loop import PrivateLoop

PIECE_BYTES = 1 << 20
PIECES_AHEAD = 8
"""How many pieces are fetched before they are taken: what a transfer holds in memory at most."""
TRIES = 4
PACK_LIMIT_S = 600.0
NO_SUCH_FOLDER = 44
SMALLEST_TAR = bytes(1024)
"""A tar with nothing in it."""


async def upload(sandbox: Any, archive: Path, target: str, user: str | None, idle_s: float) -> None:
    """
    `archive` is at `target` in the sandbox on return. Tried again when the connection breaks, or nothing of it was
    taken for `idle_s`: all of it is sent anew.

    Raises:
        SandboxError: It cannot be sent.
    """
    for left in reversed(range(TRIES)):
        try:
            with translate("the package cannot be sent to the sandbox"), archive.open("rb") as file:
                await _written(sandbox, file, target, user, idle_s)
            return
        except E2BUnreachable:
            if not left:
                raise
            await asyncio.sleep(0.5)


async def _written(sandbox: Any, file: BinaryIO, target: str, user: str | None, idle_s: float) -> None:
    """One request; the SDK waits for it for ever."""
    writing = asyncio.ensure_future(sandbox.files.write(target, _pieces(file), user=user))
    try:
        position = -1
        while file.tell() > position:
            position = file.tell()
            done, _ = await asyncio.wait([writing], timeout=idle_s)
            if done:
                await writing
                return
    finally:
        writing.cancel()
    raise AnswerLost(f"nothing was taken for {idle_s:g} s")


async def _pieces(file: BinaryIO) -> AsyncIterator[bytes]:
    while piece := file.read(PIECE_BYTES):
        yield piece


def fetched(
    loop: PrivateLoop,
    sandbox: Any,
    work_dir: PurePosixPath,
    folder: str,
    *,
    user: str | None,
    idle_s: float,
    count: Callable[[str], None],
) -> Iterator[bytes]:
    """
    `work_dir/folder` as a tar, in pieces: what the worker packed, or what is packed now.

    A connection that breaks, or is silent for `idle_s`, is made again, and what came already is passed over: the file
    does not change.

    Raises:
        SandboxError: It cannot be fetched.
    """
    path = work_dir / folders.RESULT_FILE
    given = 0
    packed = False
    tries = TRIES
    while True:
        count("download")
        try:
            for piece in _download(loop, sandbox, str(path), user, idle_s, skip=given):
                given += len(piece)
                tries = TRIES
                yield piece
            return
        except NothingThere:
            if packed:
                raise
            count("pack")
            if not _pack(loop, sandbox, work_dir, folder, user):
                yield SMALLEST_TAR
                return
            packed = True
        except E2BUnreachable:
            tries -= 1
            if not tries:
                raise
            loop.run(asyncio.sleep(0.5 * (TRIES - tries)))


def _pack(loop: PrivateLoop, sandbox: Any, work_dir: PurePosixPath, folder: str, user: str | None) -> bool:
    """Have the folder packed by a command; False when it is not there."""
    target = str(work_dir / folders.RESULT_FILE)
    place = shell_path(work_dir)
    name = quote(folder)
    target = quote(folders.RESULT_FILE)
    command = (
        f"cd {place} 2>/dev/null && [ -d {name} ] || exit {NO_SUCH_FOLDER}; mkdir -p {quote(folders.WORKER_FOLDER)} && "
        f"tar --exclude={name}/work -cf {target}.part {name} && mv {target}.part {target}"
    )

    async def run() -> int:
        try:
            await sandbox.commands.run(command, user=user, timeout=PACK_LIMIT_S)
        except e2b.CommandExitException as exc:
            if exc.exit_code == NO_SUCH_FOLDER:
                return NO_SUCH_FOLDER
            last = exc.stderr.strip().rpartition("\n")[2]
            message = f"the results cannot be packed in the sandbox: {last} (is its disk full?)"
            raise SandboxError(message, failure_class=FailureClass.RESOURCE_DENIED) from None
        return 0

    with translate("the results cannot be packed in the sandbox"):
        return loop.run(run()) == 0


def _download(
    loop: PrivateLoop, sandbox: Any, path: str, user: str | None, idle_s: float, *, skip: int
) -> Iterator[bytes]:
    """The file in pieces of about a megabyte, without its first `skip` bytes."""
    arrived: queue.Queue[bytes | BaseException | None] = queue.Queue()
    room = asyncio.Semaphore(PIECES_AHEAD)

    async def read() -> None:
        try:
            with translate("the results cannot be fetched from the sandbox"):
                left = skip
                pending: list[bytes] = []
                size = 0
                reading = sandbox.files.read(path, format="stream", user=user, stream_idle_timeout=idle_s)
                async with await reading as stream:
                    async for chunk in stream:
                        data = bytes(chunk[left:])
                        left -= len(chunk) - len(data)
                        pending.append(data)
                        size += len(data)
                        if size >= PIECE_BYTES:
                            await room.acquire()
                            arrived.put(b"".join(pending))
                            pending, size = [], 0
                if left:
                    raise AnswerLost("the results became shorter")
                if size:
                    arrived.put(b"".join(pending))
            arrived.put(None)
        except BaseException as exc:
            arrived.put(exc)
            raise

    task = loop.begin(read())
    try:
        while (item := arrived.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
            loop.call(room.release)
    finally:
        task.cancel()
