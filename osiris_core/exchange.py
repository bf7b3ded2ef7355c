"""Puts a new file in the place of an old one, as a whole, without waiting for the disk."""

from __future__ import annotations

import errno
import os
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_NOT_HERE = (errno.ENOSYS, errno.EINVAL, errno.EPERM, errno.EOPNOTSUPP, errno.ENOENT)


def put_in_place(new: str, path: str) -> None:
    """
    `path` is what `new` was, and `new` is gone, on return; a reader sees the old file or the new one.

    A rename onto a file that is there makes ext4 write the new one to the disk at once: milliseconds, where a run of
    nothing takes one. Two files that change places are only names; what was in `path` is then removed.

    Raises:
        OSError: It cannot be; `new` is still there.
    """
    if os.path.exists(path):  # noqa: PTH110 - three times a run
        code = _exchange()(os.fsencode(new), os.fsencode(path))
        if code == 0:
            os.unlink(new)  # noqa: PTH108
            return
        if code not in _NOT_HERE:
            raise OSError(code, os.strerror(code), path)
    os.replace(new, path)  # noqa: PTH105


@cache
def _exchange() -> Callable[[bytes, bytes], int]:
    """Lets two names change places, and gives the number of the error, or 0."""
    import ctypes  # late: a first run has little to replace

    try:
        renameat2: Any = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):  # an older C library
        return lambda *_: errno.ENOSYS

    def exchange(new: bytes, path: bytes) -> int:
        return 0 if renameat2(_AT_FDCWD, new, _AT_FDCWD, path, _RENAME_EXCHANGE) == 0 else ctypes.get_errno()

    return exchange
