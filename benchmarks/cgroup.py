"""A memory cgroup around one process, version 1 or 2; needs root."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path("/sys/fs/cgroup")


class MemoryGroup:
    """Whatever runs in it may use `limit_bytes` together, page cache included; the kernel kills what needs more."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder = folder
        folder.mkdir()
        for name in ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.max"):
            if (folder / name).exists():
                (folder / name).write_text(str(limit_bytes))

    def inside(self, argv: list[str | Path]) -> list[str | Path]:
        """The command line that moves itself into the group and then becomes `argv`."""
        return ["/bin/sh", "-c", f'echo $$ > "{self.folder}/cgroup.procs" && exec "$@"', "sh", *argv]

    def close(self) -> None:
        self.folder.rmdir()


@contextmanager
def memory_group(limit_bytes: int) -> Iterator[MemoryGroup | None]:
    """A new group, removed afterwards; None where this user or this kernel cannot make one."""
    parent = _ROOT / "memory" if (_ROOT / "memory").is_dir() else _ROOT
    if os.geteuid() != 0 or not any((parent / name).exists() for name in ("memory.limit_in_bytes", "cgroup.procs")):
        yield None
        return
    try:
        group = MemoryGroup(parent / f"osiris-benchmark-{uuid4().hex[:8]}", limit_bytes)
    except OSError:
        yield None
        return
    try:
        yield group
    finally:
        group.close()
