"""Files into a sandbox and out of it: one request each way, in pieces, whatever their size."""

from __future__ import annotations

import asyncio
import queue
from shlex import quote
from typing import TYPE_CHECKING, Any, BinaryIO

import e2b

from adapters.e2b_cloud.errors import AnswerLost, E2BUnreachable, NothingThere
from adapters.e2b_cloud.line import LAST_WAIT_S
from adapters.e2b_cloud.loop import POLL_S
from adapters.e2b_cloud.patience import PATIENCE_S, Tries
from adapters.e2b_cloud.worker import shell_path
from osiris_core.errors import FailureClass
from remote import folders
from remote.sandbox import SandboxError, Unreachable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path, PurePosixPath

    from adapters.e2b_cloud.line import Line

PIECE_BYTES = 1 << 20
PIECES_AHEAD = 8
"""How many pieces are fetched before they are taken: what a transfer holds in memory at most."""
UPLOADS = 4
PACK_LIMIT_S = 600.0
PACK_GRACE_S = 30.0
"""And of a run that was cancelled."""
NO_SUCH_FOLDER = 44
SMALLEST_TAR = bytes(1024)
"""A tar with nothing in it."""


class Transfers:
    """
    Args:
        line: The way to the sandbox.
        sandbox: The SDK's object.
        work_dir: The run's folder in it.
        user: Whose files they are.
        idle_s: How long a transfer may be silent.
    """

    def __init__(self, line: Line, sandbox: Any, work_dir: PurePosixPath, user: str | None, idle_s: float) -> None:
        self._line = line
        self._sandbox = sandbox
        self._work_dir = work_dir
        self._user = user
        self._idle_s = idle_s

    def upload(self, archive: Path, name: str) -> None:
        """
        `archive` is `name` in the run's folder on return. Tried again when the connection breaks, or nothing of it was
        taken for `idle_s`: all of it is sent anew.

        Raises:
            SandboxError: It cannot be sent.
        """
        target, what = str(self._work_dir / name), "the package cannot be sent to the sandbox"
        for left in reversed(range(UPLOADS)):
            try:
                with archive.open("rb") as file:
                    self._line.ask("upload", what, self._written(file, target))
                return
            except E2BUnreachable:
                if not left:
                    raise
                self._line.loop.run(asyncio.sleep(0.5), self._line.check)

    async def _written(self, file: BinaryIO, target: str) -> None:
        """One request; the SDK waits for it for ever."""
        writing = asyncio.ensure_future(self._sandbox.files.write(target, _pieces(file), user=self._user))
        try:
            position = -1
            while file.tell() > position:
                position = file.tell()
                done, _ = await asyncio.wait([writing], timeout=self._idle_s)
                if done:
                    await writing
                    return
        finally:
            writing.cancel()
        raise AnswerLost(f"nothing was taken for {self._idle_s:g} s")

    def fetched(self, folder: str) -> Iterator[bytes]:
        """
        `folder` of the run's folder as a tar, in pieces: what the worker packed, or what is packed now.

        A connection that breaks, or is silent, is made again until nothing came for PATIENCE_S, and what came already
        is passed over: the file does not change. After a cancel it is made once.

        Raises:
            SandboxError: It cannot be fetched.
        """
        path = str(self._work_dir / folders.RESULT_FILE)
        given = 0
        packed = False
        # One that is silent for as long as it may be is tried again all the same.
        tries = Tries(max(PATIENCE_S, 2 * self._idle_s), self._line.heed("the results cannot be fetched"))
        while True:
            try:
                for piece in self._downloaded(path, skip=given):
                    given += len(piece)
                    tries.renew()
                    yield piece
                return
            except NothingThere:
                if packed:
                    raise
                if not self._packed(folder):
                    yield SMALLEST_TAR
                    return
                packed = True
            except Unreachable:
                if self._line.is_late or not tries.pause():
                    raise

    def _packed(self, folder: str) -> bool:
        """Have the folder packed by a command; False when it is not there."""
        place, name, target = shell_path(self._work_dir), quote(folder), quote(folders.RESULT_FILE)
        # Under a name of its own first: one that was given up may still be at it.
        command = (
            f"cd {place} 2>/dev/null && [ -d {name} ] || exit {NO_SUCH_FOLDER}; "
            f"mkdir -p {quote(folders.WORKER_FOLDER)} && "
            f"tar --exclude={name}/work -cf {target}.$$ {name} && mv {target}.$$ {target}"
        )

        async def run() -> int:
            try:
                opening_s = LAST_WAIT_S if self._line.is_late else self._idle_s
                await self._sandbox.commands.run(
                    command, user=self._user, timeout=PACK_LIMIT_S, request_timeout=opening_s
                )
            except e2b.CommandExitException as exc:
                if exc.exit_code == NO_SUCH_FOLDER:
                    return NO_SUCH_FOLDER
                last = exc.stderr.strip().rpartition("\n")[2]
                message = f"the results cannot be packed in the sandbox: {last} (is its disk full?)"
                raise SandboxError(message, failure_class=FailureClass.RESOURCE_DENIED) from None
            return 0

        what = "the results cannot be packed in the sandbox"
        return self._line.patiently(lambda: self._line.ask("pack", what, run(), grace_s=PACK_GRACE_S), PATIENCE_S) == 0

    def _downloaded(self, path: str, *, skip: int) -> Iterator[bytes]:
        """The file in pieces of about a megabyte, without its first `skip` bytes."""
        arrived: queue.Queue[bytes | BaseException | None] = queue.Queue()
        room = asyncio.Semaphore(PIECES_AHEAD)
        what = "the results cannot be fetched from the sandbox"

        async def read() -> None:
            try:
                with self._line.errors(what):
                    left = skip
                    pending: list[bytes] = []
                    size = 0
                    reading = self._sandbox.files.read(
                        path, format="stream", user=self._user, stream_idle_timeout=self._idle_s
                    )
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

        self._line.count("download")
        task = self._line.loop.begin(read())
        try:
            while (item := self._next(arrived, what)) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
                self._line.loop.call(room.release)
        finally:
            task.cancel()

    def _next(self, arrived: queue.Queue[bytes | BaseException | None], what: str) -> bytes | BaseException | None:
        heed = self._line.heed(what)
        while True:
            try:
                return arrived.get(timeout=POLL_S)
            except queue.Empty:
                heed()


async def _pieces(file: BinaryIO) -> AsyncIterator[bytes]:
    while piece := file.read(PIECE_BYTES):
        yield piece
