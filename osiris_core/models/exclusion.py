"""One at a time: who works in a workspace, or under the name of a run, does so alone."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from contextlib import contextmanager, suppress
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from osiris_core.errors import SessionBusy
from osiris_core.models.subject import as_workspace, default_workspace, lock_file, session_dir
from osiris_core.session import SessionLayout, is_owned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

T = TypeVar("T")


@dataclass
class _Lock:
    """A descriptor that holds a lock; -1 when it was let go, also for who has it from before."""

    fd: int


_held: ContextVar[Mapping[Path, _Lock]] = ContextVar("held", default=MappingProxyType({}))
"""The locks of whoever calls: a pipeline has them for its stages."""


@contextmanager
def alone_in_workspace(model_run: Any, workspace: str | os.PathLike[str] | None = None) -> Iterator[int]:
    """
    While the block runs, nobody else generates, runs or processes under the name of this model run or in its workspace.

    The lock of the session alone would come too late: inputs are generated before there is one. Inside the block, the
    thread that has it may take it again. The file that is given is for `homecoming.under_way`.

    Raises:
        SessionBusy: Somebody else is at work in that folder, or on a run of this name; nothing is to be touched.
    """
    path = lock_file(model_run)
    if (fd := _descriptor(path)) is not None:
        with alone_in(workspace or default_workspace(model_run)):
            yield fd
        return
    message = f"a run of '{model_run.run_id}' is under way in {Path(model_run.output_dir).absolute()}"
    with _locked(path, message) as fd:
        if is_owned(SessionLayout(session_dir(model_run))):  # also one that `osiris runs attach` goes on with
            raise SessionBusy(message)
        with alone_in(workspace or default_workspace(model_run)):
            yield fd


@contextmanager
def alone_in(folder: str | os.PathLike[str]) -> Iterator[None]:
    """
    While the block runs, nobody else on this machine is so in that folder, whatever run it is of and by whichever path
    it is called. It need not be there.

    Raises:
        SessionBusy: Somebody is.
    """
    real = os.path.realpath(as_workspace(folder))
    place = _places() / f"{hashlib.sha256(os.fsencode(real)).hexdigest()[:32]}.lock"
    if _descriptor(place) is not None:
        yield
        return
    with _locked(place, f"another run is under way in the workspace {real}"):
        yield


def in_turn(function: Callable[[], T]) -> Callable[[], T]:
    """The same for another thread, or a child: who calls it has the workspace that is had here, as long as it is."""
    context = copy_context()
    return lambda: context.run(function)


def _descriptor(path: Path) -> int | None:
    lock = _held.get().get(path)
    return lock.fd if lock is not None and lock.fd >= 0 else None


def _places() -> Path:
    """A folder of this user's: a lock beside a workspace would be one more file of somebody else's."""
    folder = Path(tempfile.gettempdir(), f"osiris-{os.getuid()}", "workspaces")
    with suppress(FileNotFoundError):  # it is made with its first lock
        if folder.parent.stat().st_uid != os.getuid():
            raise PermissionError(f"{folder.parent} is somebody else's")
    return folder


def _opened(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return os.open(path, flags, 0o600)


@contextmanager
def _locked(path: Path, busy: str) -> Iterator[int]:
    fd = _opened(path)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SessionBusy(busy) from None
        before, lock = _held.get(), _Lock(fd)
        _held.set({**before, path: lock})
        try:
            yield fd
        finally:
            _held.set(before)
            lock.fd = -1
    finally:
        fcntl.flock(fd, fcntl.LOCK_UN)  # for children too, that have it from a fork
        os.close(fd)
