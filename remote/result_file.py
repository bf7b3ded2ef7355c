"""What comes home of a run as one file, made where it ran: a place that is paid for by the request gives it in one."""

from __future__ import annotations

import os
from pathlib import Path

from remote import folders


class ResultFile:
    """The session folder of a run that is over, packed by a child process: the supervisor answers meanwhile."""

    def __init__(self, work_dir: str) -> None:
        self._folder = Path(work_dir, folders.SESSION_FOLDER)
        self._target = Path(work_dir, folders.RESULT_FILE)
        self._pid = -1
        self._over = False

    def begin(self) -> None:
        """Start to pack. When it cannot be done (a full disk) there is no file in the end."""
        self._pid = os.fork()
        if self._pid == 0:
            code = 1
            try:
                pack_result(self._folder, self._target)
                code = 0
            finally:
                os._exit(code)

    def is_over(self) -> bool:
        """Whether the file is there, or will never be."""
        if not self._over:
            try:
                self._over = os.waitpid(self._pid, os.WNOHANG)[0] != 0
            except ChildProcessError:  # whoever collects all children was quicker
                self._over = True
        return self._over


def pack_result(folder: Path, target: Path) -> None:
    """`folder` as a tar in `target`, which is there as a whole or not at all."""
    from osiris_core.archive import pack_stream  # not before `hello`

    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            for piece in pack_stream(folder, folders.SESSION_FOLDER):
                file.write(piece)
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)
