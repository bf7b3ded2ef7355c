"""Artifacts: every file a step leaves in its artifacts directory, with its size and sha256."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from osiris_core.errors import CollectError, PublishError
from osiris_core.records import ArtifactRecord
from osiris_core.sealing import sha256_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


def find_artifacts(folder: Path, step_id: str, left_out: Callable[[str, str], object]) -> Iterator[ArtifactRecord]:
    """
    Every regular file below `folder` (a step's own), at any depth, sorted by path.

    A symbolic link counts as the file it points to if that lies in `folder`; an absolute one becomes relative, so that
    it holds wherever the artifacts are brought. Links out of it or to directories,
    pipes, sockets, devices and what cannot be read are reported to `left_out` with the reason.
    """
    if folder.is_symlink():
        left_out(".", "the artifacts directory was replaced by a link")
        return
    root = folder.resolve()
    for path in sorted(_files(folder, left_out), key=Path.as_posix):
        relative = path.relative_to(folder).as_posix()
        try:
            status, real = path.stat(), path.resolve()
            if not real.is_relative_to(root):
                left_out(relative, "it is a link out of the artifacts directory")
            elif stat.S_ISDIR(status.st_mode):
                left_out(relative, "it is a link to a directory")
            elif not stat.S_ISREG(status.st_mode):
                left_out(relative, "it is not a regular file")
            else:
                if path.is_symlink() and path.readlink().is_absolute():
                    _link_relatively(path, real)
                yield ArtifactRecord(step_id, f"{step_id}/{relative}", status.st_size, sha256_of(path))
        except OSError as exc:
            left_out(relative, f"it cannot be read: {exc.strerror}")


def _link_relatively(link: Path, real: Path) -> None:
    beside = link.with_name(f".{link.name[:200]}.{os.getpid()}")
    beside.symlink_to(os.path.relpath(real, link.parent.resolve()))
    beside.replace(link)


def _files(folder: Path, left_out: Callable[[str, str], object]) -> Iterator[Path]:
    """Everything below `folder` that is no directory, links to directories included."""

    def unreadable(error: OSError) -> None:
        left_out(Path(error.filename).relative_to(folder).as_posix(), f"it cannot be read: {error.strerror}")

    for directory, names, files in os.walk(folder, onerror=unreadable):
        yield from (Path(directory, name) for name in files)
        yield from (path for name in names if (path := Path(directory, name)).is_symlink())


def check_artifacts(artifacts_dir: Path, records: Iterable[ArtifactRecord]) -> None:
    """
    See that every recorded artifact is there in its recorded size.

    Raises:
        CollectError: One is missing or has another size, naming each.
    """
    wrong = []
    for record in records:
        try:
            size_bytes = (artifacts_dir / record.path).stat().st_size
        except OSError as exc:
            wrong.append(f"{record.path}: {exc.strerror}")
            continue
        if size_bytes != record.size_bytes:
            wrong.append(f"{record.path}: {record.size_bytes} bytes when its step ended, {size_bytes} now")
    if wrong:
        raise CollectError("artifacts are not as their steps left them: " + "; ".join(wrong))


def in_the_way(folder: Path) -> str | None:
    """Why nothing can be written into a folder that is there or is to be made, or None. Makes nothing."""
    nearest = next(place for place in (folder, *folder.parents) if os.path.lexists(place))  # a link to nowhere too
    if not os.path.isdir(nearest):  # noqa: PTH112 - which says no where it may not look
        return f"{nearest} is no directory"
    return None if os.access(nearest, os.W_OK | os.X_OK) else f"{nearest} cannot be written to"


def publish(artifacts_dir: Path, paths: Iterable[tuple[str, str]], publish_dir: Path) -> list[Path]:
    """
    Copy outputs out of the artifacts: each (step id, relative path) goes to `publish_dir/relative path`.

    All are copied beside their places first and then moved in, so that a full disk or a missing file
    replaces nothing, and a reader never sees half a file.

    Raises:
        PublishError: A declared output was not written, leads out of its step's artifacts, cannot be copied, or is
            published by two steps; or a directory is in its place. Nothing was replaced.
    """
    staged: list[tuple[Path, Path]] = []
    try:
        for step_id, relative in paths:
            source, target = artifacts_dir / step_id / relative, publish_dir / relative
            if any(target == other for _, other in staged):
                raise PublishError(f"cannot publish to {publish_dir}: two steps write {relative}")
            if not source.resolve(strict=True).is_relative_to((artifacts_dir / step_id).resolve()):
                raise PublishError(f"cannot publish {relative} of step '{step_id}': it leads out of its artifacts")
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.is_dir():
                raise PublishError(f"cannot publish to {publish_dir}: {relative} is a directory there")
            handle, beside = tempfile.mkstemp(prefix=".osiris-", dir=target.parent)
            os.close(handle)
            staged.append((Path(beside), target))
            shutil.copyfile(source, beside)
            shutil.copymode(source, beside)
        for copy, target in staged:
            copy.replace(target)
    except (OSError, RuntimeError) as exc:  # RuntimeError: a link that leads to itself
        raise PublishError(f"cannot publish to {publish_dir}: {exc}", exc) from exc
    finally:
        for copy, _ in staged:
            copy.unlink(missing_ok=True)
    return [target for _, target in staged]
